"""What heads say of images that they were fitted without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.heads import Normaliser, Representation, principal_axes, softmax
from greffon.progress import Progress
from greffon.transfer.inductive import cross_validate, fit_probe

__all__ = ["Guesses", "guess_out_of_fold"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Guesses:
    """Probabilities of n images.

    Parameters
    ----------
    probabilities
        float64 (n, c). Of labelled images, by heads that were fitted without them and their near-duplicates; of the others, by
        a head that was fitted on all labelled ones.
    judged
        bool (n,): whether the label can be judged. It cannot where there is none, or its class has no other image.
    representation, strength
        Of the heads, chosen by cross-validation on the same images.
    """

    probabilities: np.ndarray
    judged: np.ndarray
    representation: Representation
    strength: float


def guess_out_of_fold(
    pooled: np.ndarray,
    widths: Sequence[int],
    labels: np.ndarray,
    classes: int,
    groups: np.ndarray,
    *,
    k: int = 5,
    repeats: int = 3,
    seed: int = 0,
    progress: Progress,
) -> Guesses | None:
    """The probabilities of every image, out of fold; the mean over ``repeats`` ways to deal the images into folds.

    Parameters
    ----------
    pooled
        Records of the frozen part.
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
    y = labels[labelled]
    different = np.array([len(np.unique(groups[labels == c])) for c in range(classes)], np.int64)
    if (different >= 2).sum() < 2:
        return None
    probe = fit_probe(pooled[labelled], widths, y, classes, groups=groups[labelled], seed=seed, progress=progress)
    features = probe.representation.take(pooled[labelled], widths)
    x, _ = principal_axes(Normaliser.fit(features, probe.representation.norm).apply(features))
    probabilities = np.zeros((len(labels), classes))
    judged = np.zeros(len(labels), bool)
    judged[labelled] = True
    progress.begin("Asking heads about images that they have not seen", repeats)
    for i in range(repeats):
        scores = cross_validate("logistic", x, y, groups[labelled], classes, (probe.strength,), k=k, balanced=probe.balanced,
                                seed=seed + i)[0]  # fmt: skip
        # A class that a fold could not learn scores -inf: its images say nothing about their label.
        judged[labelled] &= np.isfinite(scores[np.arange(len(y)), y]) & (scores != 0).any(1)
        probabilities[labelled] += softmax(scores / probe.head.temperature) / repeats
        progress.advance()
    progress.end()
    others = np.flatnonzero(labels < 0)
    if len(others):
        probabilities[others] = probe.probabilities(pooled[others], widths)
    return Guesses(probabilities, judged, probe.representation, probe.strength)
