"""The loop without labels: two views of every image in a step, a module that is drawn anew, and epochs judged by their features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from greffon.errors import OptionError
from greffon.progress import Silent
from greffon.training import (
    Adaptation,
    EpochRow,
    FeatureRow,
    Grown,
    Looked,
    Objective,
    Recipe,
    Samples,
    Seen,
    Trained,
    fit,
)
from greffon.training.judging import is_better
from greffon.transfer.inductive import grown_on
from growing import Held, drawn_network, held, started

NETWORK, CUT = drawn_network(), "layer3"
RECIPE = Recipe(epochs=3, batch=8, learning_rate=1e-3, seed=5)
IMAGES = np.arange(4, 24)
NOBODY = Samples(np.zeros(0, np.int64), np.zeros(0, np.int64))


def alike(own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
    """Two views of an image are brought together; their features keep their size."""
    first, second = own(target.features).chunk(2)
    return (first - second).square().mean() + (1 - target.features.std(0)).square().mean()


ALIKE = Objective(alike, lambda features, classes: nn.Linear(features, 4), trains_head=False, labelled=False, looks=2)


def row_of(score: float, *, collapsed: bool = False) -> FeatureRow:
    return FeatureRow(0.1, 1.0, 9.0, 0.5, 0.5, None, score, collapsed)


def run(objective: Objective = ALIKE, recipe: Recipe = RECIPE, *, views: int = 4, source: Held | None = None,
        listener: Silent | None = None, **more: Any) -> tuple[Grown, Trained]:  # fmt: skip
    drawn, train, _ = held(NETWORK, CUT, views=views)
    grown = grown_on(NETWORK, started(NETWORK, CUT, drawn, train), recipe)
    adaptation = Adaptation(IMAGES, objective)
    return grown, fit(grown, source or drawn, NOBODY, None, recipe, progress=listener or Silent(), adaptation=adaptation, **more)


class Judge:
    """Answers with scores that the test has thought of, and remembers what it was shown."""

    def __init__(self, *scores: float, collapsed: Sequence[int] = ()) -> None:
        self.scores, self.collapsed = scores, collapsed
        self.seen: list[tuple[Looked, float | None, int]] = []

    def __call__(self, looked: Looked, loss: float | None, before: Sequence[FeatureRow]) -> FeatureRow:
        self.seen.append((looked, loss, len(before)))
        assert [one.score for one in before] == list(self.scores[: len(before)])
        return row_of(self.scores[len(before)], collapsed=len(before) in self.collapsed)


def test_what_comes_of_an_image_has_no_field_for_a_label_of_the_users() -> None:
    assert [field.name for field in fields(Looked)] == ["plain", "other", "before"]
    assert [field.name for field in fields(Adaptation)] == ["target", "objective", "keep"]


def test_every_image_comes_once_an_epoch_in_two_different_views() -> None:
    drawn, _, _ = held(NETWORK, CUT, views=4)
    run(source=drawn, objective=replace(ALIKE, judge=None))
    steps = [(p, v) for p, v in drawn.asked if v.any()]
    assert len(steps) == 9
    for epoch in (steps[:3], steps[3:6], steps[6:]):
        seen: list[int] = []
        for positions, views in epoch:
            half = len(positions) // 2
            assert np.array_equal(positions[:half], positions[half:])
            assert (views[:half] != views[half:]).all()
            seen += positions[:half].tolist()
        assert sorted(seen) == IMAGES.tolist()
    pairs = {(a, b) for _, v in steps for a, b in zip(v[: len(v) // 2].tolist(), v[len(v) // 2 :].tolist(), strict=True)}
    assert pairs == {(a, b) for a in range(4) for b in range(4) if a != b}, "all pairs of views are drawn"


def test_the_view_that_judges_is_not_trained_on() -> None:
    drawn, _, _ = held(NETWORK, CUT, views=4)
    judge = Judge(0.0, 0.1, 0.2, 0.3)
    run(replace(ALIKE, judge=judge), source=drawn)
    trained = np.concatenate([views for positions, views in drawn.asked if len(np.unique(views)) > 1])
    assert set(trained.tolist()) == {0, 1, 2}
    looks = [(positions, views) for positions, views in drawn.asked if len(np.unique(views)) == 1]
    assert [int(views[0]) for _, views in looks] == [0, 3] * 4
    assert all(positions.tolist() == IMAGES.tolist() for positions, _ in looks)


def test_two_views_are_trained_on_where_there_are_no_more() -> None:
    drawn, _, _ = held(NETWORK, CUT, views=2)
    judge = Judge(0.0, 0.1, 0.2, 0.3)
    run(replace(ALIKE, judge=judge), source=drawn)
    trained = [views for positions, views in drawn.asked if len(np.unique(views)) > 1]
    assert set(np.concatenate(trained).tolist()) == {0, 1}
    with pytest.raises(OptionError, match="--views must be 2 or more"):
        run(views=1)


def test_features_are_judged_plain_beside_the_other_view_and_the_epoch_before() -> None:
    drawn, _, _ = held(NETWORK, CUT, views=3)
    judge = Judge(0.0, 0.1, 0.2, 0.3)
    grown, told = run(replace(ALIKE, judge=judge), source=drawn)
    assert [count for _, _, count in judge.seen] == [0, 1, 2, 3]
    assert judge.seen[0][1] is None
    assert judge.seen[0][0].before is None
    for (earlier, _, _), (later, loss, _) in zip(judge.seen, judge.seen[1:], strict=False):
        assert loss is not None
        assert later.before is not None
        assert torch.equal(later.before, earlier.plain)
    with torch.no_grad():
        for view, found in ((0, judge.seen[-1][0].plain), (2, judge.seen[-1][0].other)):
            wanted = grown.eval().features(torch.from_numpy(drawn.maps[view, IMAGES]))
            assert torch.allclose(found, wanted, atol=1e-4)
    rows = [row.features for row in told.history]
    assert [row.score for row in rows if row is not None] == [0.0, 0.1, 0.2, 0.3]
    assert all(row.target is None and row.accuracy is None for row in told.history)


def test_the_best_score_is_kept_and_the_start_where_none_is_better() -> None:
    start, _ = run(replace(ALIKE, judge=Judge(0.0, -1.0, -1.0, -1.0)))
    fresh = grown_on(NETWORK, started(NETWORK, CUT, *held(NETWORK, CUT, views=4)[:2]), RECIPE)
    assert all(torch.equal(start.state_dict()[name], tensor) for name, tensor in fresh.state_dict().items())
    for scores, collapsed, wanted in (((0, 2, 1, 1), (), 1), ((0, 1, 2, 3), (3,), 2), ((0, 1, 2, 3), (1, 2, 3), 0), ((0, 0, 0, 0), (), 0)):
        _, told = run(replace(ALIKE, judge=Judge(*scores, collapsed=collapsed)))
        assert told.best_epoch == wanted


def test_patience_ends_it() -> None:
    recipe = replace(RECIPE, epochs=9, patience=2)
    _, told = run(replace(ALIKE, judge=Judge(0, 1, 0.5, 0.7, 9, 9, 9, 9, 9, 9)), recipe)
    assert len(told.history) == 4
    assert told.best_epoch == 1
    assert "no better score in 2 epochs" in told.stopped
    with pytest.raises(OptionError, match="patience"):
        run(ALIKE, recipe)


def test_rows_of_features_survive_json() -> None:
    from dataclasses import asdict

    row = EpochRow(2, 0.5, None, None, 1e-4, 1, 3.0, None, row_of(0.4))
    assert EpochRow.from_dict(asdict(row)) == row
    old = asdict(EpochRow(2, 0.5, None, None, 1e-4, 1, 3.0))
    del old["features"]  # as checkpoints had it
    assert EpochRow.from_dict(old).features is None


def test_a_row_with_a_score_is_compared_by_it() -> None:
    assert is_better(row_of(0.2), row_of(0.1), "last")
    assert not is_better(row_of(0.1), row_of(0.1), "last")
    assert not is_better(row_of(9, collapsed=True), row_of(0.1), "last")


# --- a module that is drawn anew --------------------------------------------------------------------------------------


def test_a_fresh_module_forgets_and_so_does_its_optimiser() -> None:
    starts: list[Tensor] = []
    steps: list[float] = []

    def loss(own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        weight = own.weight
        assert isinstance(weight, Tensor)
        if len(starts) <= round(done * 9) // 3:
            starts.append(weight.detach().clone())
        steps.append(float(weight.detach().abs().sum()))
        return own(target.features.detach()).square().mean() + 0 * target.features.sum()

    objective = Objective(loss, lambda f, c: nn.Linear(f, 3), trains_head=False, labelled=False, fresh=True)
    _, told = run(objective)
    assert len(starts) == 3
    assert not torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[1], starts[2])
    assert told.history[-1].loss is not None
    again: list[Tensor] = list(starts)
    starts.clear()
    run(objective)
    assert all(torch.equal(one, other) for one, other in zip(starts, again, strict=True)), "drawn from the seed"


def test_shares_are_those_of_all_images() -> None:
    def relabel(features: Tensor, scores: Tensor) -> Tensor:
        return torch.tensor([0] * 15 + [1] * 5)

    def loss(own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        assert target.labels is not None
        assert target.shares is not None
        assert torch.allclose(target.shares, torch.where(target.labels == 0, 0.75, 0.25))
        return alike(nn.Identity(), source, target, done)

    run(Objective(loss, relabel=relabel, trains_head=False, labelled=False, looks=2))


# --- goes on exactly --------------------------------------------------------------------------------------------------


class KilledError(Exception):
    pass


def steady(looked: Looked, loss: float | None, before: Sequence[FeatureRow]) -> FeatureRow:
    """A judge that is told by its input alone, the epoch before included."""
    moved = 0.0 if looked.before is None else float((looked.plain - looked.before).square().mean())
    return FeatureRow(loss, float(looked.other.mean()), 1.0, 0.0, 0.0, moved, float(looked.plain.std()), False)


VARIED = {
    "projector": (ALIKE, RECIPE),
    "average": (ALIKE, replace(RECIPE, ema=0.7, l2_sp=0.1)),
    "batch statistics": (
        replace(ALIKE, modules=lambda f, c: nn.Sequential(nn.Linear(f, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))), RECIPE
    ),
    "fresh": (replace(ALIKE, fresh=True, relabel=lambda f, s: torch.randint(3, (len(f),))), replace(RECIPE, optimizer="sgd")),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIED)
def test_a_run_that_was_killed_goes_on_exactly(name: str, tmp_path: Any) -> None:
    objective, recipe = VARIED[name]
    objective = replace(objective, judge=steady)
    whole, told = run(objective, recipe)
    drawn, _, _ = held(NETWORK, CUT, views=4)
    real, calls = drawn.batch, []

    def batch(positions: np.ndarray, views: np.ndarray) -> Tensor:
        calls.append(1)
        if len(calls) == 13 if objective.relabel is None else len(calls) == 14:
            raise KilledError
        return real(positions, views)

    drawn.batch = batch
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KilledError):
        run(objective, recipe, source=drawn, checkpoint=path)
    again, went_on = run(objective, recipe, checkpoint=path, resume=True)
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in whole.state_dict().items())
    assert [replace(row, seconds=0) for row in went_on.history] == [replace(row, seconds=0) for row in told.history]
    assert all(row.features is not None and math.isfinite(row.features.score) for row in told.history)


def test_no_numbers_end_it_and_the_best_is_kept() -> None:
    def explode(own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        return alike(own, source, target, done) * (math.nan if done > 0.4 else 1.0)

    listener = Silent()
    grown, told = run(replace(ALIKE, loss=explode, judge=Judge(0, 1, 2, 3)), listener=listener)
    assert told.best_epoch == 1
    assert "--learning-rate" in told.stopped
    assert "nan" in told.stopped
    assert listener.warnings == [told.stopped]
    assert all(torch.isfinite(tensor).all() for tensor in grown.state_dict().values())
