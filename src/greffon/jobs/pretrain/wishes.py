"""What the user says about self-supervised training, and what the clock has decided of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch

from greffon.activations import KEEPS, Choice, best_precision
from greffon.errors import OptionError
from greffon.images import POLICIES
from greffon.training import Recipe
from greffon.transfer.inductive import Layout
from greffon.transfer.unsupervised import SELF_SUPERVISED

__all__ = ["AUTO", "PLAN_FILE", "Plan", "Pretraining", "read_plan"]

#: Its name in the folder of the result; it is gone once the network is there.
PLAN_FILE = "pretrain_plan.json"

#: What ``--method auto`` is.
AUTO = "simclr"


@final
@dataclass(frozen=True, slots=True)
class Pretraining:
    """The wishes of a user who trains without labels.

    Parameters
    ----------
    method
        ``"auto"`` or a name of ``transfer.unsupervised.SELF_SUPERVISED``.
    unfreeze
        The first stage that is trained; ``""``: the last one.
    views, policy, keep
        How many views of each photo are kept, of which policy, and in what numbers. The first view is the photo as it is; the last one is
        not trained on, and judges the epochs.
    minutes
        How long the run should take; fewer epochs are trained until it fits; 0: any.
    recipe
        Learning rate, epochs, batch and so on. Winograd, precision and seed are settled by the run.
    """

    method: str = "auto"
    unfreeze: str = ""
    views: int = 6
    policy: str = "strong"
    keep: str = "bfloat16"
    minutes: float = 0.0
    recipe: Recipe = field(default_factory=lambda: Recipe(batch=64, epochs=3))

    def __post_init__(self) -> None:
        if self.method != "auto" and self.method not in SELF_SUPERVISED:
            raise OptionError(f"--method must be auto or one of {', '.join(SELF_SUPERVISED)}, got {self.method!r}")
        if not 2 <= self.views <= 1000:
            raise OptionError(f"--views must be from 2 to 1000, got {self.views}",
                              hint="A photo is compared with another view of itself.")  # fmt: skip
        if self.policy not in POLICIES:
            raise OptionError(f"--policy must be one of {', '.join(POLICIES)}, got {self.policy!r}")
        if self.keep not in KEEPS:
            raise OptionError(f"--keep must be one of {', '.join(KEEPS)}, got {self.keep!r}")
        if not 0 <= self.minutes < 1e9:
            raise OptionError(f"--minutes must be 0 or more, got {self.minutes}")

    @property
    def chosen(self) -> str:
        """The method, by its own name."""
        return AUTO if self.method == "auto" else self.method

    def settled(self, seed: int) -> Recipe:
        """The recipe with nothing left open."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        precision = "bfloat16" if best_precision(device) == "bfloat16" else "float32"
        return replace(self.recipe, seed=seed, precision=precision, winograd=precision == "float32" and device == "cpu")


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """What the clock has decided: a run that goes on does the same.

    Parameters
    ----------
    layout
        What is kept of the frozen part.
    engine
        Of the frozen part.
    epochs
        As many as were asked for, or as fit into the minutes.
    recipe
        Its precision and Winograd depend on the machine.
    """

    layout: Layout
    engine: Choice
    epochs: int
    recipe: Recipe

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "layout": self.layout.to_dict(),
            "engine": self.engine.to_dict(),
            "epochs": self.epochs,
            "recipe": self.recipe.to_dict(),
        }


def read_plan(folder: Path) -> Plan | None:
    """The plan of an interrupted run in a folder, or None. Raises OptionError where it is damaged."""
    file = folder / PLAN_FILE
    if not file.is_file():
        return None
    try:
        values = json.loads(file.read_text("utf-8"))
        return Plan(Layout(**values["layout"]), Choice.from_dict(values["engine"]), int(values["epochs"]),
                    Recipe.from_dict(values["recipe"]))  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(f"{file}: cannot be read ({str(error)[:120]})", hint="Start again without --resume.") from error
