"""Which tool a run is written down for, where, and which run of that place it is."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

from greffon.errors import OptionError
from greffon.model import write_json
from greffon.progress import Progress
from greffon.tracking.tracker import Recorder, Tracker

__all__ = ["KINDS", "RUN_FILE", "Wish", "open_tracker", "ready_to_track"]

#: The tool → the module that must be there, and the folder that the tool itself looks into.
KINDS = {"tensorboard": ("tensorboard", "runs"), "mlflow": ("mlflow", "mlruns")}
#: In the model folder: which run it is, so that a training that goes on goes on there as well.
RUN_FILE = "tracking.json"
_NAMES = {"tensorboard": "TensorBoard", "mlflow": "MLflow"}
_RUN = re.compile(r"[\w.\- ]{1,200}")


@final
@dataclass(frozen=True, slots=True)
class Wish:
    """What the user says about tracking: the tool, ``""`` for none, and the folder, by default the tool's own in this one."""

    kind: str = ""
    folder: Path | None = None

    @property
    def place(self) -> Path:
        """The folder that runs are written into."""
        return self.folder if self.folder is not None else Path(KINDS[self.kind][1])


def ready_to_track(wish: Wish, data: Path | None = None) -> None:
    """Raises OptionError where the run could not be written down, before any work.

    Parameters
    ----------
    data
        The photos: the store does not go there, where its pictures would pass for some of them.
    """
    if not wish.kind:
        if wish.folder is not None:
            raise OptionError("--track-dir: means nothing without --track", hint="Give --track tensorboard or --track mlflow.")
        return
    if wish.kind not in KINDS:
        raise OptionError(f"--track must be one of {', '.join(KINDS)}, got {wish.kind!r}")
    module, _ = KINDS[wish.kind]
    if importlib.util.find_spec(module) is None:
        raise OptionError(f"--track {wish.kind}: {_NAMES[wish.kind]} is not installed",
                          hint=f'Install it: pip install "greffon[{wish.kind}]"')  # fmt: skip
    place = wish.place
    try:
        if data is not None and data.is_dir() and place.resolve().is_relative_to(data.resolve()):
            raise OptionError(f"--track-dir {place}: lies in the data, where its pictures would pass for photos",
                              hint="Give a folder elsewhere.")  # fmt: skip
        place.mkdir(parents=True, exist_ok=True)
        probe = place / f".greffon-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"--track-dir {place}: cannot be written ({getattr(error, 'strerror', None) or error})") from error


def open_tracker(wish: Wish, model: Path | None, *, resume: bool, progress: Progress) -> Tracker:
    """A tracker of a new run; of one that goes on (``resume``), of the run that the model folder names, where it is still there.

    Parameters
    ----------
    model
        The model folder: the run is called after it, and its name is kept there.

    Raises
    ------
    OptionError
        The tool cannot be used.
    """
    if not wish.kind:
        return Tracker(None, progress)
    known = _known_runs(model) if model is not None else {}
    earlier = known.get(wish.kind, "") if resume else ""
    called = re.sub(r"[^\w.\-]+", "-", model.resolve().name if model is not None else "")[:60] or "train"
    recorder, run = _recorder(wish, f"{called}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}", earlier)
    if model is not None:
        try:
            model.mkdir(parents=True, exist_ok=True)
            write_json(model / RUN_FILE, {**known, wish.kind: run})
        except OSError as error:
            raise OptionError(f"--out {model}: cannot be written ({error.strerror or error})") from error
    progress.say(f"the run is written down for {_NAMES[wish.kind]} in {wish.place}, as {run}")
    return Tracker(recorder, progress)


def _recorder(wish: Wish, name: str, earlier: str) -> tuple[Recorder, str]:
    try:
        if wish.kind == "tensorboard":
            from greffon.tracking.tensorboard import Board

            board = Board(wish.place, name, earlier)
            return board, board.run
        from greffon.tracking.mlflow import MlflowRun

        run = MlflowRun(wish.place, name, earlier)
        return run, run.run
    except OptionError:
        raise
    except Exception as error:  # a broken installation, or a store that somebody else has made: each tool has errors of its own
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise OptionError(f"--track {wish.kind}: {wish.place} cannot be used ({reason})",
                          hint="Give another --track-dir.") from error  # fmt: skip


def _known_runs(model: Path) -> dict[str, str]:
    """Of an earlier training into the same folder; nothing where the file says nothing that can be used."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        told = json.loads((model / RUN_FILE).read_text("utf-8"))
        if isinstance(told, dict):
            return {kind: run for kind, run in told.items() if kind in KINDS and isinstance(run, str)
                    and _RUN.fullmatch(run) and run.strip(". ")}  # fmt: skip
    return {}
