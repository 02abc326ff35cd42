"""``auto``: mixtures of Gaussians on every look, from many starts; the likeliest of each look, joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.progress import Progress
from greffon.transfer.unsupervised.clustering import Partition, SphericalKMeans, drawn, numbered
from greffon.transfer.unsupervised.consensus import joined
from greffon.transfer.unsupervised.mixtures import TEMPERATURE, Fitted, mixed_from, mixture_axes
from greffon.transfer.unsupervised.representations import Unlabelled
from greffon.transfer.unsupervised.spectral import Spectral

__all__ = ["Start", "clusters_by_consensus"]

#: Of more photos than so many, or a hundred for each cluster if that is more, as many are drawn to learn from.
_MANY = 5000

#: Starts of k-means on each look: of few photos, and of many.
_TRIES = (4, 2)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """A clustering that the mixtures begin from.

    Parameters
    ----------
    look
        On which look it was made.
    labels
        int64 (m,): of the photos that are learned from.
    """

    look: int
    method: str
    labels: np.ndarray


def clusters_by_consensus(
    looks: Sequence[Unlabelled], k: int, seed: int, progress: Progress
) -> tuple[Partition, tuple[np.ndarray, ...], tuple[Start, ...]]:
    """k clusters of photos that are looked at in several ways.

    k-means and spectral clustering on each look give the starts. From each of them a mixture is fitted on every look, so that what
    one look shows is tried on the others; of each look the likeliest is kept (the likelihood can be compared within a look alone), and
    those of all looks are joined.

    Returns
    -------
    The clusters; of each look, the likeliest clustering, int64 (n,); and the starts.
    """
    n = len(looks[0])
    some = drawn(n, max(_MANY, 100 * k), seed)
    tries = _TRIES[n > _MANY]
    progress.begin("Clustering", len(looks) * (tries + 2))
    rng = np.random.default_rng(seed)
    starts: list[Start] = []
    for i, look in enumerate(looks):
        part = look.take(some)
        for _ in range(tries):
            labels = SphericalKMeans(1).cluster(part, k, int(rng.integers(2**31))).labels
            starts.append(Start(i, "kmeans", labels))
            progress.advance()
        starts.append(Start(i, "spectral", Spectral().cluster(part, k, seed).labels))
        progress.advance()
    best: list[Fitted] = []
    for look in looks:
        x = mixture_axes(look)
        fits = (mixed_from(x, one.labels, k, some=some if len(some) < n else None) for one in starts)
        best.append(max(fits, key=lambda one: one.likelihood))
        progress.advance()
    progress.end()
    labels = tuple(numbered(one.labels) for one in best)
    return joined(labels, k, seed, [one.belief for one in best], TEMPERATURE), labels, tuple(starts)
