"""What the report of a model is made of: named, frozen, and handed down by a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from greffon.auditing import Finding
from greffon.datasets import Dataset, Scan
from greffon.evaluation import Evaluation, Growth
from greffon.model import Model

__all__ = ["HeatPictures", "RunReport"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class HeatPictures:
    """Photos with what spoke for the class that they were taken for, in colour.

    Parameters
    ----------
    method
        The name of the one of ``explaining.METHODS`` that drew them.
    pictures
        Position among the images of the report → uint8 (h, w, 3).
    """

    method: str
    pictures: Mapping[int, np.ndarray]


@final
@dataclass(frozen=True, slots=True, eq=False)
class RunReport:
    """A model, and what it says of n labelled images.

    Parameters
    ----------
    evaluation
        The figures of these images; None where there are none.
    tested, probabilities
        The images, and float64 (n, c) of what the model says of them. Classes are those of the model.
    held_out
        Whether it is known that none of them had a part in the training.
    looked, unreadable
        The data that they are of as a look at every file found it, and the files that were set aside, with the reason.
    findings
        Faults of that data.
    features
        float32 (n, d): what the head was given of them, for the map; None: the map is of the probabilities.
    growth
        The learning curve; None where it was not measured.
    heat
        Of some mistakes.
    search
        A picture of the search for hyperparameters, a PNG file; shown only where the model came of one.
    """

    model: Model
    evaluation: Evaluation | None
    tested: Dataset
    probabilities: np.ndarray
    held_out: bool
    looked: Scan
    unreadable: tuple[tuple[Path, str], ...] = ()
    findings: tuple[Finding, ...] = ()
    features: np.ndarray | None = None
    growth: Growth | None = None
    heat: HeatPictures | None = None
    search: Path | None = None
