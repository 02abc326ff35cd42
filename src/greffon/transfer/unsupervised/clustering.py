"""Clusterings of one table of features: k-means on the sphere, Ward's agglomeration, and HDBSCAN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
from scipy import sparse

from greffon.errors import OptionError
from greffon.transfer.unsupervised.representations import Unlabelled, on_axes, unit_rows

__all__ = [
    "ClusterMethod",
    "DensityClusters",
    "Partition",
    "SphericalKMeans",
    "Ward",
    "centres_of",
    "cooled",
    "distinct",
    "drawn",
    "extended",
    "margin",
    "must_hold",
    "nearest",
    "numbered",
]

#: So many rows are compared with all centres at once.
_BLOCK = 16384


@final
@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """Which cluster each photo is in.

    Parameters
    ----------
    labels
        int64 (n,), from 0 to k - 1, each at least once; -1: in none.
    confidence
        float64 (n,), from 0 to 1; 0 where the photo is in none. What it measures is the method's.
    """

    labels: np.ndarray
    confidence: np.ndarray

    @property
    def k(self) -> int:
        """How many clusters there are."""
        return int(self.labels.max(initial=-1)) + 1


class ClusterMethod(Protocol):
    """Photos without labels become clusters."""

    def cluster(self, photos: Unlabelled, k: int, seed: int) -> Partition:
        """k clusters (HDBSCAN: about so many) of photos of which at least k differ. Raises OptionError where fewer do."""
        ...


@final
@dataclass(frozen=True, slots=True)
class SphericalKMeans:
    """k-means by the cosine: Dhillon and Modha (2001), Machine Learning 42, 143-175.

    The confidence is the silhouette, see ``margin``.

    Parameters
    ----------
    restarts
        From so many starts by k-means++; the one that ends best is taken. Of many photos a third of them.
    rounds
        At most so many from each.
    """

    restarts: int = 10
    rounds: int = 100

    def cluster(self, photos: Unlabelled, k: int, seed: int) -> Partition:
        x = unit_rows(photos.features)
        must_hold(photos, k)
        rng = np.random.default_rng(seed)
        best, most = np.zeros(len(x), np.int64), -np.inf
        for _ in range(self.restarts if len(x) <= _BLOCK else max(1, self.restarts // 3)):
            labels, fit = _from_one_start(x, k, int(rng.integers(2**31)), self.rounds)
            if fit > most + 1e-9 * len(x):
                best, most = labels, fit
        labels = numbered(best)
        return Partition(labels, margin(x, labels))


def _from_one_start(x: np.ndarray, k: int, seed: int, rounds: int) -> tuple[np.ndarray, float]:
    """Labels, int64 (n,), and the sum of every row's cosine to the centre of its cluster."""
    from sklearn.cluster import kmeans_plusplus

    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(x))[: max(_BLOCK, 20 * k)])
    centres = unit_rows(kmeans_plusplus(x[some], k, random_state=seed)[0])
    labels, before = np.full(len(x), -1), -np.inf
    for _ in range(rounds):
        found, likeness = nearest(x, centres)
        fit = float(likeness.sum(dtype=np.float64))
        if (found == labels).all() or fit <= before + 1e-6 * len(x):
            return found, fit
        labels, before = _without_empty(found, likeness, k), fit
        centres = unit_rows(centres_of(x, labels, k))
    found, likeness = nearest(x, centres)
    return found, float(likeness.sum(dtype=np.float64))


def _without_empty(labels: np.ndarray, likeness: np.ndarray, k: int) -> np.ndarray:
    """Every cluster that lost all its rows gets the one that fits worst where it is, and is not alone there."""
    counts = np.bincount(labels, minlength=k)
    if counts.all():
        return labels
    labels, order = labels.copy(), iter(np.argsort(likeness, kind="stable"))
    for empty in np.flatnonzero(counts == 0):
        row = next(int(i) for i in order if counts[labels[i]] > 1)
        counts[labels[row]] -= 1
        labels[row] = empty
    return labels


@final
@dataclass(frozen=True, slots=True)
class Ward:
    """Ward's agglomeration (1963) (scikit-learn's). The confidence is the silhouette, see ``margin``.

    Parameters
    ----------
    most
        So many photos are agglomerated, drawn by the seed; of more, the others go to the nearest centre.
    """

    most: int = 5000

    def cluster(self, photos: Unlabelled, k: int, seed: int) -> Partition:
        from sklearn.cluster import AgglomerativeClustering

        must_hold(photos, k)
        x = unit_rows(photos.features)
        some = drawn(len(x), self.most, seed)
        labels = AgglomerativeClustering(k, linkage="ward").fit_predict(x[some]) if len(some) > 1 else np.zeros(1, np.int64)
        labels = extended(x, some, labels.astype(np.int64))
        return Partition(labels, margin(x, labels))


