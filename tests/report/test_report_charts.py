"""Charts as SVG: where values lie, and that names cannot break out."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from greffon.evaluation import GrowthPoint, evaluate_probabilities
from greffon.report.run.charts import Epoch, accuracy_chart, learning_chart, loss_chart, nice_ticks, reliability_chart
from greffon.report.run.saying import speaker
from reported import drawn_probabilities

EN, FR = speaker("en"), speaker("fr")
#: Where the field of every chart lies in pixels.
LEFT, RIGHT, TOP, BOTTOM = 52, 340, 12, 216


def elements(svg: str, tag: str, kind: str = "") -> list[dict[str, str]]:
    root = ET.fromstring(str(svg))
    return [one.attrib for one in root.iter(tag) if not kind or one.attrib.get("class") == kind]


def words(svg: str) -> list[str]:
    return [one.text or "" for one in ET.fromstring(str(svg)).iter("text")]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.31, 0.98), (0, 37), (12, 12.5), (0, 1e-4), (1e5, 3e6)])
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    from matplotlib.ticker import MaxNLocator

    ticks = nice_ticks(low, high)
    theirs = [tick for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high) if low - 1e-12 <= tick <= high + 1e-12]
    assert len(ticks) >= 2
    np.testing.assert_allclose(ticks, theirs, atol=1e-12)


def test_nothing_between_two_equal_values() -> None:
    assert nice_ticks(3, 3) == (3,)


def test_the_reliability_diagram_shows_each_bin_at_its_place() -> None:
    labels = np.arange(300) % 3
    evaluation = evaluate_probabilities(labels, drawn_probabilities(labels, 3), "abc")
    svg = reliability_chart(evaluation, EN)
    dots = elements(svg, "circle", "first")
    assert len(dots) == len(evaluation.reliability) > 3
    for dot, one in zip(dots, evaluation.reliability, strict=True):
        assert float(dot["cx"]) == pytest.approx(LEFT + one.confidence * (RIGHT - LEFT), abs=0.06)
        assert float(dot["cy"]) == pytest.approx(BOTTOM - one.accuracy * (BOTTOM - TOP), abs=0.06)
    largest = max(zip(dots, evaluation.reliability, strict=True), key=lambda pair: pair[1].count)[0]
    assert float(largest["r"]) == max(float(dot["r"]) for dot in dots)
    assert "100\u00a0%" in words(svg)
    assert "100\u202f%" in words(reliability_chart(evaluation, FR))


HISTORY = (Epoch(0, None, 0.9, 0.5), Epoch(1, 0.8, 0.6, 0.75), Epoch(2, math.nan, 0.3, 0.9))


def test_losses_start_at_nothing_and_what_is_no_number_is_left_out() -> None:
    svg = loss_chart(HISTORY, 2, EN)
    squares = elements(svg, "rect", "second")
    assert len(elements(svg, "circle", "first")) == 1 and len(squares) == 3
    high = 1.05 * 0.9
    middles = [float(one["y"]) + float(one["height"]) / 2 for one in squares]
    assert middles == pytest.approx([BOTTOM - loss / high * (BOTTOM - TOP) for loss in (0.9, 0.6, 0.3)], abs=0.1)
    assert "kept: epoch 2" in words(svg) and "gardée\u00a0: époque 2" in words(loss_chart(HISTORY, 2, FR))
    assert "nan" not in str(svg).lower()


def test_without_validation_there_is_no_accuracy() -> None:
    assert accuracy_chart((Epoch(1, 0.5, None, None),), 1, EN) is None
    assert len(elements(str(accuracy_chart(HISTORY, 2, EN)), "circle", "third")) == 3


def test_the_learning_curve_is_drawn_by_the_logarithm_of_images() -> None:
    points = tuple(GrowthPoint(size, share, (share - 0.02, share + 0.02)) for size, share in ((50, 0.6), (100, 0.7), (200, 0.75)))
    across = [float(one["cx"]) for one in elements(learning_chart(points, EN), "circle", "first")]
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.15)
    assert {"50", "100", "200"} <= set(words(learning_chart(points, EN)))


def test_all_right_and_all_wrong_can_be_drawn() -> None:
    for share in (0.0, 1.0):
        points = tuple(GrowthPoint(size, share, (share, share)) for size in (10, 20))
        text = str(learning_chart(points, EN))
        assert not re.search(r"nan|inf", text)
        heights = [float(one["cy"]) for one in elements(text, "circle")]
        assert all(TOP - 0.1 <= height <= BOTTOM + 0.1 for height in heights)
