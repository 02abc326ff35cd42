"""What a transductive method is given. The target comes as a value without a field for labels: none can be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.errors import DataError

__all__ = ["Labelled", "Unlabelled"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """The source: features and their classes.

    Parameters
    ----------
    features
        float32 (n, d).
    labels
        int64 (n,), from 0 to ``classes`` - 1. A class may have no image.
    classes
        How many there are.

    Raises
    ------
    DataError
        Shapes or values that do not fit each other.
    """

    features: np.ndarray
    labels: np.ndarray
    classes: int

    def __post_init__(self) -> None:
        _check("source", self.features)
        if self.labels.shape != (len(self.features),) or self.labels.dtype.kind not in "iu":
            raise DataError(
                f"source: labels must be whole numbers ({len(self.features)},), got {self.labels.dtype} {self.labels.shape}"
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < self.classes:
            raise DataError(
                f"source: labels must be from 0 to {self.classes - 1}, got {self.labels.min()} to {self.labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.features)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Unlabelled:
    """The target: features, and nothing else.

    Parameters
    ----------
    features
        float32 (m, d).

    Raises
    ------
    DataError
        It is no table of finite numbers.
    """

    features: np.ndarray

    def __post_init__(self) -> None:
        _check("target", self.features)

    def __len__(self) -> int:
        return len(self.features)


def _check(whose: str, features: np.ndarray) -> None:
    if features.ndim != 2 or not len(features):
        raise DataError(f"{whose}: features must be (n, d) of one image or more, got {features.shape}")
    if not np.isfinite(features).all():
        raise DataError(f"{whose}: features must be finite numbers")
