"""Several clusterings of the same photos as one: what most of them put together is together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from greffon.transfer.unsupervised.clustering import Partition, SphericalKMeans, cooled, distinct
from greffon.transfer.unsupervised.representations import Unlabelled, unit_rows
from greffon.transfer.unsupervised.spectral import left_vectors

__all__ = ["agreement", "joined", "votes_for"]


def joined(
    partitions: Sequence[np.ndarray], k: int, seed: int, beliefs: Sequence[np.ndarray] | None = None, temperature: float = 1.0
) -> Partition:
    """k clusters on which clusterings agree best: spectral clustering of the graph between photos and the clusters that they are in
    (Fern and Brodley 2004, ICML). Two photos are tied by the number of clusterings that have them together, a pair in a small cluster
    more than one in a large cluster.

    The confidence is ``votes_for``, from what ``beliefs`` say, or else from the clusterings themselves.

    Parameters
    ----------
    partitions
        int64 (n,) each; -1: in no cluster.
    """
    table = _memberships(partitions)
    rows = Unlabelled(unit_rows(left_vectors(table, k).astype(np.float32)))
    many = min(k, distinct(rows, k))
    labels = SphericalKMeans().cluster(rows, many, seed).labels
    voices = beliefs if beliefs is not None else [_one_hot(one) for one in partitions]
    return Partition(labels, votes_for(labels, voices, temperature))


def votes_for(labels: np.ndarray, beliefs: Sequence[np.ndarray], temperature: float = 1.0) -> np.ndarray:
    """How far clusterings bear out where each photo is: of the photos that a clustering has together with it, the share that is
    together with it here, too; the mean over its clusters there by how probable they are, and over all clusterings.

    Parameters
    ----------
    labels
        int64 (n,), from 0.
    beliefs
        float64 (n, m) each: how probable each of its clusters is; rows that sum to 1, or to 0 for a photo in none.
    temperature
        Of how probable a photo's clusters are, see ``cooled``.

    Returns
    -------
    float64 (n,), from 0 to 1.
    """
    k = int(labels.max(initial=0)) + 1
    found = np.zeros(len(labels))
    for belief in beliefs:
        together = np.stack([belief[labels == c].sum(0) for c in range(k)], 1)
        share = together / np.maximum(together.sum(1, keepdims=True), 1e-12)
        found += (cooled(belief, temperature) * share[:, labels].T).sum(1)
    return np.clip(found / max(len(beliefs), 1), 0.0, 1.0)


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """The adjusted mutual information of two clusterings (Vinh, Epps and Bailey 2010, JMLR 11), at most 1; 0 is chance."""
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(one, other))


def _one_hot(labels: np.ndarray) -> np.ndarray:
    """float64 (n, k): 1 where a photo is; rows of 0 for those in no cluster."""
    return np.eye(int(labels.max(initial=0)) + 2)[:, 1:][labels + 1]


def _memberships(partitions: Sequence[np.ndarray]) -> sparse.csr_array:
    """float64 (n, sum of k): row by row the clusters that a photo is in, rows that sum to 1 (less where it is in none)."""
    n = len(partitions[0])
    parts = []
    for labels in partitions:
        kept = np.flatnonzero(labels >= 0)
        size = int(labels.max(initial=0)) + 1
        parts.append(sparse.csr_array((np.full(len(kept), 1 / len(partitions)), (kept, labels[kept])), shape=(n, size)))
    return sparse.csr_array(sparse.hstack(parts, format="csr"))
