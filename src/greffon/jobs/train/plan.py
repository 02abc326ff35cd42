"""The plan of a fine-tuning run: every choice that the clock or the disk had a part in, written down before it starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from greffon.activations import KEEPS, Choice
from greffon.errors import OptionError
from greffon.training import Recipe
from greffon.transfer.inductive import Costs, Layout, Search

__all__ = ["PLAN_FILE", "Found", "Plan", "read_plan"]

#: Its name in the model folder.
PLAN_FILE = "plan.json"


@final
@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, as far as a plan and a model remember it; every trial stands in ``tuning.json``.

    Parameters
    ----------
    values
        Of the trial that was chosen, by name.
    trials, pruned
        How many there were, and how many of them were given up early.
    log_loss, default_log_loss
        Validation log-loss, in nats: of the chosen trial, whose figure is flattered by the choice, and of the default.
    importances, basis
        See ``transfer.inductive.Search``.
    seconds
        That it took.
    """

    values: Mapping[str, float | int | str]
    trials: int
    pruned: int
    log_loss: float
    default_log_loss: float
    importances: Mapping[str, float]
    basis: str
    seconds: float

    @classmethod
    def of(cls, search: Search) -> Found:
        """The summary of a search."""
        pruned = sum(one.ended == "pruned" for one in search.trials)
        best, default = search.best, search.trials[0]
        return cls(dict(best.values), len(search.trials), pruned, best.log_loss, default.log_loss, dict(search.importances),
                   search.basis, round(search.seconds, 2))  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Found:
        """The inverse of ``to_dict``. Raises KeyError, TypeError or ValueError where something is missing or cannot be."""
        return cls(
            values=dict(values["values"]),
            trials=int(values["trials"]),
            pruned=int(values["pruned"]),
            log_loss=float(values["log_loss"]),
            default_log_loss=float(values["default_log_loss"]),
            importances={str(name): float(share) for name, share in dict(values["importances"]).items()},
            basis=str(values["basis"]),
            seconds=float(values["seconds"]),
        )


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does, and what it is expected to cost. With the same images, options and seed it gives the same model.

    Parameters
    ----------
    wanted
        What was asked for: cut, views, and how they are kept.
    layout
        What is done; where the disk is too small it is another.
    engine
        Of the frozen part.
    recipe
        Of the training.
    costs
        Estimated before the start.
    why
        What was changed of the wishes, or "".
    found
        Of a search for hyperparameters, that has ended: recipe and layout are what it found. None where there was none.
    training
        What the recipe's precision was chosen from; None where it was given.
    """

    wanted: Layout
    layout: Layout
    engine: Choice
    recipe: Recipe
    costs: Costs
    why: str = ""
    found: Found | None = None
    training: Choice | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "wanted": self.wanted.to_dict(),
            "layout": self.layout.to_dict(),
            "engine": self.engine.to_dict(),
            "recipe": self.recipe.to_dict(),
            "costs": self.costs.to_dict(),
            "why": self.why,
            "search": self.found.to_dict() if self.found else None,
            "training": self.training.to_dict() if self.training else None,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The inverse of ``to_dict``. Raises OptionError where something is missing or cannot be."""
        try:
            wanted, layout, costs = _layout(values["wanted"]), _layout(values["layout"]), _costs(values["costs"])
            known = values.get("search")  # which plans had not, before there was a search
            found = Found.from_dict(known) if known is not None else None
            engine, recipe = Choice.from_dict(values["engine"]), Recipe.from_dict(values["recipe"])
            chosen = values.get("training")
            training = Choice.from_dict(chosen) if chosen is not None else None
            return cls(wanted, layout, engine, recipe, costs, str(values["why"]), found, training)
        except (KeyError, TypeError, ValueError) as error:
            raise OptionError(f"the plan of a run is damaged ({type(error).__name__}: {str(error)[:160]})") from error

    def lines(self, training_stages: str) -> list[str]:
        """What a person should know before it starts."""
        layout, costs, recipe = self.layout, self.costs, self.recipe
        views = f"{layout.views} views" if layout.views > 1 else "1 view"
        kept = (
            "nothing is kept on disk"
            if layout.recompute
            else f"{costs.disk_bytes / 1e6:,.0f} MB on disk in {layout.keep} ({costs.record_bytes / 1e3:,.0f} kB each)"
        )
        fast = ", 3 × 3 convolutions by Winograd's way" if recipe.winograd else ""
        return [
            f"plan: {training_stages} and a new head are trained; {costs.training} images × {views}"
            f" + {costs.others} others; {kept}",
            f"plan: frozen part in {self.engine.precision}: some {costs.pass_seconds:,.0f} s where nothing is known yet;"
            f" some {costs.epoch_seconds:,.1f} s an epoch × {recipe.epochs}, in {recipe.precision}{fast};"
            f" some {costs.memory_bytes / 1e9:,.1f} GB of memory",
        ]


def _layout(values: Mapping[str, Any]) -> Layout:
    layout = Layout(**values)
    kinds = tuple(type(value) for value in (layout.cut, layout.views, layout.keep, layout.recompute))
    if kinds != (str, int, str, bool) or not 1 <= layout.views <= 1000 or layout.keep not in KEEPS:
        raise ValueError(f"a layout that cannot be: {str(values)[:80]}")
    return layout


def _costs(values: Mapping[str, Any]) -> Costs:
    costs = Costs(**values)
    if not all(type(value) in (int, float) and abs(value) < 1e30 for value in costs.to_dict().values()):
        raise TypeError("a cost that is no number")
    return costs


def read_plan(path: Path) -> Plan:
    """A plan that an earlier run wrote: ``plan.json``, or the model folder that it stands in.

    Raises OptionError where there is none, or it is damaged.
    """
    file = path / PLAN_FILE if path.is_dir() else path
    try:
        if file.stat().st_size > 2**24:
            raise OptionError(f"--plan {file}: larger than 16 MiB, which no plan is")
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"--plan {file}: cannot be read ({error.strerror})", hint="Give the plan.json of an earlier run.") from error
    except (ValueError, RecursionError) as error:
        raise OptionError(f"--plan {file}: not JSON, or damaged ({str(error)[:160]})") from error
    if not isinstance(values, dict):
        raise OptionError(f"--plan {file}: a JSON object is expected")
    try:
        return Plan.from_dict(values)
    except OptionError as error:
        raise OptionError(f"--plan {file}: {error.what}") from error
