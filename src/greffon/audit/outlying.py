"""Photos unlike all others, by the distance to their neighbours among the features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from greffon.audit.contents import Contents
from greffon.audit.findings import Finding
from greffon.audit.oddities import robust_scores

__all__ = ["outlier_findings", "outlier_scores"]

#: Robust standard deviations from which a photo is told of.
_FAR = 3.5


def outlier_scores(unit: np.ndarray, k: int = 5, block: int = 1024) -> np.ndarray:
    """How far each photo lies from its k-th neighbour, in robust standard deviations of the logarithm; float64 (n,).

    The distance to the k-th neighbour is the outlier score of Ramaswamy, Rastogi and Shim (2000), SIGMOD Record 29, 427-438.

    Parameters
    ----------
    unit
        float32 (n, d), rows of length one.
    """
    n = len(unit)
    if n < 3:
        return np.zeros(n)
    k = min(k, n - 1)
    distance = np.empty(n)
    for start in range(0, n, block):
        likeness = unit[start : start + block] @ unit.T
        rows = np.arange(len(likeness))
        likeness[rows, start + rows] = -np.inf
        nearest = -np.partition(-likeness, k - 1, axis=1)[:, k - 1]
        distance[start : start + block] = np.sqrt(np.maximum(2 - 2 * nearest, 1e-12))
    return robust_scores(np.log(distance), 0.02)


def outlier_findings(contents: Contents, scores: np.ndarray, positions: np.ndarray) -> Iterator[Finding]:
    """A finding for every file of the contents at ``positions`` whose score is high."""
    files = contents.files()
    for score, content in zip(scores, positions, strict=True):
        if score > _FAR:
            for file in files[int(content)]:
                yield Finding("outlier", contents.dataset.paths[file], contents.name_of(int(content)), "", float(score),
                              f"its neighbours are far off: {score:.1f} robust standard deviations beyond the usual")  # fmt: skip
