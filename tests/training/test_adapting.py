"""The loop's second stream: what is drawn, what is handed down, which epoch is kept, and that nothing else changes."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from greffon.errors import OptionError
from greffon.progress import Silent
from greffon.training import (
    Adaptation,
    Grown,
    Objective,
    Recipe,
    Samples,
    Seen,
    TargetRow,
    Trained,
    WinogradConv2d,
    fit,
    judge_target,
)
from greffon.training.judging import is_better
from greffon.transfer.inductive import grown_on
from growing import Held, drawn_network, held, started

NETWORK, CUT = drawn_network(), "layer3"
RECIPE = Recipe(epochs=3, batch=8, learning_rate=1e-3, head_learning_rate=1e-2, seed=5)
TARGET = np.arange(24, 32)  # what ``held`` keeps for validation


def nothing(own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
    return 0.0 * target.features.sum()


def run(
    objective: Objective, recipe: Recipe = RECIPE, *, cut: str = CUT, architecture: str = "test_resnet", target: np.ndarray = TARGET,
    source: Held | None = None, val: Samples | None = None, keep: Any = "last", listener: Silent | None = None, **more: Any,
) -> tuple[Grown, Trained]:  # fmt: skip
    network = drawn_network(architecture)
    drawn, train, _ = held(network, cut)
    grown = grown_on(network, started(network, cut, drawn, train), recipe)
    some = train if objective.labelled else Samples(train.positions[:0], train.labels[:0])
    adaptation = Adaptation(target, objective, keep)
    return grown, fit(grown, source or drawn, some, val, recipe, progress=listener or Silent(), adaptation=adaptation, **more)


def test_the_target_has_no_field_for_labels() -> None:
    assert [field.name for field in fields(Adaptation)] == ["target", "objective", "keep"]
    with pytest.raises(OptionError, match="keep must be last"):
        Adaptation(TARGET, Objective(nothing), "accuracy")  # type: ignore[arg-type]


# --- the batches ------------------------------------------------------------------------------------------------------


def test_the_source_comes_as_without_a_target_and_the_target_in_rounds() -> None:
    drawn, train, _ = held(NETWORK, CUT, views=3)
    alone = Held(drawn.maps)
    fit(grown_on(NETWORK, started(NETWORK, CUT, alone, train), RECIPE), alone, train, None, RECIPE, progress=Silent())
    both = Held(drawn.maps)
    run(Objective(nothing), source=both)
    is_target = [bool((positions >= 24).all()) for positions, _ in both.asked]
    assert not any((positions >= 24).any() for (positions, _), there in zip(both.asked, is_target, strict=True) if not there)
    plain = [one for one in alone.asked if len(one[0]) == 8][-9:]
    found = [one for one, there in zip(both.asked, is_target, strict=True) if not there]
    assert len(found) == 9
    for (positions, views), (theirs, their_views) in zip(found, plain, strict=True):
        assert np.array_equal(positions, theirs)
        assert np.array_equal(views, their_views)
    # Of the target: the look before the first epoch; three batches and a look in each epoch.
    seen = [one for one, there in zip(both.asked, is_target, strict=True) if there]
    assert len(seen) == 1 + 3 * 4
    for at in (1, 5, 9):
        steps, look = seen[at : at + 3], seen[at + 3]
        for positions, _ in steps:
            assert sorted(positions.tolist()) == TARGET.tolist(), "all of them before one comes again"
        assert set(np.concatenate([views for _, views in steps]).tolist()) == {0, 1, 2}
        assert look[0].tolist() == TARGET.tolist()
        assert not look[1].any(), "judged by the plain view"
    assert not np.array_equal(seen[1][0], seen[5][0])


def test_a_target_that_is_larger_than_the_source_has_its_turn_over_the_epochs() -> None:
    drawn, _, _ = held(NETWORK, CUT, n=120)
    target = np.arange(24, 24 + 90)
    run(Objective(nothing), replace(RECIPE, epochs=12), source=drawn, target=target)
    steps = [positions for positions, _ in drawn.asked if len(positions) == 8 and positions.min() >= 24]
    assert len(np.unique(np.concatenate(steps))) > 80


def test_a_method_sees_both_domains_of_equal_number_and_how_far_it_is() -> None:
    seen: list[tuple[int, int, bool, float]] = []

    def look(own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        assert source is not None
        assert source.labels is None
        assert target.labels is None
        assert target.features.dtype == target.logits.dtype == torch.float32
        assert torch.allclose(grown_of[0].head(target.features), target.logits, atol=1e-4)
        seen.append((len(source.features), len(target.logits), target.features.requires_grad, done))
        return nothing(own, source, target, done)

    drawn, train, _ = held(NETWORK, CUT)
    grown_of = [grown_on(NETWORK, started(NETWORK, CUT, drawn, train), RECIPE)]
    fit(grown_of[0], drawn, train, None, RECIPE, progress=Silent(), adaptation=Adaptation(TARGET, Objective(look)))
    assert [one[:3] for one in seen] == [(8, 8, True)] * 9
    assert [one[3] for one in seen] == pytest.approx([i / 9 for i in range(9)])


def test_a_method_that_asks_for_nothing_trains_as_the_loop_alone() -> None:
    """To some rounding: the two domains go through the network together."""
    drawn, train, _ = held(NETWORK, CUT)
    alone = grown_on(NETWORK, started(NETWORK, CUT, drawn, train), RECIPE)
    told = fit(alone, drawn, train, None, RECIPE, progress=Silent())
    grown, adapted = run(Objective(nothing))
    for row, other in zip(told.history, adapted.history, strict=True):
        assert row.loss is None or row.loss == pytest.approx(other.loss, rel=1e-3)
    assert all(row.target is None for row in told.history)
    assert torch.allclose(alone.head.weight, grown.head.weight, atol=1e-3)


def test_labels_that_a_method_gives_come_back_with_their_images() -> None:
    """Of the images alone, without a source: each is told by its features."""
    looks: list[Tensor] = []

    def relabel(features: Tensor, logits: Tensor) -> Tensor:
        assert features.shape[0] == logits.shape[0] == len(TARGET)
        looks.append(features)
        return torch.arange(len(TARGET))

    def loss(own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        assert source is None
        assert target.labels is not None
        if done == 0:  # nothing has been trained since the look, and nothing is drawn but the view, of which there is one
            assert torch.allclose(target.features.detach(), looks[-1][target.labels], atol=1e-4)
            assert sorted(target.labels.tolist()) == list(range(8))
        return target.features.square().mean() + (target.logits - torch.tensor([1.0, 0.0, 0.0])).square().mean()

    drawn, _, _ = held(NETWORK, CUT, views=1)
    recipe = replace(RECIPE, balanced=True, mix="mixup")  # of labelled images, of which there are none
    grown, told = run(Objective(loss, relabel=relabel, trains_head=False, labelled=False), recipe, source=drawn)
    assert len(looks) == RECIPE.epochs
    assert not grown.head.weight.any()
    assert told.history[-1].loss == told.history[-1].target.loss < told.history[1].loss  # type: ignore[union-attr, operator]


def test_the_methods_own_module_is_trained_and_drawn_from_the_seed() -> None:
    made: list[nn.Module] = []

    def modules(features: int, classes: int) -> nn.Module:
        made.append(nn.Linear(features, classes))
        made.append(nn.Linear(features, classes))
        made[-1].load_state_dict(made[-2].state_dict())
        return made[-2]

    def loss(own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        return own(target.features.detach()).square().mean()

    drawn, train, _ = held(NETWORK, CUT)
    for seed in (1, 1, 2):
        grown, adaptation = grown_on(NETWORK, started(NETWORK, CUT, drawn, train), RECIPE), Adaptation(TARGET, Objective(loss, modules))
        before = torch.random.get_rng_state()
        fit(grown, drawn, train, None, replace(RECIPE, seed=seed), progress=Silent(), adaptation=adaptation)
        assert torch.equal(before, torch.random.get_rng_state()), "the caller's random numbers are the caller's"
    now, start = made[::2], made[1::2]
    assert not torch.equal(now[0].weight, start[0].weight)  # type: ignore[arg-type]
    assert torch.equal(now[0].weight, now[1].weight)  # type: ignore[arg-type]
    assert torch.equal(start[0].weight, start[1].weight)  # type: ignore[arg-type]
    assert not torch.equal(start[0].weight, start[2].weight)  # type: ignore[arg-type]


# --- with all that the loop can ---------------------------------------------------------------------------------------

VARIED = {
    "sgd": replace(RECIPE, optimizer="sgd"),
    "ema and mixup": replace(RECIPE, ema=0.8, mix="mixup", balanced=True),
    "dropout and cutmix": replace(RECIPE, dropout=0.3, mix="cutmix", l2_sp=0.1),
    "gradual, moving statistics": replace(RECIPE, gradual=1, batch_norm="trained"),
    "bfloat16": replace(RECIPE, precision="bfloat16"),
}


def towards(own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
    """A discriminator without reversal, and the distance of the means."""
    assert source is not None
    told = own(source.features.detach()).mean() - own(target.features.detach()).mean()
    return (source.features.mean(0) - target.features.mean(0)).square().mean() + 0.1 * torch.tanh(told)


@pytest.mark.parametrize("name", VARIED)
def test_every_way_of_training_goes_on_exactly(name: str, tmp_path: Path) -> None:
    objective = Objective(towards, lambda features, classes: nn.Sequential(nn.Linear(features, 4), nn.Dropout(0.5), nn.Linear(4, 1)))
    whole, told = run(objective, VARIED[name])
    path = tmp_path / "checkpoint.safetensors"

    class KilledError(Exception):
        pass

    drawn, _, _ = held(NETWORK, CUT)
    real, calls = drawn.batch, []

    def batch(positions: np.ndarray, views: np.ndarray) -> Tensor:
        calls.append(1)
        if len(calls) == 12:  # a look; six batches and a look in each epoch
            raise KilledError
        return real(positions, views)

    drawn.batch = batch
    with pytest.raises(KilledError):
        run(objective, VARIED[name], source=drawn, checkpoint=path)
    again, went_on = run(objective, VARIED[name], checkpoint=path, resume=True)
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in whole.state_dict().items())
    assert [replace(row, seconds=0) for row in went_on.history] == [replace(row, seconds=0) for row in told.history]


def test_winograds_convolutions_adapt_as_others_do() -> None:
    recipe = replace(RECIPE, epochs=1, learning_rate=1e-5)
    (plain, _), (fast, _) = (run(Objective(towards, lambda f, c: nn.Linear(f, 1)), replace(recipe, winograd=which), cut="block5",
                                 architecture="vgg11") for which in (False, True))  # fmt: skip
    assert any(isinstance(module, WinogradConv2d) for module in fast.modules())
    assert torch.allclose(plain.head.weight, fast.head.weight, rtol=1e-2, atol=1e-4)


# --- which epoch is kept ----------------------------------------------------------------------------------------------


def to_one_class(own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
    """From a quarter of the training on every image of the target is to be of the first class."""
    wrong = target.logits.log_softmax(1)[:, 0].mean()
    return -10 * wrong if done >= 0.25 else 0 * wrong


def test_an_epoch_whose_classes_have_vanished_is_not_kept_and_is_told() -> None:
    listener = Silent()
    recipe = replace(RECIPE, epochs=16, batch=4)
    grown, told = run(Objective(to_one_class), recipe, listener=listener)
    rows = [row.target for row in told.history]
    assert rows[-1] is not None
    assert rows[-1].collapsed
    assert 0 < told.best_epoch < 16
    assert "classes have vanished" in listener.warnings[-1]
    assert f"epoch {told.best_epoch} is kept" in listener.warnings[-1]
    assert all(torch.equal(tensor, told.state[name]) for name, tensor in grown.state_dict().items())


def test_validation_is_told_of_and_does_not_choose() -> None:
    drawn, train, _ = held(NETWORK, CUT)
    wrong = Samples(train.positions[:9], (train.labels[:9] + 1) % 3)  # the better it learns, the worse it looks
    _, told = run(Objective(nothing), val=wrong)
    assert [row.log_loss is not None for row in told.history] == [True] * 4
    assert told.best_epoch == RECIPE.epochs
    assert len(drawn.maps)


@pytest.mark.parametrize("ema", [0.0, 0.6])
def test_the_target_is_judged_by_what_is_kept(ema: float) -> None:
    """Its plain images, without dropout, with the statistics that go with the model; of the average where there is one."""
    drawn, _, _ = held(NETWORK, CUT)
    grown, told = run(Objective(nothing), replace(RECIPE, dropout=0.5, batch_norm="trained", ema=ema))
    with torch.no_grad():
        logits = grown.eval()(torch.from_numpy(drawn.maps[0, TARGET]))
    row, wanted = told.history[-1].target, judge_target(logits, None, [])
    assert row is not None
    assert (row.information, row.density) == pytest.approx((wanted.information, wanted.density), rel=1e-4)
    assert row.loss == 0


def logits_of(classes: list[int], count: int = 4, sure: float = 5.0) -> Tensor:
    return torch.eye(count)[classes] * sure


def test_collapse_is_measured_against_the_run_itself() -> None:
    all_four = judge_target(logits_of([0, 1, 2, 3] * 5), None, [])
    assert not all_four.collapsed
    assert all_four.spread == pytest.approx(math.log(4))
    assert judge_target(logits_of([0] * 20), None, []).collapsed, "one class for all"
    assert judge_target(logits_of([0] * 19 + [1]), None, [all_four]).collapsed
    assert not judge_target(logits_of([0] * 10 + [1] * 10), 0.1, [all_four]).collapsed, "half of the entropy, not below it"
    uneven = judge_target(logits_of([0] * 19 + [1]), None, [])
    assert not uneven.collapsed, "the target may be so"
    assert not judge_target(logits_of([0]), None, []).collapsed, "one image has one class"
    assert judge_target(logits_of([0]), None, []).density == 0


def test_which_of_two_epochs_is_kept() -> None:
    one = TargetRow(0.1, information=-1.0, density=2.0, spread=1.0, collapsed=False)
    surer, denser = replace(one, information=-1.2), replace(one, density=2.5)
    gone = replace(one, information=-2.0, density=9.0, collapsed=True)
    assert is_better(one, surer, "last")
    assert is_better(surer, one, "information")
    assert not is_better(one, surer, "information")
    assert is_better(denser, one, "density")
    assert not is_better(one, denser, "density")
    for keep in ("last", "information", "density"):
        assert not is_better(gone, one, keep)
        assert is_better(one, gone, keep)
    assert is_better(gone, gone, "last"), "where all have collapsed, the last one"


def test_scores_that_are_no_numbers_end_it() -> None:
    listener = Silent()
    recipe = replace(RECIPE, learning_rate=1e3, head_learning_rate=1e3, clip=0.0, optimizer="sgd", epochs=6)
    _, told = run(Objective(towards, lambda f, c: nn.Linear(f, 1)), recipe, listener=listener)
    assert "--learning-rate" in told.stopped
    assert all(torch.isfinite(tensor).all() for tensor in told.state.values())
