"""``--tune``: which cuts a search may try in its time and on this disk, and what of it is written down."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import final

from greffon.activations import Choice, Engine, Tap, chosen_engine
from greffon.errors import StoreError
from greffon.heads import Representation
from greffon.images import views
from greffon.jobs.train.outcome import Task
from greffon.jobs.train.plan import PLAN_FILE, Found, Plan
from greffon.jobs.train.wishes import FineTuning
from greffon.model import write_json
from greffon.report import plot_search
from greffon.training import FirstViews
from greffon.transfer.inductive import Costs, Frozen, Ground, Layout, Search, estimate, frozen_part, samples_of, search

__all__ = ["SEARCH_FILE", "SEARCH_PICTURE", "engine_at", "find_hyperparameters"]

#: Their names in the model folder.
SEARCH_FILE, SEARCH_PICTURE = "tuning.json", "tuning.png"

_SHARE = 1 / 3  # of the time: for the passes at other cuts together, and for one training at each of them


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A cut at which everything is ready to train."""

    layout: Layout
    engine: Engine
    choice: Choice
    frozen: Frozen


def engine_at(task: Task, layout: Layout, training: int, others: int, plan: Choice | None = None) -> tuple[Engine, Choice]:
    """The engine of the frozen part for a layout; with an earlier choice, nothing is measured. See ``chosen_engine``."""
    learned = task.learned()
    return chosen_engine(
        task.network,
        Tap("map", layout.cut),
        task.precision,
        [task.dataset.paths[i] for i in learned],
        task.progress,
        least=task.min_fidelity,
        images=training * layout.views + others,
        keep=layout.keep,
        labels=task.dataset.labels[learned],
        plan=plan,
    )


def find_hyperparameters(
    task: Task, plan: Plan, engine: Engine, frozen: Frozen, wishes: FineTuning, representation: Representation
) -> tuple[Plan, Engine, Frozen, Search]:
    """Search on the validation images for ``wishes.tune_minutes``, the passes at other cuts included.

    Where the task has a folder, the trials and their picture are written there and, last, the plan with the result: a run
    that goes on finds all of it there, or searches from the beginning.

    Raises
    ------
    OptionError
        Optuna is not installed, or there are no validation images.
    """
    listener, dataset = task.progress, task.dataset
    began, seconds = time.perf_counter(), wishes.tune_minutes * 60
    train, val = samples_of(dataset, "train", frozen), samples_of(dataset, "val", frozen)
    listener.say(f"search: {wishes.tune_minutes:g} minutes, judged by the log-loss of {len(val)} validation images")
    ready = [_Prepared(plan.layout, engine, plan.engine, frozen)]
    if not plan.layout.recompute and len(val):
        ready += _other_cuts(task, plan, wishes, seconds)
    found = search(
        task.network,
        [Ground(one.layout, one.frozen.source) for one in ready],
        train,
        val,
        len(dataset.classes),
        plan.recipe,
        representation,
        seconds=seconds - (time.perf_counter() - began),
        seed=task.seed,
        progress=listener,
    )
    chosen = next(one for one in ready if one.layout.cut == found.layout.cut)
    costs = plan.costs if found.layout == plan.layout else _costs(task, plan, found.layout)
    noted = Found.of(found)
    settled = replace(plan, layout=found.layout, engine=chosen.choice, recipe=found.recipe, costs=costs, found=noted)
    listener.say(
        f"search: trial {found.best.number} of {noted.trials} is taken, {noted.pruned} were given up early; validation log-loss"
        f" {noted.log_loss:.3f}, of the default {noted.default_log_loss:.3f} (chosen by it, so the figure flatters)"
    )
    if len(found.trials) == 1:
        listener.warn(
            f"the search had time for the default alone, and {found.best.epochs} of its {plan.recipe.epochs} epochs: nothing was"
            " compared; a longer --tune, fewer --epochs or a higher cut helps"
        )
    if task.folder is not None:
        write_json(task.folder / SEARCH_FILE, found.to_dict())
        plot_search(found, task.folder / SEARCH_PICTURE)
        write_json(task.folder / PLAN_FILE, settled.to_dict())
    source = FirstViews(chosen.frozen.source, found.layout.views)
    counted = replace(
        chosen.frozen,
        source=source,
        computed=sum(one.frozen.computed for one in ready),
        reused=sum(one.frozen.reused for one in ready),
        seconds=sum(one.frozen.seconds for one in ready),
    )
    return settled, chosen.engine, counted, found


def _other_cuts(task: Task, plan: Plan, wishes: FineTuning, seconds: float) -> list[_Prepared]:
    """The stages above the cut, the nearest first, and the one below it: as far as their passes take a third of the time."""
    network, listener = task.network, task.progress
    place = network.position(plan.layout.cut)
    names = [*network.stages[place + 1 :], *network.stages[max(0, place - 1) : place]]
    looks = views(wishes.policy, plan.layout.views, task.seed)
    training, others, disk = plan.costs.training, plan.costs.others, plan.costs.disk_bytes
    began, ready, left_out = time.perf_counter(), [], []
    for name in names:
        layout = replace(plan.layout, cut=name)
        costs = _costs(task, plan, layout)
        left = _SHARE * seconds - (time.perf_counter() - began)
        too_slow = costs.pass_seconds > left or plan.recipe.epochs * costs.epoch_seconds > _SHARE * seconds
        if too_slow or (wishes.cache_budget and disk + costs.disk_bytes > wishes.cache_budget):
            left_out.append(f"{name} ({'time' if too_slow else 'disk'})")
            continue
        try:
            engine, choice = engine_at(task, layout, training, others)
            frozen = frozen_part(
                network, engine, layout, looks, task.dataset, task.scan.digests, store=task.store, progress=listener,
                executor=task.executor,
            )
        except StoreError as error:
            listener.warn(f"search: the cut below {name} is left out: {error.what}")
            continue
        disk += costs.disk_bytes
        ready.append(_Prepared(layout, engine, choice, frozen))
    told = ", ".join([plan.layout.cut, *(one.layout.cut for one in ready)])
    listener.say(f"search: cuts below {told}" + (f"; not affordable: {', '.join(left_out)}" if left_out else ""))
    return ready


def _costs(task: Task, plan: Plan, layout: Layout) -> Costs:
    """What another layout costs, at the speeds that the plan was made with."""
    val = len(task.dataset.where("val"))
    known = plan.costs
    unit = estimate(task.network, plan.layout, known.training, known.others, val, 1.0, 1.0, plan.recipe)
    above = unit.epoch_seconds / max(known.epoch_seconds, 1e-9)
    # Below the first stage no network runs; the stages then run as fast as they are trained.
    below = unit.pass_seconds / max(known.pass_seconds, 1e-9) if unit.pass_seconds and known.pass_seconds else above
    return estimate(task.network, layout, known.training, known.others, val, below, above, plan.recipe)
