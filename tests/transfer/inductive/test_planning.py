"""What a run costs, and what is done where the disk or the time is too small: case by case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from greffon.activations import Tap, make_engine
from greffon.backbones.describe import describe_plan
from greffon.errors import OptionError
from greffon.training import Recipe
from greffon.transfer.inductive import Layout, estimate, estimate_for_minutes, record_shape, within_budget
from growing import ARCHITECTURES, drawn_network

NETWORK = drawn_network()
RECIPE = Recipe(epochs=4, batch=8)
#: layer3 takes activations of 48 × 4 × 4, layer4 of 192 × 2 × 2: 768 numbers each.
RECORD = 48 * 4 * 4 * 4


def budgeted(
    wanted: Layout, budget: int, *, training: int = 100, below: float = 1e9, above: float = 1e9, least_views: int = 2
) -> tuple[Layout, str]:
    return within_budget(NETWORK, wanted, budget, training, 40, 20, below, above, RECIPE, least_views=least_views)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_shape_of_a_record_is_that_of_an_engine(architecture: str) -> None:
    network = drawn_network(architecture)
    for cut in ("all", *network.stages[1:]):
        engine = make_engine(network, Tap("map", cut), "float32", keep="float32")
        assert record_shape(network, cut) == tuple(engine.record[0])


def test_costs_by_hand() -> None:
    adds = [row.multiply_adds for row in describe_plan(NETWORK.plan).stages]
    found = estimate(NETWORK, Layout("layer3", 3, "float32"), 100, 40, 20, 1e6, 2e6, RECIPE)
    assert (found.training, found.others, found.record_bytes) == (100, 40, RECORD)
    assert found.disk_bytes == (100 * 3 + 40) * RECORD
    assert found.pass_seconds == pytest.approx(340 * sum(adds[:3]) / 1e6)
    assert found.epoch_seconds == pytest.approx((100 * 3 + 20) * sum(adds[3:]) / 2e6)
    half = estimate(NETWORK, Layout("layer3", 3, "bfloat16"), 100, 40, 20, 1e6, 2e6, RECIPE)
    assert half.disk_bytes == found.disk_bytes / 2
    again = estimate(NETWORK, Layout("layer3", 3, "float32", recompute=True), 100, 40, 20, 1e6, 2e6, RECIPE)
    assert again.disk_bytes == 0
    assert again.epoch_seconds == pytest.approx(found.epoch_seconds + 120 * sum(adds[:3]) / 1e6)
    pixels = estimate(NETWORK, Layout("all", 2, "float32"), 100, 40, 20, 1e6, 2e6, RECIPE)
    assert (pixels.record_bytes, pixels.pass_seconds) == (32 * 32 * 3, 0)
    assert set(found.to_dict()) == {
        "training",
        "others",
        "record_bytes",
        "disk_bytes",
        "pass_seconds",
        "epoch_seconds",
        "memory_bytes",
    }


WANTED = Layout("layer3", 4, "float32")


@pytest.mark.parametrize(
    ("wanted", "budget", "speeds", "expected", "told"),
    [
        (WANTED, 0, {}, WANTED, ""),
        (WANTED, 440 * RECORD, {}, WANTED, ""),
        # One byte less: three views fit, and need the shortest pass.
        (WANTED, 440 * RECORD - 1, {}, replace(WANTED, views=3), "3 views instead of 4"),
        (WANTED, 240 * RECORD, {"above": 1e12}, replace(WANTED, views=2), "2 views instead of 4"),
        # Two views do not fit any more; with a frozen part that costs nothing it may as well run again.
        (WANTED, 239 * RECORD, {"below": 1e15}, replace(WANTED, recompute=True), "runs again in every epoch"),
        (WANTED, 239 * RECORD, {"below": 1e3}, replace(WANTED, recompute=True), "runs again in every epoch"),
        # The images themselves are smaller than a map: 32 × 32 × 3 bytes; the next cut that is smaller still is layer2's.
        (
            Layout("stem", 2, "float32"),
            200_000,
            {"below": 1e15},
            Layout("stem", 2, "float32", recompute=True),
            "runs again",
        ),
        # A single wanted view is the least.
        (
            Layout("layer3", 1, "float32"),
            139 * RECORD,
            {},
            Layout("layer3", 1, "float32", recompute=True),
            "runs again",
        ),
    ],
)
def test_what_fits_a_budget(wanted: Layout, budget: int, speeds: dict[str, Any], expected: Layout, told: str) -> None:
    layout, why = budgeted(wanted, budget, **speeds)
    assert layout == expected
    assert told in why
    assert bool(why) == (layout != wanted)
    if not layout.recompute and budget:
        assert estimate(NETWORK, layout, 100, 40, 20, 1e9, 1e9, RECIPE).disk_bytes <= budget


def test_the_next_higher_cut_that_fits_is_weighed_and_taken_where_it_is_the_cheapest() -> None:
    # Above layer1 there are 32 × 8 × 8 numbers, above layer2 48 × 4 × 4.
    wanted, budget = Layout("layer2", 2, "float32"), 240 * RECORD
    layout, why = budgeted(wanted, budget, below=1e12, above=1e6)
    assert layout == replace(wanted, cut="layer3")
    assert "the cut below layer3 instead of layer2" in why
    assert "weighed against" in why
    # With the least views allowed to be one, fewer views are in the race as well.
    assert "1 views instead of 2" in budgeted(wanted, 150 * 8192, below=1e12, above=1e6, least_views=1)[1]


def test_the_cheapest_wins_whatever_the_speeds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(4):
        cut = NETWORK.stages[int(rng.integers(1, 5))]
        wanted = Layout(cut, int(rng.integers(1, 9)), "float32")
        below, above = 10 ** rng.uniform(5, 12, 2)
        record = estimate(NETWORK, wanted, 100, 40, 20, below, above, RECIPE).record_bytes
        budget = int(rng.integers(8 * record, 900 * record))
        layout, _ = budgeted(wanted, budget, below=below, above=above)

        def seconds(one: Layout, below: float = below, above: float = above) -> float:
            cost = estimate(NETWORK, one, 100, 40, 20, below, above, RECIPE)
            return cost.pass_seconds + 4 * cost.epoch_seconds

        def size(one: Layout) -> int:
            return estimate(NETWORK, one, 100, 40, 20, 1, 1, RECIPE).disk_bytes

        if size(wanted) <= budget:
            assert layout == wanted
            continue
        fitting = [replace(wanted, recompute=True)]
        fitting += [
            replace(wanted, views=v) for v in range(2, wanted.views) if size(replace(wanted, views=v)) <= budget
        ][-1:]
        higher = NETWORK.stages[NETWORK.position(cut) + 1 :]
        fitting += [replace(wanted, cut=c) for c in higher if size(replace(wanted, cut=c)) <= budget][:1]
        assert layout in fitting
        assert seconds(layout) == pytest.approx(min(seconds(one) for one in fitting))


def test_a_budget_below_one_batch_is_an_error() -> None:
    with pytest.raises(OptionError, match="--cache-budget must hold one batch of activations at layer3"):
        budgeted(WANTED, 8 * RECORD - 1)
    assert budgeted(WANTED, 8 * RECORD)[0].recompute
    # A batch is never larger than the images that there are.
    assert budgeted(WANTED, 3 * RECORD, training=3)[0].recompute


def test_views_and_epochs_that_fit_a_time() -> None:
    engine = make_engine(NETWORK, Tap("pooled"), "float32")
    assert estimate_for_minutes(NETWORK, engine, "layer3", 100, 40, 4, 10, float("inf")) == ((4, 10), "")
    assert estimate_for_minutes(NETWORK, engine, "layer3", 100, 40, 4, 10, 1e9) == ((4, 10), "")
    for seconds in (0.0, -5.0):
        fitted, why = estimate_for_minutes(NETWORK, engine, "layer3", 100, 40, 4, 10, seconds)
        assert fitted is None
        assert why == "fine-tuning from layer3 does not fit into the time that is left (0 s)"
    # A time of some epochs: what is measured varies, what it means does not.
    found = [
        estimate_for_minutes(NETWORK, engine, "layer3", 10**6, 40, 4, 10, seconds)
        for seconds in np.geomspace(1, 1e6, 12)
    ]
    for fitted, why in found:
        assert fitted is None or (1 <= fitted[0] <= 4 and 1 <= fitted[1] <= 10)
        assert bool(why) == (fitted != (4, 10))
    assert found[0][0] is None
    assert found[-1][0] == (4, 10)
