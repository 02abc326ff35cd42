"""Label spreading: what few labelled images say of all the others, along a graph of neighbours. No torch here."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from greffon.errors import OptionError

__all__ = ["class_mass_normalised", "influence", "neighbour_graph", "spread"]


def neighbour_graph(features: np.ndarray, neighbours: int, *, block: int = 0) -> sparse.csr_array:
    """Each image is tied to its nearest by cosine: the normalised affinity S of Zhou et al. (2004).

    W is (A + Aᵀ) / 2, where A holds the cosine to each of an image's k nearest others, or 0 where that is negative; and
    S = D^-1/2 W D^-1/2 with the row sums of W in D. An image that is like no other has an empty row.

    Parameters
    ----------
    features
        float32 (n, d).
    neighbours
        k; of fewer than k + 1 images, all others are neighbours.
    block
        So many images are compared with all others at once; 0: as many as take 128 MiB.

    Returns
    -------
    float64 (n, n), symmetric, with an empty diagonal.

    Raises
    ------
    OptionError
        ``neighbours`` is below 1.
    """
    if neighbours < 1:
        raise OptionError(f"neighbours must be at least 1, got {neighbours}")
    n = len(features)
    k = min(neighbours, n - 1)
    if k < 1:
        return sparse.csr_array((n, n))
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    near, likeness = np.empty((n, k), np.int64), np.empty((n, k))
    step = block or max(1, 2**25 // n)
    for start in range(0, n, step):
        part = unit[start : start + step] @ unit.T
        part[np.arange(len(part)), start + np.arange(len(part))] = -np.inf
        best = np.argpartition(-part, k - 1, axis=1)[:, :k]
        near[start : start + step], likeness[start : start + step] = best, np.take_along_axis(part, best, 1)
    rows = np.repeat(np.arange(n), k)
    one_way = sparse.csr_array((np.maximum(likeness, 0).ravel(), (rows, near.ravel())), shape=(n, n))
    both = (one_way + one_way.T) / 2
    degree = both.sum(1)
    root = np.where(degree > 0, 1 / np.sqrt(np.where(degree > 0, degree, 1)), 0.0)
    graph = sparse.csr_array(sparse.diags_array(root) @ both @ sparse.diags_array(root))
    graph.eliminate_zeros()
    return graph


def spread(graph: sparse.csr_array, seeds: np.ndarray, alpha: float, *, tolerance: float = 1e-8) -> np.ndarray:
    """F = (1 - α) (I - αS)^-1 Y: Zhou, Bousquet, Lal, Weston and Schölkopf (2004), NIPS 16, section 2.

    By conjugate gradients on all columns at once: I - αS is positive definite, and its condition at most (1 + α) / (1 - α).

    Parameters
    ----------
    graph
        S, (n, n); see ``neighbour_graph``.
    seeds
        Y, (n, c): 1 where an image is known to be of a class.
    alpha
        The share that comes from the neighbours, above 0 and below 1.
    tolerance
        Of the residual, relative to Y, in each column.

    Returns
    -------
    float64 (n, c), at least 0. Rows are 0 where no path leads to a seed.

    Raises
    ------
    OptionError
        ``alpha`` is out of range.
    """
    if not 0 < alpha < 1:
        raise OptionError(f"alpha must be above 0 and below 1, got {alpha}")
    wanted = (1 - alpha) * seeds.astype(np.float64)
    found = np.zeros_like(wanted)
    residual, way = wanted.copy(), wanted.copy()
    square = (residual**2).sum(0)
    enough = tolerance**2 * square
    for _ in range(10 * (len(wanted) + 10)):
        if (square <= enough).all():
            break
        image = way - alpha * (graph @ way)
        step = square / np.maximum((way * image).sum(0), 1e-300)
        found += step * way
        residual -= step * image
        before, square = square, (residual**2).sum(0)
        way = residual + np.where(before > 0, square / np.maximum(before, 1e-300), 0) * way
    return np.maximum(found, 0)


def influence(
    graph: sparse.csr_array, seeds: np.ndarray, alpha: float, *, block: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """What each seed says of each other seed, and of all images together: enough to leave any of them out again.

    F is linear in Y, so the F without a seed is the F of all minus what that seed brought.

    Parameters
    ----------
    seeds
        int64 (l,): positions of the labelled images.

    Returns
    -------
    float64 (l, l): row, who is told; column, who tells. And float64 (l,): the sum of what each tells all n images.
    """
    n = len(graph.indptr) - 1
    told, mass = np.empty((len(seeds), len(seeds))), np.empty(len(seeds))
    for start in range(0, len(seeds), block):
        part = seeds[start : start + block]
        ones = np.zeros((n, len(part)))
        ones[part, np.arange(len(part))] = 1
        found = spread(graph, ones, alpha)
        told[:, start : start + block], mass[start : start + block] = found[seeds], found.sum(0)
    return told, mass


def class_mass_normalised(scores: np.ndarray, mass: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Scores to probabilities: each class is scaled so that its mass is its prior (Zhu, Ghahramani and Lafferty 2003, section 4).

    Without it a class whose few labelled images happen to stand in the middle of things takes all.

    Parameters
    ----------
    scores
        (..., c), at least 0.
    mass
        (..., c): what each class has in all; a class of mass 0 gets nothing.
    prior
        (c,), sums to 1.

    Returns
    -------
    float64 (..., c), rows of which sum to 1. A row without any score is the prior.
    """
    scaled = scores * np.where(mass > 0, prior / np.where(mass > 0, mass, 1), 0)
    total = scaled.sum(-1, keepdims=True)
    return np.where(total > 0, scaled / np.where(total > 0, total, 1), prior)
