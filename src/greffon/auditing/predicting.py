"""What heads say of images that they were fitted without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.heads import Normaliser, Representation, fit_temperature, principal_axes, softmax
from greffon.metrics import log_loss
from greffon.novelty import nearest_rows
from greffon.progress import Progress
from greffon.transfer.inductive import cross_validate, should_balance

__all__ = ["LOOKS", "STRENGTHS", "Guesses", "guess_out_of_fold", "neighbour_votes"]

#: Features that are asked one by one. They err differently, so the mean of what is said is surer than any of them: of planted label
#: errors more stand at the top than by the best one alone.
LOOKS = (
    Representation("last", "mean", "sqrt-l2"),
    Representation("last", "mean+max", "l2"),
    Representation("all", "mean+max", "standard"),
)
#: Of the logistic heads; of each the one with the least log-loss out of fold is taken. They are lower than where accuracy is
#: chosen by: a head must not learn a wrong label by heart.
STRENGTHS = (1.0, 3.0, 10.0, 30.0)
#: Beside its head, every look has the votes of the nearest photos, which err differently again: so many, a nearer one with more weight,
#: exp(-sharpness * cosine distance).
_NEIGHBOURS, _SHARPNESS = 5, 8.0


@final
@dataclass(frozen=True, slots=True, eq=False)
class Guesses:
    """Probabilities of n images.

    Parameters
    ----------
    probabilities
        float64 (n, c). Of labelled images, by heads that were fitted without them and their near-duplicates; of others, none:
        all classes alike.
    judged
        bool (n,): whether the label can be judged. It cannot where there is none, or its class has no other image.
    strengths
        Of the heads, in the order of ``LOOKS``.
    """

    probabilities: np.ndarray
    judged: np.ndarray
    strengths: tuple[float, ...]


def neighbour_votes(x: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: int, k: int = _NEIGHBOURS) -> np.ndarray:
    """The shares of the classes among the k nearest other photos, and one mean vote spread as the classes are: float64 (n, classes).

    Parameters
    ----------
    x
        float32 (n, d); nearness is that of ``novelty.nearest_rows``.
    labels, groups
        int64 (n,): a photo and its near-duplicates are not asked about itself.
    """
    _, counts = np.unique(groups, return_counts=True)
    near, distances = nearest_rows(x, x, k + int(counts.max()))
    other = groups[near] != groups[:, None]
    weights = np.where(other & (other.cumsum(1) <= k), np.exp(-_SHARPNESS * distances), 0.0)
    votes = np.zeros((len(x), classes))
    np.add.at(votes, (np.arange(len(x))[:, None], labels[near]), weights)
    total, asked = weights.sum(1, keepdims=True), (weights > 0).sum(1, keepdims=True)
    one = np.where(asked > 0, total / np.maximum(asked, 1), 1.0)
    return (votes + one * np.bincount(labels, minlength=classes) / len(labels)) / (total + one)


def guess_out_of_fold(
    pooled: np.ndarray,
    widths: Sequence[int],
    labels: np.ndarray,
    classes: int,
    groups: np.ndarray,
    *,
    k: int = 5,
    seed: int = 0,
    progress: Progress,
) -> Guesses | None:
    """The probabilities of every labelled image, out of fold: the geometric mean over heads, and votes of neighbours, on several features.

    Parameters
    ----------
    pooled
        Records of the frozen part, float32 (n, ...).
    widths
        The channels of each stage.
    labels
        int64 (n,): -1 where there is none.
    groups
        int64 (n,): near-duplicates stay in one fold.

    Returns
    -------
    None where fewer than two classes have two different images or more: then there is nothing to learn from.
    """
    labelled = np.flatnonzero(labels >= 0)
    y, own = labels[labelled], groups[labelled]
    different = np.array([len(np.unique(own[y == c])) for c in range(classes)], np.int64)
    if (different >= 2).sum() < 2:
        return None
    told, strengths = np.zeros((len(y), classes)), []
    # A class that a fold could not learn scores -inf: its images say nothing about their label.
    sound = np.ones(len(y), bool)
    progress.begin("Asking heads about images that they have not seen", len(LOOKS))
    for i, look in enumerate(LOOKS):
        features = look.take(pooled[labelled], widths)
        x, _ = principal_axes(Normaliser.fit(features, look.norm).apply(features))
        tried = cross_validate("logistic", x, y, own, classes, STRENGTHS, k=k, balanced=should_balance(y), seed=seed + i)
        said = [softmax(scores / fit_temperature(scores, y)) for scores in tried]
        best = min(range(len(STRENGTHS)), key=lambda j: log_loss(y, said[j]))
        sound &= np.isfinite(tried[best][np.arange(len(y)), y]) & (tried[best] != 0).any(1)
        voices = (said[best], neighbour_votes(x, y, own, classes))
        told += sum(np.log(np.maximum(one, 1e-12)) for one in voices) / (2 * len(LOOKS))
        strengths.append(STRENGTHS[best])
        progress.advance()
    progress.end()
    # The mean is less sure than its parts, and than it should be.
    told = softmax(told / fit_temperature(told, y))
    probabilities, judged = np.full((len(labels), classes), 1 / classes), np.zeros(len(labels), bool)
    probabilities[labelled], judged[labelled] = told, sound
    return Guesses(probabilities, judged, tuple(strengths))
