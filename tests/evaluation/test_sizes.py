"""Accuracy in groups of photos of about the same size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from greffon.evaluation import accuracy_by_size


def test_groups_are_quarters_with_their_own_accuracy() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.permutation(np.arange(1000, 1100))
    right = pixels < 1040
    found = accuracy_by_size(pixels, right)
    assert [one.count for one in found] == [25, 25, 25, 25]
    assert [(one.smallest, one.largest) for one in found] == [(1000, 1024), (1025, 1049), (1050, 1074), (1075, 1099)]
    assert [one.accuracy for one in found] == [1.0, 15 / 25, 0.0, 0.0]
    for one in found:
        expected = binomtest(round(one.accuracy * 25), 25).proportion_ci(0.95, method="wilson")
        assert one.interval == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_equal_sizes_stay_together() -> None:
    pixels = np.array([100] * 30 + [200] * 5 + [300] * 5)
    found = accuracy_by_size(pixels, np.ones(40, bool))
    assert [(one.smallest, one.largest, one.count) for one in found] == [(100, 100, 30), (200, 300, 10)]
    assert [one.count for one in accuracy_by_size(np.full(50, 7), np.ones(50, bool))] == [50]


@pytest.mark.parametrize(("n", "groups"), [(0, 0), (1, 1), (19, 1), (20, 2), (39, 3), (400, 4)])
def test_few_photos_make_few_groups(n: int, groups: int) -> None:
    found = accuracy_by_size(np.arange(n), np.zeros(n, bool))
    assert len(found) == groups
    assert sum(one.count for one in found) == n


def test_it_is_json() -> None:
    assert accuracy_by_size(np.array([6]), np.array([True]))[0].to_dict() == {
        "smallest": 6, "largest": 6, "count": 1, "accuracy": 1.0, "interval": [pytest.approx(0.2065, abs=1e-4), 1.0],
    }  # fmt: skip
