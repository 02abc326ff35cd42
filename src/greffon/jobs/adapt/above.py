"""Adapting above the cut: some stages are trained, from what was kept of both domains."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from greffon.activations import KEEPS, Choice, Engine, QuantisedEngine, Tap, best_precision, chosen_engine
from greffon.backbones import Backbone
from greffon.datasets import Dataset
from greffon.errors import DataError, OptionError
from greffon.heads import LinearHead, Normaliser, Representation
from greffon.images import POLICIES, View, views
from greffon.jobs.adapt.outcome import Outcome, Task
from greffon.jobs.adapt.plan import CHECKPOINT_FILE, earlier_choices, write_plan
from greffon.model import Model, feature_widths, upper_pooled
from greffon.training import Grown, Recipe, Samples, Trained, chosen_training
from greffon.transfer.inductive import (
    TRAINED,
    Frozen,
    Layout,
    Start,
    frozen_part,
    grown_on,
    prepare,
    should_balance,
    tuned_backbone,
    with_val,
)
from greffon.transfer.transductive import adapt_above, adapt_features, suggested_rates, temperature_for

__all__ = ["Above", "adapt_stages"]


@final
@dataclass(frozen=True, slots=True)
class Above:
    """What a user may wish of adapting above the cut.

    Parameters
    ----------
    unfreeze
        The first stage that is trained; ``""``: the last one.
    views, policy, keep
        As of fine-tuning: augmented views of each image, and in what numbers their activations are kept.
    recipe
        Learning rates (0: what suits the method), epochs, batch and so on. Winograd, precision and seed are settled by the run.
    """

    unfreeze: str = ""
    views: int = 4
    policy: str = "standard"
    keep: str = "bfloat16"
    recipe: Recipe = field(default_factory=lambda: Recipe(learning_rate=0.0, head_learning_rate=0.0))

    def __post_init__(self) -> None:
        if not 1 <= self.views <= 1000:
            raise OptionError(f"--views must be from 1 to 1000, got {self.views}")
        if self.policy not in POLICIES:
            raise OptionError(f"--policy must be one of {', '.join(POLICIES)}, got {self.policy!r}")
        if self.keep not in KEEPS:
            raise OptionError(f"--keep must be one of {', '.join(KEEPS)}, got {self.keep!r}")

    def settled(self, method: str, labels: np.ndarray, seed: int) -> Recipe:
        """The recipe with nothing left open: for a method of ``ABOVE``, and source images with these labels, int64 (n,), none for SHOT."""
        rate, head_rate = suggested_rates(method)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        precision = "bfloat16" if best_precision(device) == "bfloat16" else "float32"
        balanced = bool(len(labels)) and should_balance(labels)
        return replace(
            self.recipe,
            learning_rate=self.recipe.learning_rate or rate,
            head_learning_rate=self.recipe.head_learning_rate or head_rate,
            seed=seed,
            precision=precision,
            winograd=precision == "float32" and device == "cpu",
            balanced=balanced,
        )


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Ground:
    """Both domains after the frozen pass. Positions are those of ``paths``, the source first."""

    paths: tuple[Path, ...]
    labelled: Samples | None
    val: Samples | None
    target: np.ndarray
    frozen: Frozen
    engine: Engine
    plan: Choice
    looks: tuple[View, ...]


def adapt_stages(task: Task, wishes: Above, base: Model | None, *, resume: bool) -> Outcome:
    """Adapt the stages from the cut upwards, and the head, with a method of ``ABOVE``.

    Parameters
    ----------
    base
        Of the source, where its photos are not at hand: the method must be source-free.

    Raises
    ------
    BackboneError
        There is no such stage.
    OptionError
        The base's features cannot be trained through, or a wish cannot be fulfilled.
    ModelError
        The checkpoint to go on from is damaged, or of another configuration.
    """
    network, listener = task.network, task.progress
    cut = _cut(task, wishes, base)
    layout = Layout(cut, wishes.views, wishes.keep)
    labels = task.pair.source.dataset.labels if task.pair.source is not None else np.zeros(0, np.int64)
    recipe = wishes.settled(task.method, labels, task.seed)
    earlier = earlier_choices(task, layout, resume)
    ground = _pass(task, layout, wishes, earlier[0])
    classes = base.classes if base is not None else _source(task).classes
    pace = earlier[1] or _pace(task, cut, ground, recipe)
    low = pace.precision == "bfloat16"
    recipe = replace(recipe, precision="bfloat16" if low else "float32", winograd=recipe.winograd and not low)
    start, grown, first = _start(task, ground, layout, base, recipe, len(classes))
    checkpoint = task.folder / CHECKPOINT_FILE
    write_plan(task, layout, (ground.plan, pace), checkpoint, resume)
    plain = _records(network, cut, ground)
    before = _features(network, cut, start, plain)
    source_only = _probabilities(before[1], start.normaliser, first)
    others = _second_opinion(task, cut, ground, plain, len(classes), source_only)
    configuration = {
        "backbone": network.fingerprint,
        "cut": cut,
        "keep": layout.keep,
        "engine": ground.engine.fingerprint,
        "views": [look.to_dict() for look in ground.looks],
        "data": task.figures_of_data(0),
        "order": [one.dataset.fingerprint(one.digests, ordered=True) for one in (task.pair.source, task.pair.target) if one],
        "classes": list(classes),
        "representation": str(start.representation),
    }
    began = time.perf_counter()
    trained = adapt_above(
        grown,
        ground.frozen.source,
        ground.labelled,
        ground.target,
        task.method,
        recipe,
        val=ground.val,
        progress=listener,
        configuration=configuration,
        checkpoint=checkpoint,
        resume=resume,
    )
    seconds = time.perf_counter() - began
    tuned = tuned_backbone(network, cut, grown)
    head = grown.linear_head()
    after = _features(tuned, cut, start, _records(tuned, cut, ground))
    scores = head.scores(start.normaliser.apply(after[1]))
    agreement = float((scores.argmax(1) == others.argmax(1)).mean())
    head = replace(head, temperature=temperature_for(scores, agreement))
    chosen, adapted, why = _verdict(task.method, trained)
    about = _about(task, wishes, trained, recipe, ground, network, cut, why, seconds)
    if ground.labelled is not None:
        about["agreement_on_features"] = agreement
        listener.say(f"{100 * agreement:.0f} % of the target get the class that the methods on features give: confidences are set by it")
    probabilities = _probabilities(after[1], start.normaliser, head)
    model = Model(
        backbone=tuned,
        cut=cut,
        classes=classes,
        representation=start.representation,
        normaliser=start.normaliser,
        head=head,
        precision=ground.engine.precision,
        training=about,
        figures={},
        data=task.figures_of_data(len(ground.frozen.failed)),
        keep=layout.keep,
        quantised=ground.engine.graph if isinstance(ground.engine, QuantisedEngine) else None,
    )
    offset = len(labels)
    return Outcome(
        model=model,
        method=chosen,
        adapted=adapted,
        why=why,
        positions=ground.target - offset,
        probabilities=probabilities,
        source_only=source_only,
        source_labels=np.zeros(0, np.int64) if ground.labelled is None else ground.labelled.labels,
        before=(start.normaliser.apply(before[0]), start.normaliser.apply(before[1])),
        after=(start.normaliser.apply(after[0]), start.normaliser.apply(after[1])),
        failed={ground.paths[i]: reason for i, reason in sorted(ground.frozen.failed.items())},
        plan=ground.plan,
        computed=ground.frozen.computed,
        reused=ground.frozen.reused,
        history=trained.history,
        proportions=probabilities.mean(0),
    )


def _source(task: Task) -> Dataset:
    assert task.pair.source is not None
    return task.pair.source.dataset


def _cut(task: Task, wishes: Above, base: Model | None) -> str:
    """The stage from which is trained: as wished, that of a base that was fine-tuned, or the last one."""
    network = task.network
    cut = wishes.unfreeze or (base.cut if base is not None and base.cut != "none" else network.stages[-1])
    if cut in ("none", "auto"):
        raise OptionError(f"--method {task.method} trains stages, got --unfreeze {cut}",
                          hint=f"Give one of {', '.join(network.stages)}, or all; or a method on features.")  # fmt: skip
    network.position(cut)
    return cut


def _pass(task: Task, layout: Layout, wishes: Above, earlier: Choice | None) -> _Ground:
    """Run the frozen part over every view of both domains, and the plain one of the source's validation images."""
    source, target = task.pair.source, task.pair.target
    listener = task.progress
    there = target.dataset
    paths, digests = there.paths, target.digests
    roles: tuple[str, ...] = ("train",) * len(there)
    labels, known = np.zeros(0, np.int64), 0
    if source is not None:
        own = source.dataset
        if "val" not in own.splits:
            blank = replace(own, splits=("train",) * len(own))
            own = with_val(blank, source.groups, 0.15, task.seed)
        paths, digests = (*own.paths, *there.paths), (*source.digests, *target.digests)
        roles, labels, known = (*own.splits, *roles), own.labels, len(own)
    both = replace(there, paths=paths, labels=np.full(len(paths), -1), splits=roles, domains=("",) * len(paths))
    count = roles.count("train")
    engine, plan = chosen_engine(
        task.network,
        Tap("map", layout.cut),
        task.precision,
        [paths[i] for i in sorted(range(len(paths)), key=digests.__getitem__)],
        listener,
        images=count * layout.views + len(paths) - count,
        keep=layout.keep,
        plan=earlier,
    )
    looks = views(wishes.policy, layout.views, task.seed)
    frozen = frozen_part(task.network, engine, layout, looks, both, digests, store=task.store, progress=listener,
                         executor=task.executor)  # fmt: skip
    good = np.array([i for i in range(len(paths)) if i not in frozen.failed], np.int64)
    mine = good[good < known]
    train, val = (mine[[roles[i] == role for i in mine.tolist()]] for role in ("train", "val"))
    if not (good >= known).any() or (source is not None and not len(train)):
        raise DataError("none of the photos of one of the domains could be read")
    return _Ground(
        paths=tuple(paths),
        labelled=None if source is None else Samples(train, labels[train]),
        val=None if source is None else Samples(val, labels[val]),
        target=good[good >= known],
        frozen=frozen,
        engine=engine,
        plan=plan,
        looks=tuple(looks),
    )


