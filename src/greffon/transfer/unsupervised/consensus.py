"""Several clusterings of the same photos as one: what most of them put together is together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from greffon.transfer.unsupervised.clustering import Partition, SphericalKMeans, distinct
from greffon.transfer.unsupervised.representations import Unlabelled, unit_rows
from greffon.transfer.unsupervised.spectral import left_vectors

__all__ = ["agreement", "joined", "votes_for"]


def joined(partitions: Sequence[np.ndarray], k: int, seed: int) -> Partition:
    """k clusters on which clusterings agree best: spectral clustering of the graph between photos and the clusters that they are in
    (Fern and Brodley 2004, ICML). Two photos are tied by the number of clusterings that have them together, a pair in a small cluster
    more than one in a large cluster.

    The confidence is ``votes_for``.

    Parameters
    ----------
    partitions
        int64 (n,) each; -1: in no cluster.
    """
    table = _memberships(partitions)
    rows = Unlabelled(unit_rows(left_vectors(table, k).astype(np.float32)))
    many = min(k, distinct(rows, k))
    labels = SphericalKMeans().cluster(rows, many, seed).labels
    return Partition(labels, votes_for(labels, partitions))


def votes_for(labels: np.ndarray, partitions: Sequence[np.ndarray]) -> np.ndarray:
    """How far clusterings bear out where each photo is: of the photos that a clustering has together with it, the share that is
    together with it here, too; the mean over all clusterings.

    float64 (n,), from 0 to 1; 0 for a clustering in which the photo is in no cluster.
    """
    k = int(labels.max(initial=0)) + 1
    found = np.zeros(len(labels))
    for other in partitions:
        m = int(other.max(initial=0)) + 1
        kept = other >= 0
        table = np.zeros((m, k))
        np.add.at(table, (other[kept], labels[kept]), 1.0)
        share = table / np.maximum(table.sum(1, keepdims=True), 1)
        found[kept] += share[other[kept], labels[kept]]
    return found / max(len(partitions), 1)


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """The adjusted mutual information of two clusterings (Vinh, Epps and Bailey 2010, JMLR 11), at most 1; 0 is chance."""
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(one, other))


def _memberships(partitions: Sequence[np.ndarray]) -> sparse.csr_array:
    """float64 (n, sum of k): row by row the clusters that a photo is in, rows that sum to 1 (less where it is in none)."""
    n = len(partitions[0])
    parts = []
    for labels in partitions:
        kept = np.flatnonzero(labels >= 0)
        size = int(labels.max(initial=0)) + 1
        parts.append(sparse.csr_array((np.full(len(kept), 1 / len(partitions)), (kept, labels[kept])), shape=(n, size)))
    return sparse.csr_array(sparse.hstack(parts, format="csr"))
