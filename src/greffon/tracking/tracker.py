"""What is told of a run, whatever the tool: its configuration, its epochs, its figures, its pictures."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, final

from greffon.progress import Progress
from greffon.training import EpochRow

__all__ = ["Recorder", "Tracker", "Value", "flattened"]

#: What a configuration is made of.
Value = str | int | float | bool


class Recorder(Protocol):
    """One run in one tool's store. What is there already is not written again: a run that goes on tells all of its beginning anew."""

    def begin(self) -> None:
        """The run goes on, or begins."""

    def configuration(self, values: Mapping[str, Value]) -> None:
        """Names and values of what the run depends on; those of an earlier call stay."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Figures after an epoch."""

    def pictures(self, files: Mapping[str, Path]) -> None:
        """PNG files by their names."""

    def figures(self, values: Mapping[str, float], configuration: Mapping[str, Value], step: int) -> None:
        """Of the whole run, at its end."""

    def end(self, how: str) -> None:
        """``"finished"``, ``"failed"`` or ``"killed"``."""


@final
class Tracker:
    """Tells a recorder of a run. A fault of the store is told once, and training goes on without it.

    It is an ``EpochListener``. Without a recorder it does nothing.
    """

    def __init__(self, recorder: Recorder | None, progress: Progress) -> None:
        self._recorder, self._progress = recorder, progress
        self._known: dict[str, Value] = {}

    @property
    def active(self) -> bool:
        """Whether anybody listens."""
        return self._recorder is not None

    @contextlib.contextmanager
    def running(self, configuration: Callable[[], Mapping[str, Any]]) -> Iterator[None]:
        """The long part of a run; where it ends in an error, the store is told so.

        Parameters
        ----------
        configuration
            Gives what the run depends on, as JSON values; asked for only where somebody listens.
        """
        if self._recorder is not None:
            self._tell(lambda to: to.begin())
            self._configure(configuration())
        try:
            yield
        except BaseException as error:
            how = "failed" if isinstance(error, Exception) else "killed"
            self._tell(lambda to: to.end(how))
            raise

    def follow(self, history: Sequence[EpochRow]) -> None:
        """See ``training.EpochListener``."""
        for row in history:
            self._tell(lambda to, row=row: to.numbers(row.epoch, _numbers(row)))

    def finish(self, figures: Mapping[str, Any], chosen: Mapping[str, Any], pictures: Mapping[str, Path], epochs: int) -> None:
        """The run is over.

        Parameters
        ----------
        figures
            ``metrics.json``'s values; those that are no numbers are passed over, an interval becomes its two ends.
        chosen
            What was found on the way, as JSON values; in the configuration ``chosen.``.
        epochs
            The last step.
        """
        if self._recorder is None:
            return
        self._configure({"chosen": chosen})
        told = _ends(figures)
        self._tell(lambda to: to.figures(told, self._known, epochs))
        self._tell(lambda to: to.pictures(pictures))
        self._tell(lambda to: to.end("finished"))

    def _configure(self, values: Mapping[str, Any]) -> None:
        flat = flattened(values)
        self._known |= flat
        self._tell(lambda to: to.configuration(flat))

    def _tell(self, what: Callable[[Recorder], None]) -> None:
        if self._recorder is None:
            return
        try:
            what(self._recorder)
        except Exception as error:  # whatever the other tool raises: the training is worth more than its diary
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            self._progress.warn(f"--track: the run is no longer written down ({reason}); the training goes on")
            self._recorder = None


def _numbers(row: EpochRow) -> dict[str, float]:
    """An epoch's figures by their names in the store; those that are not known are left out."""
    known: dict[str, float | None] = {
        "train/loss": row.loss,
        "val/accuracy": row.accuracy,
        "val/log_loss": row.log_loss,
    }
    if row.epoch:
        known |= {
            "learning_rate/top_stage": row.learning_rate,
            "learning_rate/head": row.head_learning_rate,
            "trained_stages": float(row.stages),
            "seconds": row.seconds,
        }
    return {name: value for name, value in known.items() if value is not None and math.isfinite(value)}


def _ends(figures: Mapping[str, Any]) -> dict[str, float]:
    told: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int | float) and math.isfinite(value):
            told[f"test/{name}"] = float(value)
        elif name.endswith("_interval") and isinstance(value, list) and len(value) == 2:
            told |= {f"test/{name.removesuffix('_interval')}_{end}": float(one) for end, one in zip(("low", "high"), value, strict=True)}
    return told


def flattened(values: Mapping[str, Any], before: str = "") -> dict[str, Value]:
    """Nested JSON values by dotted names; lists as text, at most 250 signs of it; what is None is left out."""
    flat: dict[str, Value] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{before}{name}.")
        elif isinstance(value, str | int | float):
            flat[before + name] = value[:250] if isinstance(value, str) else value
        elif value is not None:
            flat[before + name] = ", ".join(str(one) for one in value)[:250] if isinstance(value, list | tuple) else str(value)[:250]
    return flat
