"""Clusters in parts: where a person would cut one that holds two things."""

from __future__ import annotations

import numpy as np

from greffon.transfer.unsupervised.clustering import SphericalKMeans, distinct
from greffon.transfer.unsupervised.representations import Unlabelled

__all__ = ["parts_of"]


def parts_of(photos: Unlabelled, labels: np.ndarray, *, depth: int = 2, least: int = 8, seed: int = 0) -> tuple[str, ...]:
    """In which part of its cluster each photo lies: ``"1"`` or ``"2"``, and in which part of that: ``"1.2"``.

    Each cluster is cut into two by spherical k-means, the larger part first, and each part again.

    Parameters
    ----------
    labels
        int64 (n,); those in no cluster (-1) are in no part.
    depth
        So often.
    least
        A part of fewer photos is not cut again; its photos have the shorter word, which is ``""`` for a small cluster.

    Returns
    -------
    A word for each of the n photos.
    """
    found = [""] * len(labels)
    waiting = [np.flatnonzero(labels == c) for c in range(int(labels.max(initial=-1)) + 1)]
    for _ in range(depth):
        parts: list[np.ndarray] = []
        for inside in waiting:
            own = photos.take(inside) if len(inside) >= least else None
            if own is None or distinct(own, 2) < 2:
                continue
            side = SphericalKMeans(restarts=3).cluster(own, 2, seed).labels
            for number in (0, 1):
                part = inside[side == number]
                for i in part.tolist():
                    found[i] = f"{found[i]}.{number + 1}" if found[i] else str(number + 1)
                parts.append(part)
        waiting = parts
    return tuple(found)
