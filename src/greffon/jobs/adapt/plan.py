"""What the clock decided in an adaptation above the cut, kept for the run that goes on from it."""

from __future__ import annotations

import json
from pathlib import Path

from greffon.activations import Choice
from greffon.errors import OptionError
from greffon.jobs.adapt.outcome import Task
from greffon.model import write_json
from greffon.transfer.inductive import Layout

__all__ = ["CHECKPOINT_FILE", "PLAN_FILE", "earlier_choices", "write_plan"]

#: Its name in the folder of the result; it is gone once the model is there.
CHECKPOINT_FILE = "checkpoint.safetensors"
#: Likewise: what the clock has decided.
PLAN_FILE = "adapt_plan.json"


def write_plan(task: Task, layout: Layout, plans: tuple[Choice, Choice], checkpoint: Path, resume: bool) -> None:
    """What the clock has decided, so that a run that goes on decides the same."""
    try:
        task.folder.mkdir(parents=True, exist_ok=True)
        write_json(task.folder / PLAN_FILE, {"layout": layout.to_dict(), "engine": plans[0].to_dict(), "training": plans[1].to_dict()})
        if not resume:
            checkpoint.unlink(missing_ok=True)
    except OSError as error:
        raise OptionError(f"--out {task.folder}: cannot be written ({error.strerror or error})") from error
    if resume and not checkpoint.exists():
        task.progress.say(f"there is no checkpoint in {task.folder}: the run begins at its beginning")


def earlier_choices(task: Task, layout: Layout, resume: bool) -> tuple[Choice | None, Choice | None]:
    """The engine and the pace of the run that is to go on, or None. Raises OptionError where it was laid out otherwise."""
    file = task.folder / PLAN_FILE
    if not resume or not file.is_file():
        return None, None
    try:
        about = json.loads(file.read_text("utf-8"))
        before, engine, pace = about["layout"], Choice.from_dict(about["engine"]), Choice.from_dict(about["training"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"{file}: cannot be read ({str(error)[:120]})", hint="Start again without --resume."
        ) from error
    if before != layout.to_dict():
        raise OptionError(f"--resume: the run in {task.folder} was laid out as {before}, this one as {layout.to_dict()}",
                          hint="Give the options of the first run, or start again without --resume.")  # fmt: skip
    return engine, pace
