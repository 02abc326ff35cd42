"""A cross-validation in which nothing is chosen on the images that it is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.datasets import folds
from greffon.errors import OptionError
from greffon.heads import Representation
from greffon.progress import Progress, Silent
from greffon.transfer.inductive.probing import CANDIDATES, fit_probe

__all__ = ["OutOfFold", "predict_out_of_fold"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """What probes say of images that they have not seen.

    Parameters
    ----------
    predicted
        int64 (n,): the class that each image is given by the probe that was fitted without it.
    folds
        int64 (n,): the fold in which each image was held out.
    chosen
        The representation and the strength that each fold has chosen.
    """

    predicted: np.ndarray
    folds: np.ndarray
    chosen: tuple[tuple[Representation, float], ...]


def predict_out_of_fold(
    pooled: np.ndarray,
    widths: Sequence[int],
    y: np.ndarray,
    classes: int,
    *,
    groups: np.ndarray | None = None,
    k: int = 5,
    head: str = "logistic",
    representations: Sequence[Representation] = CANDIDATES,
    strength: float | None = None,
    balanced: bool | None = None,
    seed: int = 0,
    progress: Progress,
) -> OutOfFold:
    """The class of every image by a probe that was fitted without it and its near-duplicates.

    Each fold makes all its choices (representation, strength, and whether the classes are balanced) as ``fit_probe``
    makes them, on its training images alone (a nested cross-validation: Stone 1974, J. R. Stat. Soc. B 36, 111-147).
    So the accuracy is not flattered by the choice.

    Parameters
    ----------
    pooled, widths, y, classes, groups, head, representations, strength, balanced, seed
        See ``fit_probe``. The folds depend on ``y``, ``groups``, ``k`` and ``seed`` alone, whatever the features are.
    k
        The number of folds.
    progress
        Told of every fold, within a task that the caller has begun.

    Raises
    ------
    OptionError
        Fewer than two folds, or images of too few groups or classes to hold any out.
    """
    parts = folds(y, groups, k, seed)
    if len(parts) < 2:
        raise OptionError("a cross-validation needs images, near-duplicates counted once, for two folds or more")
    own = np.arange(len(y)) if groups is None else groups
    predicted, held_out = np.full(len(y), -1, np.int64), np.full(len(y), -1, np.int64)
    chosen = []
    for number, (train, test) in enumerate(parts):
        probe = fit_probe(
            pooled[train],
            widths,
            y[train],
            classes,
            groups=own[train],
            head=head,
            representations=representations,
            strength=strength,
            balanced=balanced,
            seed=seed,
            progress=Silent(),
        )
        predicted[test] = probe.probabilities(pooled[test], widths).argmax(1)
        held_out[test] = number
        chosen.append((probe.representation, probe.strength))
        progress.advance()
    return OutOfFold(predicted, held_out, tuple(chosen))
