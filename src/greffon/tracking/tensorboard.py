"""TensorBoard: event files in a folder a run, written by torch's own writer."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from greffon.images import decode
from greffon.tracking.tracker import Value

__all__ = ["Board", "steps_in"]

_START = "_hparams_/session_start_info"


@final
class Board:
    """A ``Recorder``: ``place/run/events.out.tfevents.*``.

    Parameters
    ----------
    place
        What ``tensorboard --logdir`` is given.
    name
        Of a new run.
    earlier
        Of a run to go on with, where it is there; or "".
    """

    def __init__(self, place: Path, name: str, earlier: str) -> None:
        self.run = earlier if earlier and (place / earlier).is_dir() else name
        self._folder = place / self.run
        self._known = steps_in(self._folder) if self.run == earlier else {}
        self._writer: Any = None

    def begin(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # protobuf and TensorBoard warn of each other
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), flush_secs=10)

    def configuration(self, values: Mapping[str, Value]) -> None:
        if values and self._is_new("configuration/text_summary", len(values)):
            rows = "\n".join(f"    {name}: {value}" for name, value in values.items())
            self._writer.add_text("configuration", rows, len(values))  # four spaces: shown as it is
            self._writer.flush()

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        fresh = {name: value for name, value in values.items() if self._is_new(name, step)}
        for name, value in fresh.items():
            self._writer.add_scalar(name, value, step)
        if fresh:
            self._writer.flush()  # whatever kills the run, this epoch is there

    def pictures(self, files: Mapping[str, Path]) -> None:
        for name, file in files.items():
            if self._is_new(name, 0):
                self._writer.add_image(name, decode(file.read_bytes()), 0, dataformats="HWC")
        self._writer.flush()

    def figures(self, values: Mapping[str, float], configuration: Mapping[str, Value], step: int) -> None:
        from torch.utils.tensorboard.summary import hparams

        self.numbers(step, values)
        if _START not in self._known and values:
            self._known[_START] = {step}
            for part in hparams(dict(configuration), dict(values)):  # the three records that the page of hyperparameters reads
                self._writer.file_writer.add_summary(part, step)
        self._writer.flush()

    def end(self, how: str) -> None:
        self._writer.close()

    def _is_new(self, name: str, step: int) -> bool:
        """Whether this has not been written yet; from now on it has."""
        steps = self._known.setdefault(name, set())
        if step in steps:
            return False
        steps.add(step)
        return True


def steps_in(folder: Path) -> dict[str, set[int]]:
    """The steps of every tag that a run's event files hold. A record that was cut off where a process died is passed over."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

        found: dict[str, set[int]] = {}
        for file in sorted(folder.glob("*tfevents*")):
            for event in EventFileLoader(str(file)).Load():
                for value in event.summary.value:
                    found.setdefault(value.tag, set()).add(int(event.step))
    return found
