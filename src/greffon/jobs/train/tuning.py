"""Fine-tuning: the plan, the frozen pass over the views, the training of what is above the cut."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from greffon.activations import Engine, QuantisedEngine, pixels_of, run_filled
from greffon.errors import ImageError, OptionError
from greffon.heads import Normaliser, Representation
from greffon.images import View, views
from greffon.jobs.train.outcome import Outcome, Task
from greffon.jobs.train.plan import PLAN_FILE, Plan, read_plan
from greffon.jobs.train.remembering import remember
from greffon.jobs.train.searching import engine_at, find_hyperparameters
from greffon.jobs.train.wishes import FineTuning
from greffon.model import Model, feature_widths, write_json
from greffon.training import Recipe, as_tensor, chosen_training
from greffon.transfer.inductive import (
    TRAINED,
    Layout,
    Start,
    adopt,
    check_trainable,
    estimate,
    frozen_part,
    grown_on,
    load_optuna,
    run_tuning,
    time_pass,
    time_training,
    with_val,
    within_budget,
)

__all__ = ["CHECKPOINT_FILE", "tune"]

#: Its name in the model folder; it is gone once the model is there.
CHECKPOINT_FILE = "checkpoint.safetensors"


def tune(
    task: Task, cut: str, wishes: FineTuning, *, pool: str, stages: str, norm: str, resume: bool, plan_from: Path | None
) -> Outcome:
    """Fine-tune the stages from ``cut`` upwards, and a new head.

    Raises
    ------
    BackboneError
        There is no such stage.
    OptionError
        A wish that cannot be fulfilled: the budget holds less than a batch, features that cannot be trained through.
    ModelError
        The checkpoint to go on from is damaged, or of another configuration.
    """
    network, listener = task.network, task.progress
    network.position(cut)
    task = replace(task, dataset=with_val(task.dataset, task.scan.groups, task.fractions[1], task.seed))
    representation = _representation(pool, stages, norm)
    recipe = wishes.settled(task.dataset.labels[task.dataset.where("train")], task.class_weights, task.seed)
    earlier = _earlier_plan(task, resume, plan_from)
    plan, engine = _planned(task, cut, wishes, recipe, representation, earlier)
    if plan.why:
        listener.warn(plan.why)
    searching = wishes.tune_minutes > 0 and plan.found is None
    if searching:
        load_optuna()  # its absence is told before anything long begins
    for line in plan.lines(_stages_in_words(network.stages[network.position(plan.layout.cut) :])):
        listener.say(line)
    checkpoint = None
    if task.folder is not None:
        checkpoint = task.folder / CHECKPOINT_FILE
        try:
            task.folder.mkdir(parents=True, exist_ok=True)
            write_json(task.folder / PLAN_FILE, plan.to_dict())
            if not resume:
                checkpoint.unlink(missing_ok=True)
        except OSError as error:
            raise OptionError(f"--out {task.folder}: cannot be written ({error.strerror or error})") from error
        if resume and not checkpoint.exists():
            listener.say(f"there is no checkpoint in {task.folder}: the run begins at its beginning")
    began = time.perf_counter()
    looks = views(wishes.policy, plan.layout.views, task.seed)
    frozen = frozen_part(
        network, engine, plan.layout, looks, task.dataset, task.scan.digests, store=task.store, progress=listener,
        executor=task.executor,
    )
    search = None
    if searching:
        plan, engine, frozen, search = find_hyperparameters(task, plan, engine, frozen, wishes, representation)
        looks = looks[: plan.layout.views]
    elif plan.found is not None:
        listener.say(f"hyperparameters as the search in the plan found them, in {plan.found.trials} trials")
    run = run_tuning(
        network,
        plan.layout,
        frozen,
        task.dataset,
        plan.recipe,
        representation,
        progress=listener,
        find_rate=wishes.find_rate,
        configuration=_configuration(task, plan, engine, looks, representation),
        checkpoint=checkpoint,
        resume=resume,
        listener=task.listener,
        launcher=task.launcher,
    )
    tuned = run.tuned
    model = Model(
        backbone=tuned.backbone,
        cut=tuned.cut,
        classes=task.dataset.classes,
        representation=tuned.representation,
        normaliser=tuned.normaliser,
        head=tuned.head,
        precision=engine.precision,
        training={
            "strategy": "fine-tuning",
            "unfreeze": cut,
            "stages": list(network.stages[network.position(tuned.cut) :]),
            "pretrained": {"name": network.name, "fingerprint": network.fingerprint},
            "recipe": tuned.recipe.to_dict(),
            "views": [look.to_dict() for look in looks],
            "policy": wishes.policy,
            "best_epoch": tuned.best_epoch,
            "stopped": tuned.stopped,
            "history": [
                {"epoch": r.epoch, "loss": r.loss, "val_accuracy": r.accuracy, "val_log_loss": r.log_loss, "stages": r.stages}
                for r in tuned.history
            ],
            "balanced": tuned.recipe.balanced,
            "fitted_on": ["train"],
            "chosen_by": "log-loss on the validation split" if run.val is not None else "nothing: there is no validation split",
            "seed": task.seed,
            "fractions": list(task.fractions),
            "min_fidelity": task.min_fidelity,
            "fidelity": plan.engine.fidelity.to_dict() if plan.engine.fidelity else None,
            "plan": plan.engine.to_dict(),
            "search": plan.found.to_dict() if plan.found else None,
        },
        figures={},
        data=task.figures_of_data(len(frozen.failed)),
        keep=plan.layout.keep,
        quantised=engine.graph if isinstance(engine, QuantisedEngine) else None,
    )
    held = run.train.positions[:0] if run.val is None else run.val.positions
    model = remember(task, model, run.train.positions, held,
                     lambda some: frozen.source.batch(some, np.zeros(len(some), np.int64)).cpu().numpy())  # fmt: skip
    return Outcome(
        model=model,
        dataset=task.dataset,
        test=run.test,
        probabilities=run.probabilities,
        failed=frozen.failed,
        computed=frozen.computed,
        reused=frozen.reused,
        plan=plan.engine,
        timing={
            "pass_seconds": round(frozen.seconds, 2),
            "epoch_seconds": [round(row.seconds, 3) for row in tuned.history[1:]],
            "tuning_seconds": round(time.perf_counter() - began, 2),
        },
        features=run.features,
        history=tuned.history,
        curve=run.curve,
        validated=None if run.val is None else (run.val.positions, run.val_probabilities.argmax(1) == run.val.labels),
        held_out=None if run.val is None else (run.val.positions, run.val_probabilities),
        search=search,
    )


def _representation(pool: str, stages: str, norm: str) -> Representation:
    representation = Representation(
        TRAINED.stages if stages == "auto" else stages,  # type: ignore[arg-type]  # it checks its values itself
        TRAINED.pool if pool == "auto" else pool,  # type: ignore[arg-type]  # as above
        TRAINED.norm if norm == "auto" else norm,  # type: ignore[arg-type]  # as above
    )
    check_trainable(representation)
    return representation


def _earlier_plan(task: Task, resume: bool, plan_from: Path | None) -> Plan | None:
    if plan_from is not None:
        return read_plan(plan_from)
    if resume and task.folder is not None and (task.folder / PLAN_FILE).is_file():
        return read_plan(task.folder)
    return None


def _planned(
    task: Task, cut: str, wishes: FineTuning, recipe: Recipe, representation: Representation, earlier: Plan | None
) -> tuple[Plan, Engine]:
    """The plan, measured on a first batch; or what the clock and the disk decided in an earlier one."""
    dataset, network = task.dataset, task.network
    training, val = len(dataset.where("train")), len(dataset.where("val"))
    others = len(dataset) - training
    wanted = Layout(cut, wishes.views, wishes.keep)
    if earlier is not None:
        layout = earlier.layout
        if not wishes.minutes:
            _must_be_the_same(wanted, earlier.wanted)
        network.position(layout.cut)
        engine, _ = engine_at(task, layout, training, others, earlier.engine)
        before = earlier.recipe
        epochs = before.epochs if wishes.minutes else recipe.epochs
        settled = replace(recipe, winograd=before.winograd, precision=before.precision, epochs=epochs)
        if earlier.found is not None:
            settled = adopt(settled, before)
        return replace(earlier, recipe=settled), engine
    engine, choice = engine_at(task, wanted, training, others)
    images = _some_images(task)
    below = time_pass(engine, network, images[0])
    training_choice = None
    if wishes.training_precision == "auto" and wishes.winograd == "auto":
        steps = recipe.epochs * math.ceil(training / recipe.batch)
        records = as_tensor(run_filled(engine, images), network.preprocess)
        training_choice = chosen_training(network.above(cut), network.fingerprint, records, recipe, steps, task.progress)
        low = training_choice.precision == "bfloat16"
        recipe = replace(recipe, precision="bfloat16" if low else "float32", winograd=recipe.winograd and not low)
    above = time_training(grown_on(network, _blank(network, cut, representation, len(dataset.classes)), recipe), network, cut, recipe)
    layout, why = within_budget(network, wanted, wishes.cache_budget, training, others, val, below, above, recipe)
    if layout.cut != cut:
        engine, choice = engine_at(task, layout, training, others)
    costs = estimate(network, layout, training, others, val, below, above, recipe)
    return Plan(wanted, layout, choice, recipe, costs, why, training=training_choice), engine


def _must_be_the_same(wanted: Layout, before: Layout) -> None:
    """A plan belongs to what was asked for when it was made: something else asked for now would be passed over in silence."""
    names = {"cut": "--unfreeze", "views": "--views", "keep": "--keep"}
    for name, option in names.items():
        now, then = getattr(wanted, name), getattr(before, name)
        if now != then:
            raise OptionError(f"{option} is {now}, and was {then} when the plan of the earlier run was made",
                              hint=f"Give {option} {then}, or start without --resume and --plan.")  # fmt: skip


def _some_images(task: Task, most: int = 4) -> np.ndarray:
    """The first images that can be read, uint8 (k, h, w, 3)."""
    found: list[np.ndarray] = []
    for i in task.learned():
        try:
            found.append(pixels_of(task.dataset.paths[i], task.network.preprocess))
        except ImageError:
            continue
        if len(found) == most:
            break
    if not found:
        raise OptionError(f"{task.dataset.root}: there is no readable image to train on")
    return np.stack(found)


def _blank(network: Any, cut: str, representation: Representation, classes: int) -> Start:
    """A start without features, to time a step with."""
    widths = feature_widths(network, cut)
    count = sum(widths if representation.stages == "all" else widths[-1:]) * (2 if representation.pool == "mean+max" else 1)
    normaliser = Normaliser(representation.norm, np.zeros(count, np.float32), np.ones(count, np.float32))
    return Start(cut, representation, normaliser, np.zeros((0, count), np.float32), np.zeros(0, np.int64), classes)


def _configuration(task: Task, plan: Plan, engine: Engine, looks: Sequence[View], representation: Representation) -> dict[str, Any]:
    """All that the training depends on: a checkpoint goes on with the same alone."""
    return {
        "backbone": task.network.fingerprint,
        "cut": plan.layout.cut,
        "keep": plan.layout.keep,
        "recompute": plan.layout.recompute,
        "engine": engine.fingerprint,
        "views": [look.to_dict() for look in looks],
        "images": task.dataset.fingerprint(task.scan.digests, ordered=True),
        "classes": list(task.dataset.classes),
        "representation": str(representation),
    }


def _stages_in_words(stages: Sequence[str]) -> str:
    if len(stages) > 3:
        return f"{stages[0]} to {stages[-1]}"
    return " and ".join([", ".join(stages[:-1]), stages[-1]]) if len(stages) > 1 else stages[0]
