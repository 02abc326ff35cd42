"""The curve of accuracy by the number of training images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import curve_fit

from greffon.errors import DataError
from greffon.evaluation import Growth, GrowthPoint, PowerLaw, measure_growth
from greffon.evaluation.growth import fit_power_law, training_sizes
from greffon.progress import Silent
from greffon.report import plot_growth

SIZES = (10, 20, 40, 80, 160, 320)


def clouds(n: int, spread: float, classes: int = 3, width: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and groups: a cloud a class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = rng.normal(size=(classes, width))
    return (centres[labels] + spread * rng.normal(size=(n, width))).astype(np.float32), labels, np.arange(n)


def measured(n: int, spread: float, seed: int = 0) -> Growth:
    x, y, groups = clouds(n, spread)
    return measure_growth(x, y, 3, groups, head="logistic", strength=1.0, norm="standard", seed=seed, progress=Silent())


# --- the law -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("floor", "scale", "rate"), [(0.1, 1.5, 0.6), (0.0, 0.8, 0.3), (0.25, 2.0, 1.2)])
def test_a_known_law_is_found_again(floor: float, scale: float, rate: float) -> None:
    errors = floor + scale * np.array(SIZES, float) ** -rate
    law = fit_power_law(SIZES, errors, np.ones(6))
    assert (law.floor, law.rate) == pytest.approx((floor, rate), abs=5e-3)
    assert [law.error(n) for n in (*SIZES, 640)] == pytest.approx([*errors, floor + scale * 640.0**-rate], abs=1e-4)


def test_noisy_points_give_scipys_curve() -> None:
    rng = np.random.default_rng(3)
    n, noise = np.array(SIZES, float), np.array([0.02, 0.015, 0.01, 0.008, 0.006, 0.005])
    errors = 0.1 + 1.2 * n**-0.7 + noise * rng.normal(size=6)
    law = fit_power_law(SIZES, errors, 1 / noise)
    found, _ = curve_fit(lambda n, a, b, c: a + b * n**-c, n, errors, p0=(0.1, 1.0, 0.5), sigma=noise, bounds=(0, [1, 20, 2]))
    assert [law.error(size) for size in n] == pytest.approx([found[0] + found[1] * size ** -found[2] for size in n], abs=1e-4)


def test_an_error_that_does_not_fall_is_a_floor() -> None:
    law = fit_power_law(SIZES, np.full(6, 0.3), np.ones(6))
    assert law.error(10) == pytest.approx(0.3, abs=1e-6)
    assert law.error(1e6) == pytest.approx(0.3, abs=1e-6)


# --- the measurement ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "classes", "sizes"),
    [(640, 3, (10, 20, 40, 80, 160, 320, 640)), (100, 5, (12, 25, 50, 100)), (12, 3, (6, 12)), (5, 3, (5,)), (10**6, 2, None)],
)
def test_sizes_are_halves_of_halves(most: int, classes: int, sizes: tuple[int, ...] | None) -> None:
    found = training_sizes(most, classes)
    assert found[-1] == most
    assert sizes is None or found == sizes
    assert len(found) <= 7


def test_accuracy_grows_and_the_intervals_hold_it() -> None:
    growth = measured(300, 2.0)
    accuracies = [one.accuracy for one in growth.points]
    assert [one.images for one in growth.points] == [7, 15, 30, 60, 120, 240]
    assert accuracies[-1] > accuracies[0] + 0.1
    assert all(low <= accuracy <= high for accuracy, (low, high) in ((one.accuracy, one.interval) for one in growth.points))
    assert growth.images == 300
    assert growth.gain is not None and growth.gain_interval is not None
    assert growth.gain_interval[0] <= growth.gain <= growth.gain_interval[1]
    assert growth.foretold == pytest.approx(accuracies[-1], abs=0.1)
    assert json.loads(json.dumps(growth.to_dict(), allow_nan=False)) == growth.to_dict()
    assert "Twice as many photos (600 instead of 300)" in growth.sentence


def test_what_is_foretold_for_twice_as_many_comes_true() -> None:
    """The curve of 400 photos, held against heads that have learned from 800 of the same kind."""
    few, many = measured(400, 2.0), measured(1000, 2.0)
    assert few.doubled is not None and few.gain_interval is not None and few.now is not None
    assert many.points[-1].images == pytest.approx(800, abs=2)
    width = few.points[-1].interval[1] - few.points[-1].interval[0]
    assert few.doubled == pytest.approx(many.points[-1].accuracy, abs=width / 2 + 0.02)


def test_the_same_seed_gives_the_same_curve_and_another_another() -> None:
    assert measured(120, 2.0).to_dict() == measured(120, 2.0).to_dict()
    assert measured(120, 2.0).to_dict() != measured(120, 2.0, seed=1).to_dict()


def test_no_photo_is_tested_by_a_head_that_has_learned_from_it() -> None:
    """Labels that mean nothing are not foretold better than by chance, though every photo stands there twice."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(60, 40)), 2, 0).astype(np.float32)
    y, groups = np.repeat(rng.integers(0, 2, 60), 2), np.repeat(np.arange(60), 2)
    growth = measure_growth(x, y, 2, groups, head="knn", strength=1.0, norm="standard", progress=Silent())
    assert growth.points[-1].accuracy < 0.65


def test_few_photos_have_wide_intervals_and_no_prophecy() -> None:
    growth = measured(12, 1.0)
    assert growth.law is None and growth.gain is None and growth.verdict == "unsure"
    assert growth.sentence == "12 photos are too few to say whether more would help."
    assert all(one.interval[1] - one.interval[0] > 0.2 for one in growth.points)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 0, 0, 1]])
def test_what_has_no_curve_is_told(labels: list[int]) -> None:
    with pytest.raises(DataError, match="two classes or more, and two different images of each"):
        measure_growth(np.eye(4, dtype=np.float32), np.array(labels), 2, np.arange(4), head="logistic", strength=1.0, norm="l2",
                       progress=Silent())  # fmt: skip


def given(low: float, gain: float, high: float) -> Growth:
    return Growth((GrowthPoint(10, 0.5, (0.4, 0.6)),), 20, 4, 5, PowerLaw(0.1, 1.0, 0.5), 0.6, 0.6 + gain, gain, (low, high), None)


def test_the_verdict_goes_by_the_interval() -> None:
    assert given(0.01, 0.02, 0.03).verdict == "yes"
    assert given(0.0, 0.002, 0.008).verdict == "hardly"
    assert given(0.0, 0.02, 0.05).verdict == "unsure"
    assert given(0.01, 0.02, 0.03).sentence == (
        "Twice as many photos (40 instead of 20) would help: +2.0 points (95 % interval +1.0 to +3.0) if the curve goes on as it has."
    )


def test_the_picture_is_the_same_every_time(tmp_path: Path) -> None:
    growth = measured(120, 2.0)
    for kind in ("png", "svg"):
        plot_growth(growth, tmp_path / f"a.{kind}", title="$photos$")
        plot_growth(growth, tmp_path / f"b.{kind}", title="$photos$")
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    plot_growth(measured(12, 1.0), tmp_path / "few.png")
