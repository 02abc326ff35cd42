"""What an evaluation finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.datasets import Dataset
from greffon.evaluation import AbstainFigures, Evaluation, PairedFigures, SizeGroup, UnknownFigures

__all__ = ["Apart", "Difference", "EvaluateResult", "Rival", "SetFigures"]


@final
@dataclass(frozen=True, slots=True)
class Difference:
    """What the precision that a model was trained in changes against float32, on the same n images."""

    precision: str
    n: int
    predictions: int  # how many images have another most probable class
    largest: float  # difference of a probability
    accuracy: float  # in the precision of the training

    def to_dict(self) -> dict[str, float | int | str]:
        """As JSON values."""
        return {
            "precision": self.precision,
            "n": self.n,
            "predictions_that_differ": self.predictions,
            "largest_probability_difference": self.largest,
            "accuracy": self.accuracy,
        }


@final
@dataclass(frozen=True, slots=True)
class SetFigures:
    """How often sets of classes held the true one, with an interval of 95 %, where ``asked`` was asked for; and their sizes."""

    asked: float
    coverage: float
    interval: tuple[float, float]
    mean_size: float
    empty: float
    single: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"interval": list(self.interval)}


@final
@dataclass(frozen=True, slots=True)
class Apart:
    """An image that two models name differently."""

    path: Path
    label: str
    first: str
    second: str

    def to_dict(self) -> dict[str, str]:
        """As JSON values."""
        return {"path": str(self.path), "label": self.label, "said": self.first, "said_against": self.second}


@final
@dataclass(frozen=True, slots=True, eq=False)
class Rival:
    """Another model on the same images, and where the two part."""

    model: Path
    figures: PairedFigures
    apart: tuple[Apart, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"model": str(self.model), **self.figures.to_dict(), "images": [one.to_dict() for one in self.apart]}


@final
@dataclass(frozen=True, slots=True, eq=False)
class EvaluateResult:
    """Figures, and the images that they speak of."""

    evaluation: Evaluation
    dataset: Dataset
    probabilities: np.ndarray  # float64 (n, c)
    unreadable: tuple[tuple[Path, str], ...]
    views: int
    difference: Difference | None = None  # with precision="exact", for a model that was trained in a cheaper one
    sets: SetFigures | None = None  # where a coverage was asked for
    sizes: tuple[SizeGroup, ...] = ()
    abstaining: AbstainFigures | None = None  # where a share was asked for
    unknown: UnknownFigures | None = None  # where photos of other classes were given
    rival: Rival | None = None  # where another model was given

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``evaluate --json``, and of ``evaluation.json``."""
        return {
            **self.evaluation.to_dict(),
            "views": self.views,
            "unreadable": [{"path": str(path), "reason": reason} for path, reason in self.unreadable],
            **({} if self.difference is None else {"difference": self.difference.to_dict()}),
            **({} if self.sets is None else {"sets": self.sets.to_dict()}),
            "sizes": [one.to_dict() for one in self.sizes],
            **({} if self.abstaining is None else {"abstain": self.abstaining.to_dict()}),
            **({} if self.unknown is None else {"unknown": self.unknown.to_dict()}),
            **({} if self.rival is None else {"against": self.rival.to_dict()}),
        }
