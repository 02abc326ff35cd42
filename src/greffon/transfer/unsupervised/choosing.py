"""Clusters of photos, looked at in several ways: the look is chosen, or all of them vote, and no label is there to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from threadpoolctl import threadpool_limits

from greffon.errors import OptionError
from greffon.progress import Progress
from greffon.transfer.unsupervised.agreeing import clusters_by_consensus
from greffon.transfer.unsupervised.clustering import Partition, centres_of, distinct, nearest
from greffon.transfer.unsupervised.consensus import agreement
from greffon.transfer.unsupervised.counting import Count, estimate_count, silhouette
from greffon.transfer.unsupervised.methods import METHODS
from greffon.transfer.unsupervised.representations import Unlabelled, unit_rows

__all__ = ["Clustering", "Opinion", "cluster_looks"]


@final
@dataclass(frozen=True, slots=True)
class Opinion:
    """One clustering that was asked: the look and the method, and how far it agrees with the others (adjusted mutual information)."""

    look: int
    method: str
    k: int
    agreement: float
    silhouette: float


@final
@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """Photos in clusters.

    Parameters
    ----------
    labels
        int64 (n,), from 0 to k - 1, the largest cluster first; -1: in none (HDBSCAN alone).
    confidence
        float64 (n,), from 0 to 1.
    nearest
        int64 (n,): the other cluster that the photo is nearest to; -1 where there is no other.
    look
        Which of the looks was taken; of ``auto`` the one that agrees best with what was found.
    method
        By which method: a name of ``METHODS``, or ``"consensus"``.
    silhouette
        By cosine distance in that look; NaN where it is not defined.
    opinions
        What was asked on the way.
    count
        How k was estimated; None where it was given, or too few photos differ.
    """

    labels: np.ndarray
    confidence: np.ndarray
    nearest: np.ndarray
    look: int
    method: str
    silhouette: float
    opinions: tuple[Opinion, ...]
    count: Count | None

    @property
    def k(self) -> int:
        """How many clusters there are."""
        return int(self.labels.max(initial=-1)) + 1


def cluster_looks(
    looks: Sequence[Unlabelled],
    k: int | None = None,
    *,
    method: str = "auto",
    most_k: int = 20,
    seed: int = 0,
    progress: Progress,
) -> Clustering:
    """Cluster photos that are looked at in several ways.

    Parameters
    ----------
    looks
        The same n photos each time; see ``representations.LOOKS``.
    k
        How many clusters; by default it is estimated, see ``estimate_count``.
    method
        A name of ``METHODS``: run on every look, and the look is taken whose clusters agree most with those of the others
        (Strehl and Ghosh 2002, JMLR 3). ``"auto"``: see ``clusters_by_consensus``.
    most_k
        The largest number that is tried where k is estimated.

    Raises
    ------
    OptionError
        An unknown method, or fewer different photos than clusters.
    """
    if method != "auto" and method not in METHODS:
        raise OptionError(f"--method must be auto or one of {', '.join(METHODS)}, got {method!r}")
    if k is not None and k < 1:
        raise OptionError(f"-k must be 1 or more, got {k}")
    if most_k < 2:
        raise OptionError(f"--most-k must be 2 or more, got {most_k}")
    n = len(looks[0])
    _must_differ(looks, k)
    with threadpool_limits(1):  # threads that wait for each other cost more than they bring
        count = estimate_count(looks[0], most_k=most_k, seed=seed, progress=progress) if k is None else None
        many = k if k is not None else count.k if count is not None else 1
        if many == 1 and method != "hdbscan":
            return Clustering(np.zeros(n, np.int64), np.ones(n), np.full(n, -1), 0, "one cluster", float("nan"), (), count)
        if method == "auto":
            return _by_consensus(looks, many, count, seed, progress)
        return _by_one(looks, many, method, count, seed, progress)


def _must_differ(looks: Sequence[Unlabelled], k: int | None) -> None:
    n = len(looks[0])
    if k is not None and k > n:
        raise OptionError(f"-k {k}: there are only {n} different photos", hint=f"Ask for {n} clusters at most, or leave -k away.")
    there = min(distinct(look, k or 1) for look in looks)
    if k is not None and there < k:
        raise OptionError(f"-k {k}: of the {n} photos only {there} look different to the network",
                          hint=f"Ask for {there} clusters at most, or leave -k away.")  # fmt: skip


def _by_one(
    looks: Sequence[Unlabelled], k: int, method: str, count: Count | None, seed: int, progress: Progress
) -> Clustering:
    progress.begin(f"Clustering ({method})", len(looks))
    found: list[Partition] = []
    for look in looks:
        found.append(METHODS[method].cluster(look, k, seed))
        progress.advance()
    progress.end()
    agreements = [
        float(np.mean([agreement(one.labels, other.labels) for other in found if other is not one] or [1.0])) for one in found
    ]
    best = int(np.argmax(agreements))
    opinions = tuple(
        Opinion(i, method, one.k, agreements[i], silhouette(looks[i].features, one.labels, seed=seed))
        for i, one in enumerate(found)
    )
    return _told(looks[best], found[best], best, method, opinions, count)


def _by_consensus(looks: Sequence[Unlabelled], k: int, count: Count | None, seed: int, progress: Progress) -> Clustering:
    whole, best, starts = clusters_by_consensus(looks, k, seed, progress)
    asked = [(i, "mixture", labels) for i, labels in enumerate(best)]
    if len(starts[0].labels) == len(looks[0]):
        asked += [(one.look, one.method, one.labels) for one in starts]
    opinions = tuple(
        Opinion(i, name, int(one.max()) + 1, agreement(one, whole.labels), silhouette(looks[i].features, one, seed=seed))
        for i, name, one in asked
    )
    which = int(np.argmax([one.agreement for one in opinions[: len(looks)]]))
    return _told(looks[which], whole, which, "consensus", opinions, count)


def _told(
    look: Unlabelled, found: Partition, which: int, method: str, opinions: tuple[Opinion, ...], count: Count | None
) -> Clustering:
    x, labels = unit_rows(look.features), found.labels
    plain = Clustering(labels, found.confidence, np.full(len(labels), -1), which, method, silhouette(x, labels), opinions, count)
    if plain.k < 2:
        return plain
    kept = np.flatnonzero(labels >= 0)
    centres = unit_rows(centres_of(x[kept], labels[kept], plain.k))
    others = np.full(len(labels), -1)
    for c in range(-1, plain.k):
        mine = np.flatnonzero(labels == c)
        rest = np.array([other for other in range(plain.k) if other != c])
        if len(mine):
            others[mine] = rest[nearest(x[mine], centres[rest])[0]]
    return replace(plain, nearest=others)
