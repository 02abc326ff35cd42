"""Values of ``model.json``, which may come from elsewhere: what is not of the expected type is not there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, final

from greffon.evaluation import Growth, GrowthPoint
from greffon.model import Model
from greffon.report.run.charts import Epoch

__all__ = ["Told", "epochs_of", "growth_in"]


@final
class Told:
    """A table of JSON values."""

    def __init__(self, values: Any) -> None:
        self._values: Mapping[str, Any] = values if isinstance(values, Mapping) else {}

    def __bool__(self) -> bool:
        return bool(self._values)

    def has(self, key: str) -> bool:
        """Whether there is anything but nothing under a key."""
        return bool(self._values.get(key))

    def number(self, key: str) -> float | None:
        """A finite number, or None."""
        value = self._values.get(key)
        return value if _is_number(value) else None

    def count(self, key: str) -> int | None:
        """A whole number, or None."""
        value = self._values.get(key)
        return value if type(value) is int and _is_number(value) else None

    def text(self, key: str) -> str:
        """A text, or ""."""
        value = self._values.get(key)
        return value if isinstance(value, str) else ""

    def texts(self, key: str) -> tuple[str, ...]:
        """The texts of a list."""
        value = self._values.get(key)
        return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list | tuple) else ()

    def pair(self, key: str) -> tuple[float, float] | None:
        """Two finite numbers, or None."""
        value = self._values.get(key)
        if not isinstance(value, list | tuple) or len(value) != 2:
            return None
        low, high = (one if _is_number(one) else None for one in value)
        return None if low is None or high is None else (low, high)

    def table(self, key: str) -> Told:
        """A table, or an empty one."""
        return Told(self._values.get(key))

    def tables(self, key: str) -> tuple[Told, ...]:
        """The tables of a list."""
        value = self._values.get(key)
        return tuple(Told(one) for one in value if isinstance(one, Mapping)) if isinstance(value, list | tuple) else ()

    def numbers(self) -> dict[str, float]:
        """All numbers of the table by name."""
        return {name: value for name in self._values if (value := self.number(name)) is not None}

    def values(self) -> dict[str, float | str]:
        """All numbers and texts of the table by name."""
        return {name: value for name, value in self._values.items() if isinstance(value, str) or self.number(name) is not None}


def _is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold; true and false are none."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def epochs_of(training: Told) -> tuple[Epoch, ...]:
    """The history of a fine-tuning."""
    found = []
    for row in training.tables("history"):
        number = row.count("epoch")
        if number is not None and number >= 0:
            found.append(Epoch(number, row.number("loss"), row.number("val_log_loss"), row.number("val_accuracy")))
    return tuple(sorted(found, key=lambda one: one.epoch))


def growth_in(model: Model) -> Growth | None:
    """The learning curve that a model remembers, as ``Growth.to_dict`` wrote it; without the law behind it."""
    told = Told(model.training).table("learning_curve")
    images, repeats, folds = (told.count(name) for name in ("images", "repeats", "folds"))
    if images is None or repeats is None or folds is None:
        return None
    points = []
    for one in told.tables("points"):
        count, accuracy, interval = one.count("images"), one.number("accuracy"), one.pair("interval")
        if count is not None and count > 0 and accuracy is not None and interval is not None:
            points.append(GrowthPoint(count, accuracy, interval))
    now, doubled, gain, foretold = (told.number(name) for name in ("now", "doubled", "gain", "foretold"))
    points.sort(key=lambda one: one.images)
    return Growth(tuple(points), images, repeats, folds, None, now, doubled, gain, told.pair("gain_interval"), foretold)
