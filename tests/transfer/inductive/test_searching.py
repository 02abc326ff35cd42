"""The search for hyperparameters, on a small network and memory alone: what it finds, gives up, and never looks at."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from activations.small import network
from greffon.backbones import Backbone
from greffon.datasets import Dataset
from greffon.errors import DataError, OptionError
from greffon.heads import Representation
from greffon.progress import Silent
from greffon.training import FirstViews, Recipe, Samples
from greffon.transfer.inductive import (
    Frozen,
    Ground,
    Layout,
    Search,
    SearchSpace,
    adopt,
    fine_tune,
    prepare,
    record_shape,
    samples_of,
    search,
    values_of,
)

VIEWS, IMAGES, CLASSES = 3, 60, 3
REPRESENTATION = Representation("last", "mean", "standard")
RECIPE = Recipe(epochs=3, batch=20, learning_rate=1e-4, head_learning_rate=3e-3)


@final
class Drawn:
    """Activations at a cut in memory, whose classes differ in their channels; views differ by noise.

    Only ``allowed`` positions may be read, and a read may take a while.
    """

    def __init__(self, backbone: Backbone, cut: str, labels: np.ndarray, allowed: Sequence[int], seconds: float = 0.0) -> None:
        shape = record_shape(backbone, cut)
        rng = np.random.default_rng(0)
        centre = rng.normal(size=(CLASSES, shape[0], 1, 1))
        self._records = np.abs(centre[labels] + 2.0 * rng.normal(size=(VIEWS, len(labels), *shape))).astype(np.float32)
        self._allowed, self._seconds = set(allowed), seconds
        self.views = VIEWS
        self.asked: set[int] = set()

    def batch(self, positions: np.ndarray, views: np.ndarray) -> Tensor:
        assert set(positions.tolist()) <= self._allowed, "an image was read that has no part in the search"
        self.asked |= set(views.tolist())
        time.sleep(self._seconds)
        return torch.from_numpy(self._records[views, positions]).contiguous(memory_format=torch.channels_last)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A small problem: 36 images to train on, 12 to validate, 12 to test."""

    backbone: Backbone
    grounds: tuple[Ground, ...]
    train: Samples
    val: Samples

    def search(self, recipe: Recipe = RECIPE, *, seconds: float = 600.0, seed: int = 0, most: int = 4) -> Search:
        return search(
            self.backbone, self.grounds, self.train, self.val, CLASSES, recipe, REPRESENTATION,
            seconds=seconds, seed=seed, most_trials=most, progress=Silent(),
        )  # fmt: skip


def case(cuts: tuple[str, ...] = (), seconds: float = 0.0, labels: np.ndarray | None = None) -> Case:
    backbone = network(32)
    every = np.arange(IMAGES) % CLASSES
    roles = ["train"] * 36 + ["val"] * 12 + ["test"] * 12
    grounds = tuple(
        Ground(Layout(cut, VIEWS, "float32"), Drawn(backbone, cut, every, range(48), seconds))
        for cut in cuts or (backbone.stages[-1],)
    )
    paths = tuple(Path(f"{i}.png") for i in range(IMAGES))
    dataset = Dataset(Path(), paths, every if labels is None else labels, ("a", "b", "c"), tuple(roles), ("",) * IMAGES)
    frozen = Frozen(grounds[0].source, {}, 0, 0, 0.0)
    return Case(backbone, grounds, samples_of(dataset, "train", frozen), samples_of(dataset, "val", frozen))


def told(found: Search) -> list[dict[str, Any]]:
    """The trials without their seconds."""
    return [{**one.to_dict(), "seconds": 0} for one in found.trials]


