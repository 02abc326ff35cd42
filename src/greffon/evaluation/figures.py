"""A model on a test split: the only reader of test labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from greffon.errors import DataError
from greffon.heads import softmax
from greffon.metrics import (
    calibration_error,
    calibration_error_by_chance,
    confusion,
    log_loss,
    per_class,
    reliability,
    top_k_accuracy,
    wilson_interval,
)

__all__ = ["ClassFigures", "Evaluation", "ReliabilityBin", "evaluate_probabilities"]


@final
@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class of a test split. NaN where a figure is not defined."""

    name: str
    count: int
    precision: float
    recall: float
    f1: float

    @property
    def interval(self) -> tuple[float, float]:
        """Of the recall, which is the accuracy on the images of this class: 95 % (Wilson); from 0 to 1 where there are none."""
        return wilson_interval(0 if math.isnan(self.recall) else round(self.recall * self.count), self.count)


@final
@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Images of which the model was about equally sure: their number, the mean confidence, and how many were named rightly."""

    count: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The figures of one model on one set of labelled images. Intervals are of 95 % (Wilson).

    ``uncalibrated_error`` is the calibration error before the temperature, None where that is not known; ``chance_error`` what chance
    alone makes of one with so many images (see ``metrics.calibration_error_by_chance``).
    """

    accuracy: float
    accuracy_interval: tuple[float, float]
    n: int
    balanced_accuracy: float
    top5_accuracy: float | None
    log_loss: float
    calibration_error: float
    classes: tuple[ClassFigures, ...]
    confusion: np.ndarray  # int64 (c, c): row true, column predicted
    reliability: tuple[ReliabilityBin, ...] = ()
    uncalibrated_error: float | None = None
    chance_error: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``metrics.json``."""
        figures: dict[str, Any] = {
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "n": self.n,
            "balanced_accuracy": self.balanced_accuracy,
        }
        if self.top5_accuracy is not None:
            figures["top5_accuracy"] = self.top5_accuracy
        figures |= {
            "log_loss": self.log_loss,
            "expected_calibration_error": self.calibration_error,
            "expected_calibration_error_uncalibrated": self.uncalibrated_error,
            "expected_calibration_error_by_chance": self.chance_error,
            "reliability": [asdict(one) | {"interval": list(one.interval)} for one in self.reliability],
            "classes": [
                {
                    "name": one.name,
                    "count": one.count,
                    "precision": _or_none(one.precision),
                    "recall": _or_none(one.recall),
                    "recall_interval": list(one.interval),
                    "f1": _or_none(one.f1),
                }
                for one in self.classes
            ],
            "confusion": self.confusion.tolist(),
        }
        return figures


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def evaluate_probabilities(
    truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, temperature: float | None = None
) -> Evaluation:
    """Figures of probabilities (n, c) against the true classes, int64 (n,).

    ``temperature``: what the scores were divided by, where the probabilities are their softmax.

    Raises DataError where n is 0, a true class is not one of the c, or a probability is not finite.
    """
    n = len(truth)
    if n == 0:
        raise DataError("there are no labelled images to evaluate on")
    if probabilities.shape != (n, len(classes)) or not np.isfinite(probabilities).all():
        raise DataError(f"evaluate: expected finite probabilities ({n}, {len(classes)}), got {probabilities.shape} or some that are not")
    if truth.min() < 0 or truth.max() >= len(classes):
        raise DataError(f"evaluate: the true classes must be from 0 to {len(classes) - 1}, got {truth.min()} to {truth.max()}")
    predicted = probabilities.argmax(1)
    right = int((predicted == truth).sum())
    table = confusion(truth, predicted, len(classes))
    each = per_class(table)
    seen = each["count"] > 0
    # The softmax of scores / T, taken to the power of T and made to sum to 1, is that of the scores.
    before = None if temperature is None else softmax(temperature * np.log(np.maximum(probabilities, 1e-300)))
    return Evaluation(
        accuracy=right / n,
        accuracy_interval=wilson_interval(right, n),
        n=n,
        balanced_accuracy=float(each["recall"][seen].mean()),
        top5_accuracy=top_k_accuracy(truth, probabilities, 5) if len(classes) > 5 else None,
        log_loss=log_loss(truth, probabilities),
        calibration_error=calibration_error(truth, probabilities),
        classes=tuple(
            ClassFigures(name, int(each["count"][i]), float(each["precision"][i]), float(each["recall"][i]), float(each["f1"][i]))
            for i, name in enumerate(classes)
        ),
        confusion=table,
        reliability=tuple(ReliabilityBin(n, sure, share, wilson_interval(round(n * share), n)) for n, sure, share in
                          reliability(truth, probabilities)),
        uncalibrated_error=None if before is None else calibration_error(truth, before),
        chance_error=calibration_error_by_chance(probabilities),
    )
