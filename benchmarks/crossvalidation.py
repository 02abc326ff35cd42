"""Repeated cross-validation that survives an interruption: finished folds in a file, and intervals of paired differences."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import numpy as np
from scipy.stats import t

from greffon.errors import DataError

__all__ = ["Finished", "Fold", "corrected_interval", "fold_differences", "right_by_image"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One strategy on one fold.

    Parameters
    ----------
    study
        All that a result depends on, in one string: the fingerprint of the data, the settings.
    repeat, fold
        Which one, from 0.
    train
        How many images it was trained on.
    positions
        The test images of the fold, by their positions in the data set.
    right
        1 for each of them that was named rightly, else 0.
    true_probability
        What was said of the true class of each.
    seconds
        That it took.
    """

    study: str
    strategy: str
    repeat: int
    fold: int
    train: int
    positions: list[int]
    right: list[int]
    true_probability: list[float]
    seconds: float

    def __post_init__(self) -> None:
        if not len(self.positions) == len(self.right) == len(self.true_probability):
            raise ValueError("Fold: positions, right and true_probability must have one length")

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.study, self.strategy, self.repeat, self.fold


@final
class Finished:
    """The finished folds: a JSON object a line, synced once it is written. A line that was cut off is done again.

    Raises
    ------
    DataError
        A line before the last one is damaged: the file is not thrown away without being asked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folds: dict[tuple[str, str, int, int], Fold] = {}
        text = path.read_text("utf-8") if path.is_file() else ""
        whole, _, rest = text.rpartition("\n")
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                fold = Fold(**json.loads(line))
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"{path}, line {number}: not a finished fold ({error})", hint="Remove the line or the file."
                ) from error
            self._folds[fold.key] = fold
        if rest:  # an interrupted write
            with path.open("r+b") as file:
                file.truncate(len(whole.encode()) + bool(whole))

    def get(self, study: str, strategy: str, repeat: int, fold: int) -> Fold | None:
        """The fold, if it is finished."""
        return self._folds.get((study, strategy, repeat, fold))

    def add(self, fold: Fold) -> None:
        """Keep a fold."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(fold)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._folds[fold.key] = fold

    def of(self, study: str, strategy: str) -> list[Fold]:
        """All folds of one strategy, in the order of repeats and folds."""
        own = [fold for fold in self._folds.values() if (fold.study, fold.strategy) == (study, strategy)]
        return sorted(own, key=lambda fold: (fold.repeat, fold.fold))


def fold_differences(first: Sequence[Fold], second: Sequence[Fold]) -> np.ndarray:
    """float64 (folds,): the first's accuracy minus the second's on the same test images.

    Raises ValueError where the two are not of the same folds.
    """
    if [(f.repeat, f.fold, f.positions) for f in first] != [(f.repeat, f.fold, f.positions) for f in second]:
        raise ValueError("fold_differences: the two strategies must have the same folds, in one order")
    return np.array([np.mean(a.right) - np.mean(b.right) for a, b in zip(first, second, strict=True)])


def right_by_image(folds: Iterable[Fold], n: int) -> np.ndarray:
    """float64 (n,): the share of the repeats in which an image was named rightly. NaN where it was never tested."""
    total, count = np.zeros(n), np.zeros(n)
    for fold in folds:
        total[fold.positions] += fold.right
        count[fold.positions] += 1
    return np.divide(total, count, out=np.full(n, np.nan), where=count > 0)


def corrected_interval(differences: np.ndarray, test_share: float, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a mean difference over the folds of a repeated cross-validation.

    The corrected resampled t of Nadeau and Bengio (2003), Machine Learning 52, 239-281: folds share their training
    images, so the variance of the mean is (1/J + n_test/n_train) times the sample variance, not 1/J times.

    Parameters
    ----------
    differences
        float64 (J,), J ≥ 2.
    test_share
        n_test / n_train: 1/4 for five folds.
    """
    count = len(differences)
    if count < 2:
        raise ValueError(f"corrected_interval: two folds are needed at least, got {count}")
    error = np.sqrt((1 / count + test_share) * np.var(differences, ddof=1))
    half = float(t.ppf(0.5 + confidence / 2, count - 1) * error)
    return float(differences.mean()) - half, float(differences.mean()) + half
