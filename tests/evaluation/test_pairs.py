"""Two models on the same images."""

from __future__ import annotations

import json

import numpy as np
import pytest

from greffon.evaluation import compare_predictions


def said(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True classes, which are 0, and what two models say: 0, or another class."""
    n = both + first + second + neither
    truth, one, other = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    one[both + first :] = 1
    other[both : both + first] = 2
    other[both + first + second :] = 1
    return truth, one, other


def test_the_four_counts_and_the_difference() -> None:
    # Fagerland, Lydersen and Laake (2013), BMC Medical Research Methodology 13:91: airway hyper-responsiveness, exact p 0.070.
    found = compare_predictions(*said(1, 1, 7, 12))
    assert (found.both, found.only_first, found.only_second, found.neither, found.n) == (1, 1, 7, 12, 21)
    assert (found.first, found.second) == pytest.approx((2 / 21, 8 / 21))
    assert found.difference == pytest.approx(-6 / 21)
    assert found.interval == pytest.approx((-0.517, -0.026), abs=5e-4)
    assert found.p_value == pytest.approx(0.0703, abs=5e-5)
    assert found.verdict == "no difference beyond chance"
    assert found.apart.tolist() == list(range(1, 9))


def test_a_clear_difference_is_told_either_way() -> None:
    truth, one, other = said(50, 20, 2, 5)
    assert compare_predictions(truth, one, other).verdict == "the first is better"
    turned = compare_predictions(truth, other, one)
    assert turned.verdict == "the second is better"
    assert turned.difference == pytest.approx(-18 / 77)


def test_two_that_agree_everywhere_do_not_differ() -> None:
    found = compare_predictions(*said(9, 0, 0, 1))
    assert (found.p_value, found.difference) == (1.0, 0.0)
    assert found.interval[0] < 0 < found.interval[1]
    assert len(found.apart) == 0
    assert json.loads(json.dumps(found.to_dict()))["verdict"] == "no difference beyond chance"


def test_both_wrong_in_different_ways_is_apart_too() -> None:
    found = compare_predictions(np.array([0, 0]), np.array([1, 0]), np.array([2, 0]))
    assert (found.neither, found.apart.tolist()) == (1, [0])