def _start(
    task: Task, ground: _Ground, layout: Layout, base: Model | None, recipe: Recipe, classes: int
) -> tuple[Start, Grown, LinearHead]:
    """Where training begins, and the head of the source-only model: a new one on the source, or that of the base."""
    network, source = task.network, ground.frozen.source
    if base is None:
        assert ground.labelled is not None
        start = prepare(network, layout.cut, source, ground.labelled, classes, TRAINED)
        head = start.head(balanced=recipe.balanced)
    else:
        look = _same_look(base, layout.cut)
        start = Start(layout.cut, look, base.normaliser, np.zeros((0, len(base.normaliser.mean)), np.float32),
                      np.zeros(0, np.int64), classes)  # fmt: skip
        head = base.head
    if not isinstance(head, LinearHead):
        raise OptionError(f"--method {task.method} needs a model with a linear head, got {head.kind}",
                          hint="Train it with --head logistic.")  # fmt: skip
    grown = grown_on(network, start, recipe)
    grown.begin_at(head)
    return start, grown, head


def _same_look(base: Model, cut: str) -> Representation:
    """The base's representation, where the stages from the cut upwards can be trained through it. Raises OptionError."""
    look = base.representation
    fit = look.pool != "flatten" and look.norm != "sqrt-l2"
    if not fit or (look.stages == "all" and base.cut != cut):
        raise OptionError(
            f"the model reads {look}, which the stages from {cut} upwards cannot be trained through",
            hint="Train it with --stages last --pool mean --norm standard, or fine-tune it.",
        )
    return look


