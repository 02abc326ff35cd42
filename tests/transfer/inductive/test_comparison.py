"""Backbones side by side: order, differences, and the Pareto front."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from greffon.errors import OptionError
from greffon.metrics import paired_difference, wilson_interval
from greffon.transfer.inductive import Contender, Cost, pareto_front, side_by_side

COST = Cost(10.0, (9.0, 12.0), "float32", "torch", 1_000, 4_000, 50_000)


def contender(name: str, right: list[int], seconds: float) -> Contender:
    return Contender(name, np.array(right, bool), replace(COST, seconds_per_1000=seconds), ("mean of the last stage, l2",))


def test_the_best_stands_first_and_the_others_are_compared_with_it() -> None:
    a = contender("a", [1, 1, 0, 0, 1, 0, 0, 1], 5.0)
    b = contender("b", [1, 1, 1, 1, 1, 1, 0, 1], 20.0)
    c = contender("c", [1, 0, 1, 1, 1, 1, 1, 1], 10.0)
    rows = side_by_side([a, b, c])
    assert [row.name for row in rows] == ["c", "b", "a"], "of equals the quicker first"
    assert [row.accuracy for row in rows] == [7 / 8, 7 / 8, 4 / 8]
    assert [row.interval for row in rows] == [wilson_interval(7, 8), wilson_interval(7, 8), wilson_interval(4, 8)]
    assert (rows[0].to_best, rows[0].to_best_interval) == (0.0, (0.0, 0.0))
    assert (rows[1].to_best, rows[1].to_best_interval) == paired_difference(b.right, c.right)
    assert (rows[2].to_best, rows[2].to_best_interval) == paired_difference(a.right, c.right)
    assert [row.on_front for row in rows] == [True, False, True]
    assert all(row.is_as_good for row in rows), "eight images tell little"
    many = side_by_side([contender("a", [1, 0] * 50, 5.0), contender("b", [1] * 100, 6.0)])
    assert [row.is_as_good for row in many] == [True, False]
    kept = json.loads(json.dumps(rows[2].to_dict(), allow_nan=False))
    assert (kept["name"], kept["seconds_per_1000"], kept["parameters"], kept["on_front"]) == ("a", 5.0, 1_000, True)
    assert "cost" not in kept


def test_what_was_not_measured_on_the_same_images_is_refused() -> None:
    with pytest.raises(OptionError, match="none"):
        side_by_side([])
    with pytest.raises(OptionError, match=r"\[2, 3\]"):
        side_by_side([contender("a", [1, 0], 1.0), contender("b", [1, 0, 1], 1.0)])


def test_the_front_by_hand() -> None:
    #         best    dominated  cheapest  equal to the cheapest  cheap, worse than it
    costs = [100.0, 90.0, 10.0, 10.0, 20.0]
    gains = [0.95, 0.80, 0.85, 0.85, 0.84]
    assert pareto_front(costs, gains) == [True, False, True, True, False]
    assert pareto_front([1.0], [0.0]) == [True]


@pytest.mark.parametrize("seed", range(4))
def test_the_front_by_walking_along_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs, gains = rng.integers(1, 8, 12).astype(float), rng.integers(1, 8, 12) / 8
    # From the cheapest upwards, of equal cost the best first: on the front is what beats everything before it.
    expected, high = [False] * 12, -1.0
    for i in sorted(range(12), key=lambda i: (costs[i], -gains[i])):
        same = any(expected[j] and costs[j] == costs[i] and gains[j] == gains[i] for j in range(12))
        if gains[i] > high or same:
            expected[i], high = True, max(high, gains[i])
    assert pareto_front(list(costs), list(gains)) == expected
