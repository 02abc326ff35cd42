"""The loop against a plain one in PyTorch, and everything that it does between the steps."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from greffon.errors import ModelError
from greffon.progress import Silent
from greffon.training import EpochRow, Grown, Recipe, Samples, Trained, fit
from greffon.transfer.inductive import grown_on
from growing import Held, drawn_network, held, started

NETWORK = drawn_network()
CUT = "layer3"
#: Rates at which two epochs move the weights far, and yet two ways of rounding do not part.
RECIPE = Recipe(epochs=2, batch=7, learning_rate=1e-3, head_learning_rate=1e-2, seed=5)


def trained(
    recipe: Recipe, *, cut: str = CUT, val: bool = True, source: Held | None = None, **more: Any
) -> tuple[Grown, Trained]:
    drawn, train, looked_at = held(NETWORK, cut)
    module = grown_on(NETWORK, started(NETWORK, cut, drawn, train), recipe)
    return module, fit(module, source or drawn, train, looked_at if val else None, recipe, progress=Silent(), **more)


def plain_loop(module: Grown, source: Held, train: Samples, recipe: Recipe) -> None:
    """Two epochs as the paper of each trick has them, with nothing of greffon's loop but the order of its random numbers."""
    stages: list[nn.Module] = [*module.span.stages, module.head]
    groups = []
    for number, stage in enumerate(stages):
        top = number == len(stages) - 1
        rate = (
            recipe.head_learning_rate
            if top
            else recipe.learning_rate * recipe.stage_decay ** (len(stages) - 2 - number)
        )
        for part in stage.modules():
            for name, p in part.named_parameters(recurse=False):
                bare = isinstance(part, nn.BatchNorm2d) or name == "bias"
                groups.append(
                    {"params": [p], "rate": rate, "weight_decay": 0.0 if bare else recipe.weight_decay, "lr": rate}
                )
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=1.0, foreach=False)
    else:
        optimizer = torch.optim.SGD(groups, lr=1.0, momentum=recipe.momentum, nesterov=True, foreach=False)
    n = len(train)
    sizes = [len(part) for part in np.array_split(np.arange(n), math.ceil(n / recipe.batch))]
    total, step = recipe.epochs * len(sizes), 0
    warm = int(recipe.warmup * total)
    for epoch in range(recipe.epochs):
        rng = np.random.default_rng([recipe.seed, epoch])
        rng.integers(2**62)
        order, views = rng.permutation(n), rng.integers(0, source.views, n)
        module.eval()  # neither dropout nor moving statistics in this recipe
        at = 0
        for size in sizes:
            x = torch.from_numpy(source.maps[views[at : at + size], train.positions[order[at : at + size]]])
            y = torch.from_numpy(train.labels[order[at : at + size]])
            factor = (
                (step + 1) / (warm + 1) if step < warm else (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2
            )
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * factor
            optimizer.zero_grad()
            loss = functional.cross_entropy(module(x), y, label_smoothing=recipe.label_smoothing)
            loss.backward()
            norm = math.sqrt(sum(float((p.grad**2).sum()) for p in module.parameters() if p.grad is not None))
            if recipe.clip and norm > recipe.clip:
                for p in module.parameters():
                    if p.grad is not None:
                        p.grad *= recipe.clip / norm
            optimizer.step()
            at, step = at + size, step + 1


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("winograd", [False, True])
def test_two_epochs_are_those_of_a_plain_loop(optimizer: str, winograd: bool) -> None:
    recipe = replace(RECIPE, optimizer=optimizer, clip=0.5, label_smoothing=0.1, warmup=0.3)
    source, train, _ = held(NETWORK, CUT)
    theirs = grown_on(NETWORK, started(NETWORK, CUT, source, train), recipe).requires_grad_(True)
    before = copy.deepcopy(theirs.state_dict())
    plain_loop(theirs, source, train, recipe)
    ours, told = trained(replace(recipe, winograd=winograd), val=False)
    assert told.best_epoch == 2
    wanted, found = theirs.state_dict(), ours.state_dict()
    assert list(found) == list(wanted) == list(before)
    for name, tensor in wanted.items():
        moved = float((tensor.double() - before[name].double()).abs().max())
        assert float((found[name].double() - tensor.double()).abs().max()) <= 0.02 * moved + 1e-7, name
        still = "running" in name or "num_batches" in name or name in ("mean", "scale")
        assert moved > 0 or still or tensor.ndim == 1, name


def test_every_image_comes_once_in_an_epoch_and_the_views_are_drawn() -> None:
    source, _, _ = held(NETWORK, CUT, views=3)
    trained(replace(RECIPE, epochs=3), source=source)
    asked = [one for one in source.asked if one[0].max() < 24]
    epochs = [asked[i : i + 4] for i in range(0, len(asked), 4)]
    assert len(epochs) == 3
    for epoch in epochs:
        assert sorted(np.concatenate([positions for positions, _ in epoch]).tolist()) == list(range(24))
        assert {len(positions) for positions, _ in epoch} == {6}
        assert set(np.concatenate([views for _, views in epoch]).tolist()) == {0, 1, 2}
    orders = [np.concatenate([positions for positions, _ in epoch]).tolist() for epoch in epochs]
    assert orders[0] != orders[1] != orders[2]


def test_the_same_seed_twice_and_another_one() -> None:
    recipe = replace(RECIPE, dropout=0.2, mix="cutmix")
    one, two, other = (trained(replace(recipe, seed=seed))[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    drawn, train, _ = held(NETWORK, CUT)
    module = grown_on(NETWORK, started(NETWORK, CUT, drawn, train), recipe)
    before = torch.random.get_rng_state()
    fit(module, drawn, train, None, recipe, progress=Silent())
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's random numbers are the caller's"


def test_validation_is_of_the_plain_view_and_says_the_kept_figures() -> None:
    from scipy.optimize import minimize_scalar

    drawn, train, val = held(NETWORK, CUT)
    val = Samples(val.positions, np.roll(val.labels, 1) * (np.arange(8) < 3) + val.labels * (np.arange(8) >= 3))
    recipe = replace(RECIPE, epochs=3)
    module = grown_on(NETWORK, started(NETWORK, CUT, drawn, train), recipe)
    told = fit(module, drawn, train, val, recipe, progress=Silent())
    assert told.history[0].log_loss == pytest.approx(math.log(3))
    assert told.best_epoch == min(range(4), key=lambda e: told.history[e].log_loss or math.inf)
    with torch.no_grad():
        scores = module(torch.from_numpy(drawn.maps[0, val.positions])).double()
    row = told.history[told.best_epoch]
    assert row.accuracy == (scores.numpy().argmax(1) == val.labels).mean()
    assert row.accuracy is not None
    assert 0 < row.accuracy < 1
    labels = torch.from_numpy(val.labels)

    def told_by(t: float, doubt: float) -> float:
        return functional.cross_entropy(scores / np.exp(t), labels, label_smoothing=doubt).item()

    # The temperature is fitted with one more image in mind, of any class; the figure is that of the images.
    best: Any = minimize_scalar(lambda t: told_by(t, 1 / 9), bounds=(-5, 5), method="bounded")
    assert row.log_loss == pytest.approx(told_by(best.x, 0.0), abs=1e-4)
    assert all(torch.equal(tensor, told.state[name]) for name, tensor in module.state_dict().items())
    assert not any(p.requires_grad for p in module.parameters())


# --- what is trained and what stays ------------------------------------------------------------------------------


def of_norms(module: Grown) -> dict[str, torch.Tensor]:
    return {
        name: tensor.clone()
        for name, tensor in module.state_dict().items()
        if "running" in name or "num_batches" in name
    }


def test_frozen_statistics_stay_to_the_bit_and_trained_ones_move() -> None:
    source, train, _ = held(NETWORK, CUT)
    before = of_norms(grown_on(NETWORK, started(NETWORK, CUT, source, train), RECIPE))
    assert before
    frozen = of_norms(trained(RECIPE, val=False)[0])
    assert all(torch.equal(before[name], frozen[name]) for name in before)
    moving = of_norms(trained(replace(RECIPE, batch_norm="trained"), val=False)[0])
    assert not any(torch.equal(before[name], moving[name]) for name in before)
    assert {int(t) for name, t in moving.items() if "num_batches" in name} == {2 * 4}


@pytest.mark.parametrize("batch_norm", ["frozen", "trained"])
def test_gradual_unfreezing_leaves_stages_to_the_bit_until_their_epoch(batch_norm: str) -> None:
    recipe = replace(RECIPE, epochs=3, gradual=1, batch_norm=batch_norm)
    seen: list[dict[str, torch.Tensor]] = []
    drawn, train, _ = held(NETWORK, CUT)
    module = grown_on(NETWORK, started(NETWORK, CUT, drawn, train), recipe)
    start = copy.deepcopy(module.state_dict())

    def watch(row: EpochRow) -> bool:
        seen.append(copy.deepcopy(module.state_dict()))
        return False

    told = fit(module, drawn, train, None, recipe, progress=Silent(), watch=watch)
    assert [row.stages for row in told.history] == [0, 0, 1, 2]

    def moved(epoch: int, prefix: str) -> bool:
        names = [name for name in start if name.startswith(prefix)]
        assert names
        return not all(torch.equal(start[name], seen[epoch][name]) for name in names)

    assert [moved(epoch, "head.") for epoch in range(3)] == [True, True, True]
    assert [moved(epoch, "span.stages.1.") for epoch in range(3)] == [False, True, True]
    assert [moved(epoch, "span.stages.0.") for epoch in range(3)] == [False, False, True]


def test_the_moving_average_against_a_loop() -> None:
    recipe = replace(RECIPE, epochs=1, batch=24, ema=0.7, warmup=0.0)  # a step an epoch
    states: list[dict[str, torch.Tensor]] = []
    drawn, train, val = held(NETWORK, CUT)
    module = grown_on(NETWORK, started(NETWORK, CUT, drawn, train), replace(recipe, epochs=4))
    states.append(copy.deepcopy(module.state_dict()))
    fit(module, drawn, train, None, replace(recipe, epochs=4), progress=Silent(),
        watch=lambda _: states.append(copy.deepcopy(module.state_dict())) or False)  # fmt: skip
    for name, start in states[0].items():
        if not start.is_floating_point():
            continue
        average = start.double()
        for state in states[1:]:
            average = 0.7 * average + 0.3 * state[name].double()
        assert torch.allclose(module.state_dict()[name].double(), average, atol=1e-6), name
    # What is validated is the average: a run whose average moves least is judged by that.
    slow = trained(replace(RECIPE, ema=0.999999, epochs=1))[1].history[1]
    assert slow.log_loss == pytest.approx(math.log(3), abs=1e-3)
    assert len(val)


def test_it_stops_where_the_validation_gets_no_better() -> None:
    drawn, train, val = held(NETWORK, CUT, n=24)
    wrong = Samples(val.positions, (val.labels + 1) % 3)  # the better it learns, the worse it looks
    recipe = replace(RECIPE, epochs=9, patience=2, batch_norm="frozen")
    module = grown_on(NETWORK, started(NETWORK, CUT, drawn, train), recipe)
    told = fit(module, drawn, train, wrong, recipe, progress=Silent())
    assert len(told.history) - 1 == told.best_epoch + 2 < 9
    assert told.stopped == "no better validation in 2 epochs"
    assert trained(replace(RECIPE, epochs=3))[1].stopped == ""


@pytest.mark.parametrize("dust", [0.0, None])
def test_learned_images_leave_no_numbers_that_processors_are_slow_with(dust: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of an image's features: none that is tiny and yet not zero. Without the care that is taken there are many."""
    from greffon.training import fabric

    if dust is not None:
        monkeypatch.setattr(fabric, "_DUST", dust)
    drawn, train, _ = held(NETWORK, CUT)
    small = 0
    for margin in (40, 60, 80):
        module = grown_on(NETWORK, started(NETWORK, CUT, drawn, train), RECIPE)
        with torch.no_grad():
            for p in module.head.parameters():
                p.normal_(0, 0.01, generator=torch.Generator().manual_seed(margin))
                if p.ndim == 1:
                    p[0] = margin  # images of the first class are learned as well as can be

        def look(_: nn.Module, taken: Any, given: Any) -> None:
            nonlocal small
            largest = taken[0].abs().flatten(1).amax(1)
            small += int(((largest > 0) & (largest < 1e-14)).sum())

        module.head.register_full_backward_hook(look)
        fit(module, drawn, train, None, replace(RECIPE, learning_rate=1e-9, head_learning_rate=1e-9), progress=Silent())
    assert (small == 0) == (dust is None), small


def test_clipping_bounds_the_step() -> None:
    still = replace(RECIPE, optimizer="sgd", epochs=1, batch=24, momentum=0.0, weight_decay=0.0, warmup=0.0, stage_decay=1.0,
                    learning_rate=1.0, head_learning_rate=1.0, clip=1e-3)  # fmt: skip
    drawn, train, _ = held(NETWORK, CUT)
    module = grown_on(NETWORK, started(NETWORK, CUT, drawn, train), still)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    fit(module, drawn, train, None, still, progress=Silent())
    norm = math.sqrt(
        sum(float((p.double() - before[name].double()).square().sum()) for name, p in module.named_parameters())
    )
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_l2_sp_holds_the_stages_where_they_began() -> None:
    source, train, _ = held(NETWORK, CUT)
    start = grown_on(NETWORK, started(NETWORK, CUT, source, train), RECIPE).state_dict()

    def distance(strength: float) -> float:
        state = trained(replace(RECIPE, epochs=4, l2_sp=strength, clip=0.0, optimizer="sgd"), val=False)[0].state_dict()
        return sum(
            float((state[n] - start[n]).square().sum())
            for n in state
            if n.startswith("span.") and start[n].is_floating_point()
        )

    assert distance(300.0) < 0.8 * distance(0.0)


def test_a_watcher_ends_the_run() -> None:
    rows: list[EpochRow] = []
    _, told = trained(replace(RECIPE, epochs=5), watch=lambda row: rows.append(row) or row.epoch == 2)
    assert [row.epoch for row in rows] == [1, 2]
    assert rows == list(told.history[1:])
    assert told.stopped


# --- when it goes wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("val", [True, False])
def test_a_loss_that_is_no_number_stops_it_and_the_best_state_is_kept(val: bool) -> None:
    listener = Silent()
    drawn, train, looked_at = held(NETWORK, CUT)
    recipe = replace(RECIPE, learning_rate=1000.0, head_learning_rate=1000.0, clip=0.0, optimizer="sgd", epochs=6)
    module = grown_on(NETWORK, started(NETWORK, CUT, drawn, train), recipe)
    told = fit(module, drawn, train, looked_at if val else None, recipe, progress=listener)
    assert "--learning-rate" in told.stopped
    assert "1000" in told.stopped
    assert listener.warnings == [told.stopped]
    assert len(told.history) < 7
    assert all(torch.isfinite(tensor).all() for tensor in told.state.values())


def test_weights_that_are_no_numbers_after_the_last_step_are_not_kept() -> None:
    """The losses of both steps are fine, and the second one goes nowhere: nothing but a look at the result tells."""
    drawn, train, val = held(NETWORK, CUT)
    recipe = replace(
        RECIPE, epochs=1, batch=12, optimizer="sgd", clip=0.0, warmup=0.0, learning_rate=1e3, head_learning_rate=1e3
    )
    for samples in (None, val):
        for ema in (0.0, 0.5):
            recipe = replace(recipe, ema=ema)
            module = grown_on(NETWORK, started(NETWORK, CUT, drawn, train), recipe)
            told = fit(module, drawn, train, samples, recipe, progress=Silent())
            assert told.stopped.startswith(
                "the scores were no numbers after epoch 1: a lower --learning-rate (it was 1000)"
            )
            assert told.best_epoch == 0
            assert all(row.log_loss is None or math.isfinite(row.log_loss) for row in told.history)
            assert torch.equal(told.state["head.weight"], torch.zeros_like(told.state["head.weight"]))


def test_a_network_that_gives_no_numbers_is_told_at_once() -> None:
    drawn, train, _ = held(NETWORK, CUT)
    module = grown_on(NETWORK, started(NETWORK, CUT, drawn, train), RECIPE)
    with pytest.raises(ModelError, match="not finite"):
        fit(module, Held(np.full_like(drawn.maps, np.inf)), train, None, RECIPE, progress=Silent())


# --- exact resume ------------------------------------------------------------------------------------------------

VARIED = {
    "plain": RECIPE,
    "winograd": replace(RECIPE, winograd=True),
    "sgd": replace(RECIPE, optimizer="sgd"),
    "ema and mixup": replace(RECIPE, ema=0.8, mix="mixup", balanced=True),
    "dropout and cutmix": replace(RECIPE, dropout=0.3, mix="cutmix", l2_sp=0.1),
    "gradual, moving statistics": replace(RECIPE, gradual=1, batch_norm="trained"),
    "bfloat16": replace(RECIPE, precision="bfloat16"),
}


@pytest.mark.parametrize("name", VARIED)
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    recipe = replace(VARIED[name], epochs=4)
    whole, told = trained(recipe)
    path = tmp_path / "checkpoint.safetensors"

    class KilledError(Exception):
        pass

    def fail_at(count: int) -> Held:
        drawn, _, _ = held(NETWORK, CUT)
        real, calls = drawn.batch, []

        def batch(positions: np.ndarray, views: np.ndarray) -> torch.Tensor:
            calls.append(1)
            if len(calls) == count:
                raise KilledError
            return real(positions, views)

        drawn.batch = batch
        return drawn

    # Of five batches each epoch (four to train on, one to validate), after the first look at the validation images.
    for count in (8, 10):
        with pytest.raises(KilledError):
            trained(recipe, source=fail_at(count), checkpoint=path, resume=True)
        assert path.exists()
    again, went_on = trained(recipe, checkpoint=path, resume=True)
    for key, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key
    assert [replace(row, seconds=0) for row in went_on.history] == [replace(row, seconds=0) for row in told.history]
    assert (went_on.best_epoch, went_on.stopped) == (told.best_epoch, told.stopped)
    # Once more, from the end.
    last, ended = trained(recipe, checkpoint=path, resume=True)
    assert ended.history == went_on.history
    assert all(torch.equal(last.state_dict()[key], tensor) for key, tensor in whole.state_dict().items())