@final
@dataclass(frozen=True, slots=True)
class DensityClusters:
    """HDBSCAN: Campello, Moulavi and Sander (2013), PAKDD (scikit-learn's). It finds how many by itself, and photos that lie apart
    are in none.

    With k the smallest size of a cluster is looked for with which the number comes nearest to k. The confidence is HDBSCAN's
    strength of membership.

    Parameters
    ----------
    axes
        So many principal axes: in many, no place is denser than another.
    sizes
        The smallest sizes of a cluster that are tried.
    """

    axes: int = 10
    sizes: tuple[int, ...] = (5, 7, 10, 15, 20, 30, 50, 80)
    most: int = 20000

    def cluster(self, photos: Unlabelled, k: int, seed: int) -> Partition:
        from sklearn.cluster import HDBSCAN

        must_hold(photos, k)
        x = on_axes(photos.features, self.axes)
        some = drawn(len(x), self.most, seed)
        best: tuple[tuple[int, int], np.ndarray, np.ndarray] | None = None
        for size in self.sizes:
            if size > max(len(some) // 2, 2):
                break
            model = HDBSCAN(min_cluster_size=size, min_samples=min(5, size), copy=True)  # type: ignore[arg-type]  # the stubs: str
            model.fit(x[some])
            found = np.asarray(model.labels_, np.int64)
            key = (abs(int(found.max(initial=-1)) + 1 - k), int((found < 0).sum()))
            if best is None or key < best[0]:
                best = key, found, np.asarray(model.probabilities_, np.float64)
        if best is None or best[1].max(initial=-1) < 0:  # too few, or nowhere dense: all together
            return Partition(np.zeros(len(x), np.int64), np.ones(len(x)))
        labels, strength = best[1], best[2]
        if len(some) < len(x):
            whole = np.full(len(x), -1)
            whole[some] = labels
            confidence = np.zeros(len(x))
            confidence[some] = strength
            rest = np.setdiff1d(np.arange(len(x)), some)
            dense = np.flatnonzero(labels >= 0)
            near, _ = nearest(unit_rows(x[rest]), unit_rows(centres_of(x[some][dense], labels[dense], int(labels.max()) + 1)))
            whole[rest] = near
            confidence[rest] = 0.5
            labels, strength = whole, confidence
        kept = numbered(labels)
        return Partition(kept, np.where(kept >= 0, strength, 0.0))


# --- what the methods share ------------------------------------------------------------------------------------------


def nearest(x: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centre, (k, d), with the largest inner product to each row, (n, d): int64 (n,); and that product, float32 (n,)."""
    labels, likeness = np.empty(len(x), np.int64), np.empty(len(x), np.float32)
    for start in range(0, len(x), _BLOCK):
        products = x[start : start + _BLOCK] @ centres.T
        best = products.argmax(1)
        labels[start : start + _BLOCK] = best
        likeness[start : start + _BLOCK] = products[np.arange(len(best)), best]
    return labels, likeness


def centres_of(x: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """The mean of each cluster, (k, d) in the type of x (n, d); 0 of one without rows. Labels are int64 (n,), from 0."""
    table = sparse.csr_array((np.ones(len(x), x.dtype), labels, np.arange(len(x) + 1)), shape=(len(x), k))
    counts = np.bincount(labels, minlength=k)
    return (table.T @ x) / np.maximum(counts, 1)[:, None].astype(x.dtype)


def margin(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The silhouette by centres: (b - a) / max(a, b) with the cosine distances a to the own centre and b to the nearest other.

    Rousseeuw (1987), J. Comput. Appl. Math. 20, 53-65, simplified after Hruschka et al. (2006).

    Parameters
    ----------
    x
        float32 (n, d), rows of length 1.
    labels
        int64 (n,), from 0.

    Returns
    -------
    float64 (n,), from 0 (between two clusters, or nearer to another) to 1; all 1 where there is one cluster.
    """
    k = int(labels.max(initial=0)) + 1
    if k < 2:
        return np.ones(len(x))
    centres = unit_rows(centres_of(x, labels, k))
    found = np.empty(len(x))
    for start in range(0, len(x), _BLOCK):
        mine = labels[start : start + _BLOCK]
        apart = np.maximum(1 - (x[start : start + _BLOCK] @ centres.T).astype(np.float64), 0)
        own = apart[np.arange(len(mine)), mine].copy()
        apart[np.arange(len(mine)), mine] = np.inf
        other = apart.min(1)
        found[start : start + _BLOCK] = (other - own) / np.maximum(np.maximum(own, other), 1e-12)
    return np.clip(found, 0.0, 1.0)


def numbered(labels: np.ndarray) -> np.ndarray:
    """Clusters numbered by their size, the largest first, of equal ones that of the first photo; int64 (n,), -1 stays."""
    names, first, counts = np.unique(labels, return_index=True, return_counts=True)
    order = [i for i in np.lexsort((first, -counts)) if names[i] >= 0]
    place = {int(names[i]): rank for rank, i in enumerate(order)}
    return np.array([place.get(int(name), -1) for name in names], np.int64)[np.searchsorted(names, labels)]


def cooled(belief: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities, float64 (n, m), whose logarithms are divided by the temperature; rows of 0 stay."""
    if temperature == 1:
        return belief
    raised = belief ** (1 / temperature)
    return raised / np.maximum(raised.sum(1, keepdims=True), 1e-300)


def distinct(photos: Unlabelled, enough: int) -> int:
    """How many photos differ from each other; counted up to ``enough``."""
    found: set[bytes] = set()
    for row in photos.features:
        found.add(row.tobytes())
        if len(found) >= enough:
            break
    return len(found)


def drawn(n: int, most: int, seed: int) -> np.ndarray:
    """int64 (min(n, most),): positions, ascending; all of them, or so many drawn by the seed."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).permutation(n)[:most])


def extended(x: np.ndarray, some: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels of some rows of x, int64 (m,), for all of them, (n,): the others go to the nearest centre by the cosine."""
    if len(some) == len(x):
        return numbered(labels)
    centres = unit_rows(centres_of(x[some], labels, int(labels.max()) + 1))
    found, _ = nearest(x, centres)
    found[some] = labels
    return numbered(found)


def must_hold(photos: Unlabelled, k: int) -> None:
    """Raises OptionError where there cannot be k clusters."""
    if k < 1:
        raise OptionError(f"the number of clusters must be 1 or more, got {k}")
    there = distinct(photos, k)
    if there < k:
        raise OptionError(f"{k} clusters were asked for, and only {there} of the {len(photos)} photos differ from each other")
