"""How well classes are told apart: the interval against published values, and classes that are the same by design."""

from __future__ import annotations

import numpy as np
import pytest

from greffon.auditing import informedness, separations
from greffon.auditing.separating import confused_findings


@pytest.mark.parametrize(
    ("a", "m", "b", "n", "low", "high"),
    [
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (0, 10, 0, 10, -0.2775, 0.2775),
        (10, 10, 0, 20, 0.6791, 1.0),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_the_interval_is_newcombes(a: int, m: int, b: int, n: int, low: float, high: float) -> None:
    """Newcombe (1998), Statistics in Medicine 17, 873-890, table II, method 10."""
    difference, interval = informedness(a, m, b, n)
    assert difference == pytest.approx(a / m - b / n)
    assert interval == pytest.approx((low, high), abs=5e-5)


def test_without_images_nothing_is_known() -> None:
    assert informedness(0, 0, 1, 2) == (0.0, (-1.0, 1.0))
    assert informedness(1, 2, 0, 0) == (0.0, (-1.0, 1.0))


def test_pairs_are_counted_between_two_classes_alone() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.3, 0.2, 0.5], [0.2, 0.3, 0.5]])
    labels = np.array([0, 0, 1, 2])
    pairs = {(one.first, one.second): one for one in separations(p, labels, np.ones(4, bool))}
    assert set(pairs) == {(0, 1), (0, 2), (1, 2)}
    assert (pairs[0, 1].n, pairs[0, 1].mistaken) == ((2, 1), (1, 1))
    assert (pairs[0, 2].n, pairs[0, 2].mistaken) == ((2, 1), (1, 0))
    assert (pairs[1, 2].n, pairs[1, 2].mistaken) == ((1, 1), (1, 0))
    assert pairs[0, 1].separation == pytest.approx(0.5 - 1.0)
    assert [one.separation for one in separations(p, labels, np.ones(4, bool))] == sorted(one.separation for one in pairs.values())
    assert separations(p, labels, labels == 0) == ()


def test_the_same_class_twice_is_found_and_few_images_are_not() -> None:
    rng = np.random.default_rng(0)

    def told(n: int) -> list[str]:
        labels = np.repeat([0, 1, 2], n)
        p = rng.dirichlet([1, 1, 1], 3 * n) * 0.1
        p[labels < 2, :2] += rng.dirichlet([1, 1], 2 * n)  # 0 and 1 look alike
        p[labels == 2, 2] += 1
        pairs = separations(p / p.sum(1, keepdims=True), labels, np.ones(3 * n, bool))
        return [f"{one.label} {one.suggested}: {one.reason}" for one in confused_findings(pairs, ("a", "b", "c"))]

    assert len(told(100)) == 1
    assert told(100)[0].startswith("a b: they cannot be told apart")
    assert told(4) == []
