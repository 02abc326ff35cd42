"""A fine-tuning run from images to a tuned model: the frozen pass over every view, the training, the test."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Activations, Engine, Executor, Store, compute, compute_views
from greffon.backbones import Backbone
from greffon.datasets import Dataset, apportion
from greffon.errors import DataError
from greffon.heads import Representation
from greffon.images import PLAIN, View
from greffon.progress import Progress
from greffon.training import EpochListener, EpochRow, RateCurve, Recipe, RecomputedViews, Samples, Source
from greffon.transfer.inductive.finetuning import FineTuned, fine_tune, suggested_rate
from greffon.transfer.inductive.ordering import JoinedViews, Launcher
from greffon.transfer.inductive.planning import Layout
from greffon.transfer.inductive.starting import Start, prepare

__all__ = ["Frozen", "TunedRun", "frozen_part", "run_tuning", "samples_of", "tuned_features", "tuned_probabilities", "with_val"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Frozen:
    """The frozen part has run, or stands ready to: where training and evaluation take their activations from.

    Parameters
    ----------
    source
        Positions are those of the data set; of images that are not trained on there is the plain view alone.
    failed
        Position → reason, for images that could not be read.
    computed, reused
        How many records were computed now, and how many were known.
    seconds
        How long it took.
    """

    source: Source
    failed: Mapping[int, str]
    computed: int
    reused: int
    seconds: float


@final
@dataclass(frozen=True, slots=True, eq=False)
class TunedRun:
    """A tuned network, how it came to be, and what it says of the test images."""

    tuned: FineTuned
    start: Start
    train: Samples
    val: Samples | None
    test: np.ndarray  # int64 (k,): positions
    probabilities: np.ndarray  # float64 (k, c): of the test images
    val_probabilities: np.ndarray  # float64 (m, c): of the validation images
    curve: RateCurve | None
    seconds: float
    features: np.ndarray  # float32 (k, d): of the test images, what the head is given


def with_val(dataset: Dataset, groups: np.ndarray, share: float, seed: int) -> Dataset:
    """The same data set with a validation split: its own, or one that is drawn from the training images.

    Near-duplicates stay together, and every class keeps an image to learn from. ``share`` is of the training images; 0
    draws none.
    """
    if "val" in dataset.splits or share <= 0:
        return dataset
    pool = dataset.where("train")
    part = apportion(dataset.labels[pool], groups[pool], (1 - share, share), seed, spread=True)
    roles = list(dataset.splits)
    for i in pool[part == 1].tolist():
        roles[i] = "val"
    return replace(dataset, splits=tuple(roles))


def frozen_part(
    network: Backbone,
    engine: Engine,
    layout: Layout,
    looks: Sequence[View],
    dataset: Dataset,
    digests: Sequence[str],
    *,
    store: Store | None,
    progress: Progress,
    executor: Executor | None = None,
) -> Frozen:
    """Run the frozen part: every view of the training images, and the plain one of all others.

    Raises StoreError where the disk is full; what was computed stays.
    """
    began = time.perf_counter()
    if layout.recompute:
        source = RecomputedViews(dataset.paths, digests, network.preprocess, engine, looks)
        return Frozen(source, {}, 0, 0, time.perf_counter() - began)
    trained = np.array([role == "train" for role in dataset.splits], bool)
    kept: list[tuple[np.ndarray, tuple[Activations, ...]]] = []
    for mine, views in ((np.flatnonzero(trained), tuple(looks)), (np.flatnonzero(~trained), (PLAIN,))):
        if len(mine):
            paths, names = [dataset.paths[i] for i in mine.tolist()], [digests[i] for i in mine.tolist()]
            if len(views) == 1:
                found = (compute(paths, network, engine.tap, engine, store=store, progress=progress, digests=names, executor=executor),)
            else:
                found = compute_views(paths, network, engine.tap, engine, views, store=store, progress=progress, digests=names,
                                      executor=executor)  # fmt: skip
            kept.append((mine, found))
    failed = {int(mine[i]): reason for mine, found in kept for i, reason in found[0].failed.items()}
    every = [one for _, found in kept for one in found]
    return Frozen(
        JoinedViews(kept, len(looks), len(dataset), network.preprocess),
        failed,
        sum(one.computed for one in every),
        sum(one.reused for one in every),
        time.perf_counter() - began,
    )


def run_tuning(
    network: Backbone,
    layout: Layout,
    frozen: Frozen,
    dataset: Dataset,
    recipe: Recipe,
    representation: Representation,
    *,
    progress: Progress,
    find_rate: bool = False,
    configuration: Mapping[str, Any] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    watch: Callable[[EpochRow], bool] | None = None,
    listener: EpochListener | None = None,
    launcher: Launcher | None = None,
) -> TunedRun:
    """Train on the training split, choose on the validation split, and say what the test images are.

    The labels of the test split are not looked at. ``find_rate``: the learning rate is that of a range test.

    Raises
    ------
    DataError
        Fewer than two classes to learn from.
    """
    began = time.perf_counter()
    train, val = (samples_of(dataset, role, frozen) for role in ("train", "val"))
    if len(np.unique(train.labels)) < 2:
        raise DataError(f"{dataset.root}: the training split has {len(np.unique(train.labels))} classes, and needs two or more")
    start = prepare(network, layout.cut, frozen.source, train, len(dataset.classes), representation)
    curve = None
    if find_rate:
        curve = suggested_rate(network, frozen.source, start, train, recipe, progress=progress)
        share = recipe.head_learning_rate / recipe.learning_rate
        recipe = replace(recipe, learning_rate=curve.suggestion, head_learning_rate=min(1000.0, curve.suggestion * share))
        progress.say(f"learning rate by range test: {curve.suggestion:.2g}")
    tuned = fine_tune(
        network,
        frozen.source,
        start,
        train,
        val if len(val) else None,
        recipe,
        progress=progress,
        configuration=None if configuration is None else {**configuration, "recipe": recipe.to_dict()},
        checkpoint=checkpoint,
        resume=resume,
        watch=watch,
        listener=listener,
        launcher=launcher,
    )
    test = samples_of(dataset, "test", frozen).positions
    features = tuned_features(tuned, frozen.source, test)
    probabilities = tuned.head.probabilities(features)
    validated = tuned_probabilities(tuned, frozen.source, val.positions)
    some = val if len(val) else None
    return TunedRun(tuned, start, train, some, test, probabilities, validated, curve, time.perf_counter() - began, features)


def tuned_probabilities(tuned: FineTuned, source: Source, positions: np.ndarray, block: int = 128) -> np.ndarray:
    """What a tuned network says of the plain view of images: float64 (k, c)."""
    return tuned.head.probabilities(tuned_features(tuned, source, positions, block))


def tuned_features(tuned: FineTuned, source: Source, positions: np.ndarray, block: int = 128) -> np.ndarray:
    """What the head of a tuned network is given of the plain view of images: float32 (k, d)."""
    parts = [np.zeros((0, tuned.head.weight.shape[1]), np.float32)]
    for start in range(0, len(positions), block):
        some = positions[start : start + block]
        parts.append(tuned.features(source.batch(some, np.zeros(len(some), np.int64)).cpu().numpy()))
    return np.concatenate(parts)


def samples_of(dataset: Dataset, role: str, frozen: Frozen) -> Samples:
    """The images of one role, ``"train"``, ``"val"`` or ``"test"``, that could be read: positions in the data set, and classes."""
    positions = np.array([i for i in dataset.where(role).tolist() if i not in frozen.failed], np.int64)
    return Samples(positions, dataset.labels[positions])
