"""What heads say of images that they were fitted without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.heads import Normaliser, Representation, fit_temperature, principal_axes, softmax
from greffon.metrics import log_loss
from greffon.progress import Progress
from greffon.transfer.inductive import cross_validate, should_balance

__all__ = ["LOOKS", "STRENGTHS", "Guesses", "guess_out_of_fold"]

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
    """The probabilities of every labelled image, out of fold; the mean over heads on several features.

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
        told += said[best] / len(LOOKS)
        strengths.append(STRENGTHS[best])
        progress.advance()
    progress.end()
    # The mean is less sure than its parts, and than it should be.
    told = softmax(np.log(np.maximum(told, 1e-12)) / fit_temperature(np.log(np.maximum(told, 1e-12)), y))
    probabilities, judged = np.full((len(labels), classes), 1 / classes), np.zeros(len(labels), bool)
    probabilities[labelled], judged[labelled] = told, sound
    return Guesses(probabilities, judged, tuple(strengths))
