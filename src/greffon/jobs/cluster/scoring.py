"""How far clusters are the classes that a person gave; for ``--score`` alone, after everything else is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

__all__ = ["Score", "score_of"]


@final
@dataclass(frozen=True, slots=True)
class Score:
    """Clusters against labels.

    Parameters
    ----------
    n
        How many photos have a label; of these are the figures.
    accuracy
        The share that is rightly named by the best naming of clusters, each class given to one cluster at most
        (Kuhn's Hungarian assignment).
    nmi
        The mutual information divided by the mean of the two entropies.
    ari
        The adjusted Rand index.
    """

    n: int
    accuracy: float
    nmi: float
    ari: float


def score_of(truth: np.ndarray, clusters: np.ndarray) -> Score:
    """Compare. Photos that are in no cluster are wrong for the accuracy, and a cluster of their own for the others.

    Parameters
    ----------
    truth
        int64 (n,): the classes; -1 where none is known, and these are left out.
    clusters
        int64 (n,): the clusters; -1: in none.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    known = truth >= 0
    mine, found = truth[known], clusters[known]
    table = np.zeros((int(found.max(initial=-1)) + 1, int(mine.max(initial=-1)) + 1), np.int64)
    inside = found >= 0
    np.add.at(table, (found[inside], mine[inside]), 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return Score(
        n=int(known.sum()),
        accuracy=float(table[rows, columns].sum() / max(int(known.sum()), 1)),
        nmi=float(normalized_mutual_info_score(mine, found)),
        ari=float(adjusted_rand_score(mine, found)),
    )