def test_a_good_learning_rate_is_found_among_bad_ones() -> None:
    one = case()
    # At these rates next to nothing is learned in three epochs.
    lame = replace(RECIPE, learning_rate=1e-5, head_learning_rate=3e-4)
    found = one.search(lame, most=16)
    default = found.trials[0]
    assert default.recipe == lame
    assert found.best.log_loss < default.log_loss - 0.1
    assert found.recipe.head_learning_rate > 3 * lame.head_learning_rate
    assert found.recipe == found.best.recipe
    assert found.best.log_loss == min(trial.log_loss for trial in found.trials)
    # The same from outside: the head's rate alone, on a grid, in plain runs. They halve the loss at three times the rate.
    losses = [tuned(one, replace(lame, head_learning_rate=rate), VIEWS) for rate in (3e-4, 1e-3, 3e-3, 1e-2)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == default.log_loss
    assert found.best.log_loss < losses[1] < 0.6 * losses[0]


def tuned(one: Case, recipe: Recipe, views: int) -> float:
    """The least validation log-loss of a run of fine-tuning as any other."""
    cut, source = one.grounds[0].layout.cut, FirstViews(one.grounds[0].source, views)
    start = prepare(one.backbone, cut, source, one.train, CLASSES, REPRESENTATION)
    history = fine_tune(one.backbone, source, start, one.train, one.val, recipe, progress=Silent()).history
    return min(row.log_loss for row in history if row.log_loss is not None)


def test_the_default_is_the_first_trial_and_a_trial_is_a_run_like_any_other() -> None:
    one = case()
    # Weight decay 0 lies on no logarithmic scale, the rate above the range: the default is tried as it was given.
    odd = replace(RECIPE, weight_decay=0.0, learning_rate=2e-3, mix="mixup", mix_alpha=0.3, label_smoothing=0.07)
    found = one.search(odd, most=3)
    first = found.trials[0]
    assert (first.recipe, first.views, first.cut) == (odd, VIEWS, one.backbone.stages[-1])
    assert (first.ended, first.epochs) == ("finished", 3)
    assert first.log_loss == tuned(one, odd, VIEWS)
    assert found.best.log_loss <= first.log_loss
    again = tuned(one, found.recipe, found.layout.views)
    assert again <= found.best.log_loss, "a run of what was found is at least as good as its trial"
    for trial in found.trials:
        if trial.ended == "finished":
            assert tuned(one, trial.recipe, trial.views) == trial.log_loss
        assert adopt(odd, trial.recipe) == trial.recipe, "nothing else is changed"
        assert trial.values["views"] == trial.views


def test_the_same_seed_gives_the_same_trials() -> None:
    first, again, other = (case().search(seed=seed, most=5) for seed in (3, 3, 4))
    assert told(first) == told(again)
    assert (first.recipe, first.layout) == (again.recipe, again.layout)
    assert told(first)[1:] != told(other)[1:]
    assert told(case().search(seed=3, most=3)) == told(first)[:3], "more trials change nothing about the earlier ones"


def test_worse_trials_are_given_up_early() -> None:
    found = case().search(replace(RECIPE, epochs=9), most=8)
    pruned = [trial for trial in found.trials if trial.ended == "pruned"]
    assert len(pruned) >= 3
    # With nine epochs the rungs stand after the first, the third and the ninth: a third goes on (Li et al. 2020).
    assert {trial.epochs for trial in pruned} <= {1, 3}
    assert all(trial.epochs == 9 for trial in found.trials if trial.ended == "finished")
    seen: list[float] = []
    for trial in found.trials:
        assert trial.early is not None
        seen.append(trial.early)
        goes_on = trial.early <= sorted(seen)[max(0, len(seen) // 3 - 1)]
        assert (trial.epochs > 1) == goes_on, (trial.number, seen)


def test_the_test_split_has_no_part_in_it() -> None:
    # Reading a test image raises, and permuted test labels change nothing.
    labels = np.arange(IMAGES) % CLASSES
    permuted = labels.copy()
    permuted[48:] = np.roll(labels[48:], 1)
    assert (permuted != labels)[48:].all()
    assert told(case(labels=labels).search()) == told(case(labels=permuted).search())
    wrong = labels.copy()
    wrong[36:48] = np.roll(labels[36:48], 1)
    assert told(case(labels=wrong).search()) != told(case(labels=labels).search()), "the validation labels do count"


def test_the_cut_and_the_views_are_searched() -> None:
    one = case(cuts=("layer4", "layer3"))
    found = one.search(most=8)
    assert {trial.cut for trial in found.trials} == {"layer4", "layer3"}
    assert found.trials[0].cut == "layer4"
    views = {trial.views for trial in found.trials}
    assert views <= {1, 2, 3}
    assert len(views) > 1
    assert found.layout == Layout(found.best.cut, found.best.views, "float32")
    only = replace(case(), grounds=(replace(case().grounds[0]),))
    assert {trial.cut for trial in only.search(most=2).trials} == {"layer4"}


def test_a_trial_reads_its_first_views_alone() -> None:
    one = case()
    source = one.grounds[0].source
    assert isinstance(source, Drawn)
    tuned(one, RECIPE, 2)
    assert source.asked == {0, 1}
    with pytest.raises(OptionError, match="from 1 to 3, got 4"):
        FirstViews(source, 4)


def test_it_ends_when_the_time_is_over() -> None:
    # An epoch takes four reads (two to train, one to validate), so 0.15 s or more; the search has 0.5 s.
    began = time.perf_counter()
    found = case(seconds=0.05).search(replace(RECIPE, epochs=50), seconds=0.5, most=1000)
    assert time.perf_counter() - began < 20
    assert found.trials[-1].ended in ("time", "pruned", "finished")
    assert [trial.ended for trial in found.trials[:1]] == ["time"]
    assert found.trials[0].epochs < 50
    assert len(found.trials) == 1
    assert case().search(seconds=0.0, most=5).trials[0].epochs == 1, "one trial is begun, and an epoch of it run"


def test_what_mattered_is_said_where_there_are_trials_enough() -> None:
    few = case().search(most=3)
    assert dict(few.importances) == {}
    assert few.basis == "3 trials are too few to say what mattered: 12 are needed"
    enough = case().search(replace(RECIPE, learning_rate=1e-5, head_learning_rate=3e-4), most=16)
    assert set(enough.importances) == {"mix", "learning_rate", "head_learning_rate", "weight_decay", "label_smoothing", "dropout", "views"}
    shares = list(enough.importances.values())
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1.0)
    # From outside: rank correlation says the same of the greatest, and of one that cannot matter in two steps.
    rank = {name: abs(spearmanr([one.values[name] for one in enough.trials], [one.early for one in enough.trials])[0])
            for name in ("views", "dropout", "weight_decay", "learning_rate")}  # fmt: skip
    assert next(iter(enough.importances)) == max(rank, key=lambda name: rank[name]) == "views"
    assert enough.importances["weight_decay"] < 0.05
    assert "trials after the first epoch, which all of them ran" in enough.basis
    kept = json.loads(json.dumps(enough.to_dict(), allow_nan=False))
    assert (kept["best"], kept["default"], len(kept["trials"])) == (enough.best.number, 0, 16)
    assert kept["trials"][0]["head_learning_rate"] == 3e-4


def test_the_space_holds_what_it_draws_from() -> None:
    @final
    class Highest:
        """Takes the greatest of everything."""

        def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
            return high

        def suggest_int(self, name: str, low: int, high: int) -> int:
            return high

        def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
            return choices[-1]

    recipe, cut, views = SearchSpace(RECIPE, ("layer4", "layer3"), 4).draw(Highest())
    assert (cut, views) == ("layer3", 4)
    assert dict(values_of(recipe, cut, views)) == {
        "learning_rate": 1e-3, "head_learning_rate": 3e-2, "weight_decay": 0.3, "label_smoothing": 0.1,
        "mix": "cutmix 1", "dropout": 0.5, "cut": "layer3", "views": 4,
    }  # fmt: skip
    sgd = SearchSpace(replace(RECIPE, optimizer="sgd"), ("layer4",), 1).draw(Highest())[0]
    assert (sgd.learning_rate, sgd.head_learning_rate) == (0.3, 1.0)


def test_faults_of_the_caller_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    one = case()
    with pytest.raises(OptionError, match="chooses on validation images, and there are none"):
        replace(one, val=Samples(np.zeros(0, np.int64), np.zeros(0, np.int64))).search()
    with pytest.raises(DataError, match="1 classes"):
        replace(one, train=Samples(one.train.positions, np.zeros(36, np.int64))).search()
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(OptionError, match=r'(?s)--tune needs Optuna.*pip install "greffon\[tune\]"'):
        one.search()
