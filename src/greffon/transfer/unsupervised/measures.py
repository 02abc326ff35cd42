"""What can be said of features without labels: how their spectrum falls, in how many dimensions they lie, how steady neighbours are.

Features are arrays (n, d), one row an image. Nothing here sees a label.
"""

from __future__ import annotations

import numpy as np

__all__ = ["alpha_req", "found_again", "nearest", "neighbour_agreement", "neighbour_shares", "rank_me"]


def rank_me(features: np.ndarray, epsilon: float = 1e-7) -> float:
    """The effective rank: the exponential of the entropy of the singular values' shares; from 1 to min(n, d).

    Garrido et al. 2023 (RankMe), arXiv:2210.02885, equation 1: shares are ``σ_k / Σ σ + ε``. Features that are all zero have the
    rank 1.

    Parameters
    ----------
    features
        (n, d), any real dtype.
    epsilon
        ε of the paper, for shares of zero.
    """
    values = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    total = values.sum()
    if not total > 0:
        return 1.0
    shares = values / total + epsilon
    return float(np.exp(-(shares * np.log(shares)).sum()))


def alpha_req(features: np.ndarray, first: int = 3, last: int = 100) -> float:
    """The exponent α with which the eigenvalues of the covariance fall, ``λ_k ~ k^-α``; the nearer to 1 the better, the authors say.

    Agrawal et al. 2022 (α-ReQ), section 3: the slope of a straight line through ``log λ_k`` against ``log k``. The line is a
    least-squares fit with weights 1 / k, as in Stringer et al. 2019, from whom the measure comes: without them the many late
    eigenvalues decide alone.

    Parameters
    ----------
    features
        (n, d), any real dtype.
    first, last
        The eigenvalues that the line goes through, counted from 1 and both included; fewer where the covariance has fewer that
        are not zero. NaN where there are less than 3 of them.
    """
    x = features.astype(np.float64)
    values = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2 / max(1, len(x) - 1)
    alive = int((values > 1e-10 * max(float(values[0]), 1e-300)).sum()) if len(values) else 0
    k = np.arange(first, min(last, alive) + 1)
    if len(k) < 3:
        return float("nan")
    # polyfit takes the root of a weight.
    slope, _ = np.polyfit(np.log(k), np.log(values[k - 1]), 1, w=np.sqrt(1 / k))
    return float(-slope)


def nearest(queries: np.ndarray, gallery: np.ndarray, k: int, *, without_self: bool, block: int = 2048) -> np.ndarray:
    """The k rows of the gallery that are nearest to each query by the cosine, the nearest first: int64 (n, k).

    Parameters
    ----------
    queries, gallery
        (n, d) and (m, d).
    without_self
        Whether row i of the gallery is not looked at for query i. k is at most m, or then m - 1.
    block
        So many queries at once: memory.
    """
    mine, theirs = _unit(queries), _unit(gallery)
    found = []
    for start in range(0, len(mine), block):
        likeness = mine[start : start + block] @ theirs.T
        if without_self:
            rows = np.arange(len(likeness))
            likeness[rows, start + rows] = -np.inf
        found.append(np.argsort(-likeness, axis=1, kind="stable")[:, :k])
    return np.concatenate(found) if found else np.zeros((0, k), np.int64)


def neighbour_shares(first: np.ndarray, second: np.ndarray, k: int = 10) -> np.ndarray:
    """Of each image the share of its neighbours that it has in both of two sets of features: float64 (n,), from 0 to 1.

    |N_first(i) ∩ N_second(i)| / k, each among the others of its own set.

    Parameters
    ----------
    first, second
        (n, d) and (n, e), row i of both of one image: two views, two epochs, two networks.
    k
        Neighbours of each image; n - 1 where that is less. All ones where an image has no other.
    """
    k = min(k, len(first) - 1)
    if k < 1:
        return np.ones(len(first))
    mine, theirs = (nearest(x, x, k, without_self=True) for x in (first, second))
    return (mine[:, :, None] == theirs[:, None, :]).any(2).mean(1)


def neighbour_agreement(first: np.ndarray, second: np.ndarray, k: int = 10) -> float:
    """The mean of ``neighbour_shares``."""
    return float(neighbour_shares(first, second, k).mean())


def found_again(plain: np.ndarray, other: np.ndarray) -> float:
    """The share of images whose own plain view is the nearest of all plain views to another view of it; from 0 to 1.

    Parameters
    ----------
    plain, other
        (n, d) each, row i of both of one image.
    """
    if not len(plain):
        return 1.0
    return float((nearest(other, plain, 1, without_self=False)[:, 0] == np.arange(len(plain))).mean())


def _unit(x: np.ndarray) -> np.ndarray:
    # In float64: the squares of what a training that goes wrong gives are no float32.
    x = x.astype(np.float64)
    return (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)).astype(np.float32)
