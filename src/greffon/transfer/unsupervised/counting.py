"""How many clusters there are: silhouette, stability under resampling, and the gap statistic, each over a range of k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.progress import Progress
from greffon.transfer.unsupervised.clustering import SphericalKMeans, centres_of, distinct, drawn, nearest
from greffon.transfer.unsupervised.representations import Unlabelled, unit_rows

__all__ = ["Count", "estimate_count", "gap_choice", "prediction_strength", "silhouette"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """What speaks for each number of clusters.

    Parameters
    ----------
    ks
        int64 (m,): the numbers that were tried, ascending.
    silhouette
        float64 (m,): the mean over photos; higher is better.
    stability
        float64 (m,): the prediction strength, see ``prediction_strength``; 1 is the most.
    gap, gap_error
        float64 (m,): see ``estimate_count``.
    choices
        What each of the three would take, in this order.
    k
        What was taken.
    """

    ks: np.ndarray
    silhouette: np.ndarray
    stability: np.ndarray
    gap: np.ndarray
    gap_error: np.ndarray
    choices: tuple[int, int, int]
    k: int


def estimate_count(
    photos: Unlabelled, *, most_k: int = 20, seed: int = 0, progress: Progress, most: int = 2000, rounds: int = 10
) -> Count | None:
    """Estimate how many clusters there are, from 2 to ``most_k``.

    Spherical k-means is run for every k. The silhouette is Rousseeuw's (1987), by cosine distance. The gap is that of Tibshirani,
    Walther and Hastie (2001), J. R. Stat. Soc. B 63, 411-423: log W_k of points drawn evenly in the box around the photos on their
    principal axes, minus log W_k. What is taken is the median of the three choices.

    Parameters
    ----------
    photos
        On their principal axes; see ``on_axes``.
    most
        So many photos are looked at, drawn by the seed.
    rounds
        Halvings for the stability, and boxes for the gap.

    Returns
    -------
    None where fewer than four photos differ: nothing can be said.
    """
    some = photos.take(drawn(len(photos), most, seed))
    top = min(most_k, distinct(some, most_k + 1) - 1, len(some) // 2)
    if top < 2:
        return None
    ks = np.arange(2, top + 1)
    rng = np.random.default_rng(seed)
    x = unit_rows(some.features)
    method = SphericalKMeans(restarts=5)
    heights, strengths, gaps, errors = (np.zeros(len(ks)) for _ in range(4))
    boxes = [_box(x, rng) for _ in range(rounds)]
    halves = [rng.permutation(len(x)) for _ in range(rounds)]
    progress.begin("How many clusters", len(ks))
    for i, k in enumerate(ks.tolist()):
        labels = method.cluster(some, k, seed).labels
        heights[i] = silhouette(x, labels)
        strengths[i] = float(np.mean([_strength_of_halves(x, order, k, seed) for order in halves]))
        drawn_logs = np.array([_log_within(box, SphericalKMeans(restarts=1).cluster(Unlabelled(box), k, seed).labels) for box in boxes])
        gaps[i] = float(drawn_logs.mean()) - _log_within(x, labels)
        errors[i] = float(drawn_logs.std()) * np.sqrt(1 + 1 / rounds)
        progress.advance()
    progress.end()
    by_height = int(ks[heights.argmax()])
    stable = np.flatnonzero(strengths >= 0.8)
    by_strength = int(ks[stable[-1]]) if len(stable) else int(ks[strengths.argmax()])
    choices = (by_height, by_strength, gap_choice(ks, gaps, errors))
    return Count(ks, heights, strengths, gaps, errors, choices, int(np.median(choices)))


def gap_choice(ks: np.ndarray, gaps: np.ndarray, errors: np.ndarray) -> int:
    """The smallest k whose gap is at least that of k + 1 less its error: the rule of the gap's authors, section 3."""
    enough = np.flatnonzero(gaps[:-1] >= gaps[1:] - errors[1:])
    return int(ks[enough[0]] if len(enough) else ks[gaps.argmax()])


def silhouette(x: np.ndarray, labels: np.ndarray, *, most: int = 3000, seed: int = 0) -> float:
    """The mean silhouette by cosine distance, of at most so many photos drawn by the seed; NaN where it is not defined.

    ``x``: float32 (n, d). Photos in no cluster (-1) have no part in it.
    """
    from sklearn.metrics import silhouette_score

    kept = np.flatnonzero(labels >= 0)
    kept = kept[drawn(len(kept), most, seed)]
    groups = len(np.unique(labels[kept]))
    if not 2 <= groups < len(kept):
        return float("nan")
    return float(silhouette_score(unit_rows(x[kept]), labels[kept], metric="cosine"))


def prediction_strength(one: np.ndarray, other: np.ndarray) -> float:
    """Of the pairs that are together in a cluster of ``one``, the share that ``other`` has together, too; in the cluster where it is
    least (Tibshirani and Walther 2005, J. Comput. Graph. Stat. 14, 511-528). Clusters of one photo have no pairs.

    Parameters
    ----------
    one, other
        int64 (n,): clusters of the same photos.
    """
    least = 1.0
    for c in np.unique(one):
        inside = other[one == c]
        m = len(inside)
        if m > 1:
            counts = np.unique(inside, return_counts=True)[1].astype(np.float64)
            least = min(least, float((counts * (counts - 1)).sum()) / (m * (m - 1)))
    return least


def _strength_of_halves(x: np.ndarray, order: np.ndarray, k: int, seed: int) -> float:
    half = len(order) // 2
    ends = [np.sort(order[:half]), np.sort(order[half:])]
    found = []
    for part in ends:
        if distinct(Unlabelled(x[part]), k) < k:
            return 0.0
        labels = SphericalKMeans(restarts=3).cluster(Unlabelled(x[part]), k, seed).labels
        found.append((labels, unit_rows(centres_of(x[part], labels, k))))
    asked = nearest(x[ends[1]], found[0][1])[0]
    return prediction_strength(found[1][0], asked)


def _box(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many points as x has, drawn evenly in the box around it, to length 1."""
    return unit_rows(rng.uniform(x.min(0), x.max(0), x.shape).astype(np.float32))


def _log_within(x: np.ndarray, labels: np.ndarray) -> float:
    """log W_k: of the sum of squared distances to the centres of the clusters."""
    apart = x - centres_of(x, labels, int(labels.max()) + 1)[labels]
    return float(np.log(max(float((apart.astype(np.float64) ** 2).sum()), 1e-12)))
