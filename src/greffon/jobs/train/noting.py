"""What of a training run is told to the tool that it is tracked in."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from greffon.evaluation import Evaluation
from greffon.jobs.train.outcome import Outcome, Task
from greffon.jobs.train.wishes import FineTuning
from greffon.model import Model, versions
from greffon.report import learning_curves, plot_confusion, plot_reliability
from greffon.tracking import Tracker

__all__ = ["asked_configuration", "note_end"]

#: Of a model's ``training``: what was found on the way, and not asked for.
_CHOSEN = ("strategy", "strength", "balanced", "best_epoch", "stopped", "recipe", "stages", "fidelity")


def asked_configuration(task: Task, unfreeze: str, asked: Mapping[str, str], wishes: FineTuning) -> dict[str, Any]:
    """What the user asked for, and of what data and network: JSON values, without a path of this machine."""
    entry, data = task.network.plan.entry, task.figures_of_data(0)
    told: dict[str, Any] = {
        "backbone": {"name": entry.name, "architecture": entry.architecture, "fingerprint": task.network.fingerprint[:16]},
        "preprocess": {"height": entry.preprocess.height, "width": entry.preprocess.width},
        "unfreeze": unfreeze,
        **asked,
        "class_weights": task.class_weights,
        "fractions": list(task.fractions),
        "seed": task.seed,
        "precision": task.precision,
        "data": {"fingerprint": data["fingerprint"][:16], "images": data["images"], "classes": len(task.dataset.classes), **data["splits"]},
        "versions": versions(),
    }
    if unfreeze != "none":
        recipe = wishes.settled(task.dataset.labels[task.dataset.where("train")], task.class_weights, task.seed)
        told["tuning"] = {"views": wishes.views, "policy": wishes.policy, "keep": wishes.keep}
        told["recipe"] = asdict(recipe)
    return told


def note_end(tracker: Tracker, model: Model, outcome: Outcome, evaluation: Evaluation | None) -> None:
    """The figures with their intervals, what was chosen, and the pictures. Nothing is drawn where nobody listens."""
    if not tracker.active:
        return
    chosen = {name: model.training[name] for name in _CHOSEN if name in model.training}
    chosen |= {"cut": model.cut, "representation": str(model.representation), "precision": model.precision}
    figures = {} if evaluation is None else evaluation.to_dict()
    with tempfile.TemporaryDirectory(prefix="greffon-") as place:
        pictures: dict[str, Path] = {}
        if len(outcome.history) > 1:
            pictures["pictures/learning"] = Path(place, "learning.png")
            learning_curves(outcome.history, pictures["pictures/learning"])
        if evaluation is not None:
            pictures |= {f"pictures/{name}": Path(place, f"{name}.png") for name in ("confusion", "calibration")}
            plot_confusion(evaluation, pictures["pictures/confusion"])
            plot_reliability(evaluation, pictures["pictures/calibration"])
        tracker.finish(figures, chosen, pictures, max(0, len(outcome.history) - 1))