def _records(network: Backbone, cut: str, ground: _Ground) -> tuple[np.ndarray, np.ndarray]:
    """Of the plain views of the source's training images and of the target's: what ``upper_pooled`` gives, float32 (k, d)."""
    own = ground.labelled.positions if ground.labelled is not None else np.zeros(0, np.int64)
    return _pooled(network, cut, ground, own), _pooled(network, cut, ground, ground.target)


def _pooled(network: Backbone, cut: str, ground: _Ground, positions: np.ndarray, block: int = 128) -> np.ndarray:
    parts = [np.zeros((0, 2 * sum(feature_widths(network, cut))), np.float32)]
    for at in range(0, len(positions), block):
        some = positions[at : at + block]
        maps = ground.frozen.source.batch(some, np.zeros(len(some), np.int64)).cpu().numpy()
        parts.append(upper_pooled(network, cut, maps))
    return np.concatenate(parts)


def _features(network: Backbone, cut: str, start: Start, records: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of both domains, float32 (k, d), not yet normalised."""
    source, target = (start.representation.take(one, feature_widths(network, cut)) for one in records)
    return source, target


def _second_opinion(
    task: Task, cut: str, ground: _Ground, records: tuple[np.ndarray, np.ndarray], classes: int, source_only: np.ndarray
) -> np.ndarray:
    """What the methods on features make of the target together, (m, c): as ``auto``. Of a source-free method, the source-only answers.

    The share of the target on which the trained network agrees with them stands in for its accuracy, which nobody knows. From photos to
    paintings, 140 each, DANN named 59 % rightly: it agreed with the methods on features on 69 %, and with the source-only model on 86 %.
    """
    if ground.labelled is None:
        return source_only
    widths = feature_widths(task.network, cut)
    labels = ground.labelled.labels
    return adapt_features(records[0], labels, classes, records[1], widths, seed=task.seed, progress=task.progress).probabilities


def _probabilities(features: np.ndarray, normaliser: Normaliser, head: LinearHead) -> np.ndarray:
    return head.probabilities(normaliser.apply(features))


def _verdict(method: str, trained: Trained) -> tuple[str, bool, str]:
    """The name, whether anything was adapted, and why: a run whose answers collapsed before they improved adapts nothing."""
    if trained.best_epoch == 0:
        return (
            "source-only",
            False,
            f"{method} came to nothing ({trained.stopped or 'every epoch collapsed'}): the start is kept",
        )
    return (
        method,
        True,
        f"as --method asks; epoch {trained.best_epoch} is kept, the last one whose answers did not collapse",
    )


def _about(
    task: Task,
    wishes: Above,
    trained: Trained,
    recipe: Recipe,
    ground: _Ground,
    network: Any,
    cut: str,
    why: str,
    seconds: float,
) -> dict[str, Any]:
    """What the model remembers of its training."""
    return {
        "strategy": "adaptation above the cut",
        "transfer": "transductive",
        "method": task.method,
        "why": why,
        "unfreeze": cut,
        "stages": list(network.stages[network.position(cut) :]),
        "pretrained": {"name": network.name, "fingerprint": network.fingerprint},
        "recipe": recipe.to_dict(),
        "views": [look.to_dict() for look in ground.looks],
        "policy": wishes.policy,
        "best_epoch": trained.best_epoch,
        "stopped": trained.stopped,
        "seed": task.seed,
        "seconds": round(seconds, 2),
        "plan": ground.plan.to_dict(),
    }


def _pace(task: Task, cut: str, ground: _Ground, recipe: Recipe) -> Choice:
    """In what is trained, by a look at a few of the target's images."""
    some = ground.target[:4]
    records = ground.frozen.source.batch(some, np.zeros(len(some), np.int64)).cpu()
    steps = recipe.epochs * math.ceil(len(ground.target if ground.labelled is None else ground.labelled) / recipe.batch)
    return chosen_training(task.network.above(cut), task.network.fingerprint, records, recipe, steps, task.progress)
