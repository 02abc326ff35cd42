"""Spectral clustering on a graph of neighbours; of very many photos on the graph between them and landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from scipy import sparse

from greffon.transfer.unsupervised.clustering import (
    Partition,
    SphericalKMeans,
    centres_of,
    distinct,
    drawn,
    must_hold,
    nearest,
)
from greffon.transfer.unsupervised.representations import Unlabelled, unit_rows

__all__ = ["Spectral", "left_vectors", "neighbourhood"]


@final
@dataclass(frozen=True, slots=True)
class Spectral:
    """Normalised spectral clustering (Ng, Jordan and Weiss 2002, NIPS 14) with the affinity of Zelnik-Manor and Perona (2005,
    NIPS 17), exp(-d² / (σᵢ σⱼ)), between nearest neighbours.

    Of many photos, the graph ties each to its nearest landmarks instead (Cai and Chen 2011, AAAI): the time grows with n, not
    with n². The confidence is the silhouette in the space of the eigenvectors, see ``margin``.

    Parameters
    ----------
    neighbours
        Of each photo.
    most
        Of more photos than so many, landmarks.
    landmarks
        So many, or five for each cluster if that is more; they are the centres of k-means.
    """

    neighbours: int = 15
    most: int = 6000
    landmarks: int = 1000

    def cluster(self, photos: Unlabelled, k: int, seed: int) -> Partition:
        must_hold(photos, k)
        if k == 1 or len(photos) <= k + 1:
            return SphericalKMeans().cluster(photos, k, seed)
        x = unit_rows(photos.features)
        vectors = _of_all(x, k, self.neighbours, seed) if len(x) <= self.most else self._of_landmarks(x, k, seed)
        rows = Unlabelled(unit_rows(vectors.astype(np.float32)))
        if distinct(rows, k) < k:  # a graph in more pieces than clusters: its vectors tell pieces, not photos
            return SphericalKMeans().cluster(photos, k, seed)
        return SphericalKMeans().cluster(rows, k, seed)

    def _of_landmarks(self, x: np.ndarray, k: int, seed: int) -> np.ndarray:
        count = max(self.landmarks, 5 * k)
        some = drawn(len(x), 20 * count, seed)
        centres = x[drawn(len(x), count, seed)]
        for _ in range(5):  # a few rounds of k-means: landmarks need not be the best
            labels, _ = nearest(x[some], centres)
            fresh = unit_rows(centres_of(x[some], labels, count))
            centres = np.where(np.linalg.norm(fresh, axis=1, keepdims=True) > 0, fresh, centres)
        r = 5
        place, apart = np.empty((len(x), r), np.int64), np.empty((len(x), r))
        for start in range(0, len(x), 8192):
            products = x[start : start + 8192] @ centres.T
            best = np.argpartition(-products, r - 1, axis=1)[:, :r]
            place[start : start + 8192] = best
            apart[start : start + 8192] = np.maximum(2 - 2 * np.take_along_axis(products, best, 1), 0)
        width = max(float(apart.mean()), 1e-12)
        weight = np.exp(-apart / width)
        weight /= weight.sum(1, keepdims=True)
        rows = np.repeat(np.arange(len(x)), r)
        table = sparse.csr_array((weight.ravel(), (rows, place.ravel())), shape=(len(x), count))
        return left_vectors(table, k)


def left_vectors(table: sparse.csr_array, k: int) -> np.ndarray:
    """The first k left singular vectors of ``table``, (n, m), after its columns are divided by the roots of their sums.

    With rows that sum to 1 these are the eigenvectors of the normalised affinity that ties two rows by what they share.

    Returns
    -------
    float64 (n, k), or fewer columns where the rank is below k.
    """
    mass = np.asarray(table.sum(0)).ravel()
    scaled = table @ sparse.diags_array(np.where(mass > 0, 1 / np.sqrt(np.where(mass > 0, mass, 1)), 0.0))
    gram = sparse.csr_array(scaled.T @ scaled).toarray()
    values, vectors = np.linalg.eigh(gram)
    kept = np.flatnonzero(values > 1e-9 * max(float(values[-1]), 1e-300))[::-1][:k]
    return scaled @ (vectors[:, kept] / np.sqrt(values[kept]))


def _of_all(x: np.ndarray, k: int, neighbours: int, seed: int) -> np.ndarray:
    """The k leading eigenvectors of the normalised graph, float64 (n, k). ``x``: float32 (n, d), rows of length 1."""
    from scipy.sparse.linalg import eigsh

    graph = neighbourhood(x, neighbours)
    degree = np.asarray(graph.sum(1)).ravel()
    root = sparse.diags_array(1 / np.sqrt(np.maximum(degree, 1e-12)))
    normal = root @ graph @ root
    if len(x) <= 500 or k >= len(x) - 1:
        return np.linalg.eigh(normal.toarray())[1][:, ::-1][:, :k]
    start = np.random.default_rng(seed).normal(size=len(x))
    # Of I + S all eigenvalues are at least 0, and the largest are those of S.
    shifted = normal + sparse.eye_array(len(x))
    values, vectors = eigsh(shifted, k, which="LA", v0=start, tol=1e-6, maxiter=20 * len(x))  # type: ignore[arg-type]  # the stubs: a whole tol
    return vectors[:, np.argsort(-values, kind="stable")]


def neighbourhood(x: np.ndarray, neighbours: int) -> sparse.csr_array:
    """The graph of nearest neighbours with self-tuned affinities.

    Parameters
    ----------
    x
        float32 (n, d), rows of length 1.
    neighbours
        Of each; of fewer than that and one, all others.

    Returns
    -------
    float64 (n, n), symmetric, with an empty diagonal: the mean of exp(-d² / (σᵢ σⱼ)) where j is a neighbour of i and where i is
    one of j, σ being the distance to the seventh neighbour.
    """
    from sklearn.neighbors import NearestNeighbors

    n = len(x)
    count = min(neighbours, n - 1)
    apart, place = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(x).kneighbors()
    scale = np.maximum(apart[:, min(7, count) - 1], 1e-6)
    weight = np.exp(-(apart.astype(np.float64) ** 2) / (scale[:, None] * scale[place]))
    one_way = sparse.csr_array((weight.ravel(), (np.repeat(np.arange(n), count), place.ravel())), shape=(n, n))
    return sparse.csr_array((one_way + one_way.T) / 2)
