"""Every method of ``ABOVE``, found in the table: the same contract for all, and for each a sign that its loss acts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from greffon.errors import DataError, ModelError, OptionError
from greffon.losses import class_confusion, coral, information_maximisation, joint_mmd, median_bandwidth, mmd
from greffon.progress import Silent
from greffon.training import Grown, Recipe, Trained, fit
from greffon.transfer.inductive import Start
from greffon.transfer.transductive import ABOVE, adapt_above, suggested_rates
from greffon.transfer.transductive.above import CDAN, Method, ramp
from growing import Held
from shifted import Domains, accuracy, begun, features_of, shifted

RECIPE = Recipe(epochs=8, batch=24, learning_rate=3e-4, head_learning_rate=3e-3, seed=1)
SHORT = replace(RECIPE, epochs=3)

#: Feature norms grow in whatever direction they have: on drawn activations, whose shift is such a direction, that gains nothing. (The
#: paper grows those of new layers behind BatchNorm and ReLU.) It is asked not to do harm where the task is easy.
NO_GAIN = {"afn"}

Look = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


@cache
def drawn(seed: int = 0, noise: float = 4.0, shift: float = 1.0, n: int = 144, m: int = 120) -> Domains:
    return shifted(n, m, seed=seed, noise=noise, shift=shift)


_TRAINED: dict[Start, Grown] = {}


def source_only(domains: Domains) -> Grown:
    """Trained once on the source of domains that have one beginning."""
    if domains.start not in _TRAINED:
        grown = begun(domains, RECIPE)
        fit(grown, domains.source, domains.labelled, None, RECIPE, progress=Silent())
        _TRAINED[domains.start] = grown
    return _TRAINED[domains.start]


def adapted(method: str | Method, domains: Domains, recipe: Recipe = RECIPE, **more: Any) -> tuple[Grown, Trained]:
    """As a job would: a method that has no photos of the source begins at its trained model."""
    chosen = ABOVE[method] if isinstance(method, str) else method
    free = not chosen.objective().labelled
    grown = copy.deepcopy(source_only(domains)) if free else begun(domains, recipe)
    labelled = None if free else domains.labelled
    told = adapt_above(grown, domains.source, labelled, domains.target, method, recipe, val=domains.val, progress=Silent(), **more)
    return grown, told


@cache
def once(name: str, seed: int = 0) -> tuple[Grown, Trained]:
    return adapted(name, drawn(seed))


def looked(grown: Grown, domains: Domains) -> Look:
    return features_of(grown, domains, domains.labelled.positions), features_of(grown, domains, domains.target)


def same(one: Grown, other: Grown) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


# --- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ABOVE)
def test_the_losses_are_numbers_and_the_history_tells_of_the_target(name: str) -> None:
    _, told = once(name)
    assert len(told.history) == RECIPE.epochs + 1
    assert told.best_epoch == RECIPE.epochs
    assert not told.stopped
    for row in told.history:
        assert row.target is not None
        assert row.accuracy is not None
        assert all(math.isfinite(value) for value in (row.target.information, row.target.density, row.target.spread))
        assert not row.target.collapsed
        assert row.epoch == 0 or (row.loss is not None and math.isfinite(row.loss))
        assert row.epoch == 0 or (row.target.loss is not None and math.isfinite(row.target.loss))


@pytest.mark.parametrize("name", ABOVE)
def test_the_same_seed_and_another_one(name: str) -> None:
    domains = drawn(n=48, m=40)
    one, two, other = (adapted(name, domains, replace(SHORT, seed=seed))[0] for seed in (1, 1, 2))
    assert same(one, two)
    assert not same(one, other)


@pytest.mark.parametrize("name", ABOVE)
def test_other_labels_of_the_target_change_nothing(name: str) -> None:
    """The caller knows them; what it hands down does not."""
    domains = drawn(n=48, m=40)
    turned = replace(domains, truth=np.roll(domains.truth, 7))
    assert same(adapted(name, domains, SHORT)[0], adapted(name, turned, SHORT)[0])


class KilledError(Exception):
    pass


def failing_at(domains: Domains, count: int) -> Domains:
    """The same domains, but for the batch at which the run is killed."""
    source = Held(domains.source.maps)
    real, calls = source.batch, []

    def batch(positions: np.ndarray, views: np.ndarray) -> Tensor:
        calls.append(1)
        if len(calls) == count:
            raise KilledError
        return real(positions, views)

    source.batch = batch
    return replace(domains, source=source)


@pytest.mark.parametrize("name", [*ABOVE, "cdan of random projections"])
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    method = ABOVE[name] if name in ABOVE else CDAN(most=10, random=32)  # they are drawn once, at the beginning
    domains = drawn(n=48, m=40)
    whole, told = adapted(method, domains, SHORT)
    path = tmp_path / "checkpoint.safetensors"

    saved: list[bytes] = []
    # Three batches before the first epoch, and seven in each: in the second epoch, and, going on after that one's beginning, the third.
    for count in (14, 9):
        with pytest.raises(KilledError):
            adapted(method, failing_at(domains, count), SHORT, checkpoint=path, resume=True)
        saved.append(path.read_bytes())
    assert saved[0] != saved[1], "the second one came an epoch further"
    again, went_on = adapted(method, domains, SHORT, checkpoint=path, resume=True)
    assert same(whole, again)
    assert [replace(row, seconds=0) for row in went_on.history] == [replace(row, seconds=0) for row in told.history]
    assert went_on.best_epoch == told.best_epoch


@pytest.mark.parametrize("name", ABOVE)
def test_it_does_no_harm_where_the_task_is_easy(name: str) -> None:
    easy = drawn(seed=1, noise=2.0, shift=0.5)
    assert accuracy(adapted(name, easy)[0], easy) >= accuracy(source_only(easy), easy) > 0.9


@pytest.mark.parametrize("name", sorted(set(ABOVE) - NO_GAIN))
def test_it_gains_where_the_source_alone_falls_short(name: str) -> None:
    before = [accuracy(source_only(drawn(seed)), drawn(seed)) for seed in (0, 2)]
    after = [accuracy(once(name, seed)[0], drawn(seed)) for seed in (0, 2)]
    assert max(before) < 0.95
    assert sum(after) > sum(before) + 0.05, (before, after)


# --- that each loss acts ----------------------------------------------------------------------------------------------


def mmd_of_features(found: Look) -> float:
    a, b = found[0][0], found[1][0]
    return mmd(a, b, [median_bandwidth(a, b)]).item()


def joint_of_both(found: Look) -> float:
    (a, p), (b, q) = ((features, logits.softmax(1)) for features, logits in found)
    return joint_mmd([a, p], [b, q], [[median_bandwidth(a, b)], [1.68]]).item()


#: A figure of both domains that the method should make smaller than training on the source alone does.
SMALLER: dict[str, Callable[[Look], float]] = {
    "deep-coral": lambda found: coral(found[0][1], found[1][1]).item(),
    "dan": mmd_of_features,
    "jan": joint_of_both,
    "dann": mmd_of_features,
    "cdan": joint_of_both,
    "cdan+e": joint_of_both,
    "mcc": lambda found: class_confusion(found[1][1]).item(),
    "afn": lambda found: -found[1][0].norm(dim=1).mean().item(),
    "shot": lambda found: information_maximisation(found[1][1]).item(),
}


@pytest.mark.parametrize("name", ABOVE)
def test_its_loss_acts(name: str) -> None:
    domains = drawn()
    before, after = SMALLER[name](looked(source_only(domains), domains)), SMALLER[name](looked(once(name)[0], domains))
    assert after < before - 0.1 * abs(before), (before, after)


def test_shot_leaves_the_head_to_the_bit() -> None:
    before, after = source_only(drawn()), once("shot")[0]
    assert torch.equal(before.head.weight, after.head.weight)
    assert torch.equal(before.head.bias, after.head.bias)
    assert not torch.equal(next(before.span.parameters()), next(after.span.parameters()))


def test_a_checkpoint_of_another_method_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    adapted("cdan", drawn(n=48, m=40), replace(SHORT, epochs=1), checkpoint=path)
    with pytest.raises(ModelError, match=r"adaptation\.entropy was false, is true"):
        adapted("cdan+e", drawn(n=48, m=40), replace(SHORT, epochs=1), checkpoint=path, resume=True)


def test_the_ramp_is_that_of_the_paper() -> None:
    assert ramp(0.0) == 0
    assert ramp(0.5) == pytest.approx(2 / (1 + math.exp(-5)) - 1)
    assert ramp(1.0) == pytest.approx(math.tanh(5))


# --- what it is asked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ABOVE)
def test_methods_are_frozen_and_their_numbers_are_json(name: str) -> None:
    import json

    method = ABOVE[name]
    assert json.loads(json.dumps(asdict(method)))
    first = fields(method)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(method, first, 0)


@pytest.mark.parametrize("name", ABOVE)
def test_rates_are_suggested_for_every_method(name: str) -> None:
    rate, head_rate = suggested_rates(name)
    assert 0 < rate <= 1e-4 and 0 < head_rate < Recipe().head_learning_rate
    assert suggested_rates(ABOVE[name]) == (rate, head_rate)
    against = ABOVE[name].objective().modules(8, 3).state_dict()  # a discriminator, which the features have to follow
    assert (rate < suggested_rates("mcc")[0]) == bool(against)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(OptionError, match="method must be one of"):
        suggested_rates("none of them")
    domains = drawn(n=48, m=40)

    def run(name: str, *, labelled: bool = True, recipe: Recipe = SHORT, target: np.ndarray = domains.target, head: bool = True) -> None:
        grown = begun(domains, recipe)
        if not head:
            torch.nn.init.zeros_(grown.head.weight)
        adapt_above(grown, domains.source, domains.labelled if labelled else None, target, name, recipe, val=None, progress=Silent())

    with pytest.raises(OptionError, match="method must be one of deep-coral, dan"):
        run("coral")
    with pytest.raises(DataError, match="takes labelled images"):
        run("dann", labelled=False)
    with pytest.raises(DataError, match="the target alone, and no labelled images"):
        run("shot")
    with pytest.raises(OptionError, match="a head that knows nothing yet"):
        run("shot", labelled=False, head=False)
    with pytest.raises(OptionError, match="gradual must be 0"):
        run("shot", labelled=False, recipe=replace(SHORT, gradual=1))
    with pytest.raises(OptionError, match="patience must be 0"):
        run("dan", recipe=replace(SHORT, patience=2))
    for target in (np.zeros(0, np.int64), np.zeros((2, 2), np.int64), np.zeros(3)):
        with pytest.raises(DataError, match="target: positions must be"):
            run("dan", target=target)
