"""How unlike a photo is to those that a model has learned from; and from where on it says "I don't know". No torch here.

The score is the mean cosine distance to the nearest training photos in the features that the head reads: k-NN as in Sun, Ming, Zhu and
Li (2022), Out-of-Distribution Detection with Deep Nearest Neighbors, ICML (arXiv:2204.06507), in the features of this model.
The limit comes from photos that were held out, by the rank that split conformal prediction takes: see ``conformal.score_limit``.
"""

from __future__ import annotations

import math

import numpy as np

from greffon.errors import OptionError

__all__ = ["NEIGHBOURS", "directions", "left_out_novelty", "nearest_directions", "nearest_rows", "novelty_limit", "novelty_scores"]

#: So many nearest training photos. A model keeps the number that its scores were made with.
NEIGHBOURS = 5


def nearest_rows(features: np.ndarray, reference: np.ndarray, k: int, *, block: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of ``reference`` that are most like each row, the nearest first; of equally near ones, the first in order.

    Parameters
    ----------
    features, reference
        Float (m, d) and (n, d).
    k
        At least 1; at most n are found.
    block
        So many rows at once: memory grows with ``block`` times n.

    Returns
    -------
    int64 (m, k), positions, and float64 (m, k), cosine distances from 0 to 2. What has no length is 1 from everything.
    """
    return nearest_directions(features, directions(reference), k, block=block)


def nearest_directions(features: np.ndarray, own: np.ndarray, k: int, *, block: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """``nearest_rows`` where many ask the same reference: ``own`` are its ``directions``, float64 (n, d)."""
    k = min(k, len(own))
    found, distances = np.zeros((len(features), k), np.int64), np.zeros((len(features), k))
    for start in range(0, len(features), block):
        apart = np.clip(1 - directions(features[start : start + block]) @ own.T, 0, 2)
        # Everything up to the k-th distance, so that of equal ones the first is taken, whatever a partition puts first.
        limit = np.partition(apart, k - 1, axis=1)[:, k - 1]
        for row, (line, most) in enumerate(zip(apart, limit, strict=True), start):
            near = np.flatnonzero(line <= most)
            near = near[np.argsort(line[near], kind="stable")[:k]]
            found[row], distances[row] = near, line[near]
    return found, distances


def directions(features: np.ndarray) -> np.ndarray:
    """Rows of length one, float64 (n, d); a row without length stays 0."""
    x = features.astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)


def novelty_scores(features: np.ndarray, reference: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """The mean cosine distance to the k nearest rows of ``reference``, float64 (m,): the higher, the newer.

    Parameters
    ----------
    features, reference
        As the head sees them, float32 (m, d) and (n, d), n at least 1.
    """
    return nearest_rows(features, reference, k)[1].mean(1)


def left_out_novelty(
    features: np.ndarray, groups: np.ndarray, reference: np.ndarray, reference_groups: np.ndarray, k: int = NEIGHBOURS
) -> np.ndarray:
    """The same of photos that may be in ``reference`` themselves: each as if it and its near-duplicates were not. Sorted, float64 (m,).

    Parameters
    ----------
    groups, reference_groups
        int64 (m,) and (n,): photos with the same number are near-duplicates, or the same. A photo that nothing else is left for is
        not in the result.
    """
    _, counts = np.unique(reference_groups, return_counts=True)
    most = int(counts.max(initial=0))
    near, distances = nearest_rows(features, reference, k + most)
    # The first k that are others: a running count of them along each row.
    other = reference_groups[near] != groups[:, None]
    taken = other & (other.cumsum(1) <= k)
    some = taken.any(1)
    sums = np.where(taken, distances, 0).sum(1)[some]
    return np.sort(sums / taken.sum(1)[some])


def novelty_limit(scores: np.ndarray, kept: float) -> float:
    """The score up to which a photo counts as known: the ceil((n + 1) kept)-th smallest; infinite where n is too small.

    With it a new photo of the same kind counts as known with a probability of at least ``kept``, and of at most ``kept + 1 / (n + 1)``
    where no two scores are equal.

    Parameters
    ----------
    scores
        Of photos of the known kind that were held out, sorted, float64 (n,).
    kept
        Above 0 and below 1: the share of known photos that shall be answered.

    Raises
    ------
    OptionError
        A share that cannot be.
    """
    if not 0 < kept < 1:
        raise OptionError(f"the share of known photos that are answered must be above 0 and below 1, got {kept}", hint="For instance 0.95.")
    rank = math.ceil((len(scores) + 1) * kept - 1e-9)  # a rounding must not make it one more
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf
