"""What is suggested for labelling, against a naive loop, the best of all choices, scikit-learn's head and drawn clouds."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from greffon.errors import DataError, OptionError
from greffon.progress import Silent
from greffon.transfer.unsupervised import Given, Pool, greedy_cover, suggest_images, suggesting

WIDTH = 1.5


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.exp(-sum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True)) / (2 * WIDTH**2)))


def coverage(x: np.ndarray, weights: np.ndarray, chosen: list[int], known: np.ndarray) -> float:
    """The definition, written out."""
    total = 0.0
    for one, weight in zip(x, weights, strict=True):
        total += float(weight) * max([likeness(one, x[c]) for c in chosen] + [likeness(one, k) for k in known] + [0.0])
    return total


def cover(x: np.ndarray, budget: int, **changed: Any) -> np.ndarray:
    n = len(x)
    options: dict[str, Any] = {"weights": np.ones(n), "known": x[:0], "width": WIDTH, "groups": np.arange(n), "closed": np.zeros(n, bool),
                               "seed": 0, "progress": Silent()}  # fmt: skip
    options |= changed
    return greedy_cover(x, options.pop("weights"), options.pop("known"), budget, **options)


def cloud(n: int, seed: int, d: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_taken_is_what_a_naive_loop_takes(seed: int) -> None:
    x, known = cloud(30, seed), cloud(3, seed + 100)
    rng = np.random.default_rng(seed)
    weights, groups, closed = rng.random(30), rng.integers(0, 20, 30), rng.random(30) < 0.2
    wanted: list[int] = []
    for _ in range(8):
        taken = {int(groups[c]) for c in wanted}
        gains = {i: coverage(x, weights, [*wanted, i], known) for i in range(30) if not closed[i] and int(groups[i]) not in taken}
        wanted.append(max(gains, key=gains.__getitem__))
    found = cover(x, 8, weights=weights, known=known, groups=groups, closed=closed)
    assert found.tolist() == wanted


def test_the_bounds_are_looked_at_again_where_there_are_many() -> None:
    # More than are looked at at once, so that stale bounds count.
    x = cloud(400, 1, d=2)
    found = cover(x, 25, width=0.4)
    covered = np.zeros(400)
    squares = ((x[:, None].astype(np.float64) - x[None]) ** 2).sum(2)
    alike = np.exp(-squares / (2 * 0.4**2))
    for one in found:
        gains = np.maximum(alike - covered, 0).sum(1)
        assert gains[one] >= gains.max() * (1 - 1e-4)
        covered = np.maximum(covered, alike[one])


@pytest.mark.parametrize("seed", range(3))
def test_it_comes_near_the_best_of_all_choices(seed: int) -> None:
    x = cloud(11, seed)
    every = [coverage(x, np.ones(11), list(three), x[:0]) for three in itertools.combinations(range(11), 3)]
    found = coverage(x, np.ones(11), cover(x, 3).tolist(), x[:0])
    assert (1 - 1 / np.e) * max(every) <= found <= max(every) + 1e-6


def heaps(sizes: tuple[int, ...], seed: int = 0, apart: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """Clouds of unequal size, and whose each image is."""
    rng = np.random.default_rng(seed)
    centres = apart * np.eye(len(sizes), 6)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return (centres[truth] + 0.5 * rng.normal(size=(len(truth), 6))).astype(np.float32), truth


def pool(x: np.ndarray, groups: np.ndarray | None = None) -> Pool:
    return Pool(x, np.arange(len(x)) if groups is None else groups)


def given(x: np.ndarray, labels: list[int], classes: int, start: int = 10_000) -> Given:
    return Given(x, start + np.arange(len(x)), np.array(labels, np.int64), classes)


def test_first_comes_a_typical_one_of_the_largest_cloud_then_one_of_each() -> None:
    x, truth = heaps((40, 25, 10, 6))
    found = suggest_images(pool(x), 4, progress=Silent())
    assert [int(truth[one.position]) for one in found] == [0, 1, 2, 3]
    for one in found:
        own = x[truth == truth[one.position]]
        off = np.linalg.norm(own - own.mean(0), axis=1)
        assert np.linalg.norm(x[one.position] - own.mean(0)) <= np.quantile(off, 0.25)
    assert [one.stands_for for one in found] == [40, 25, 10, 6]
    assert {one.doubt for one in found} == {-1.0}


def test_what_is_labelled_covers_already() -> None:
    x, truth = heaps((40, 25, 10, 6))
    known = np.stack([x[truth == c].mean(0) for c in (0, 1)])
    for labels in ([0, 1], [0, 0], [-1, -1]):
        found = suggest_images(pool(x), 2, given=given(known, labels, 2), progress=Silent())
        assert {int(truth[one.position]) for one in found} == {2, 3}, labels


def test_what_the_head_cannot_tell_apart_comes_first() -> None:
    # Two clouds with labels, and as many images half-way between them.
    x, _ = heaps((30, 30))
    between = (x[:20] + x[30:50]) / 2
    every = np.concatenate([x, between]).astype(np.float32)
    known = np.concatenate([x[:3], x[30:33]])
    told = suggest_images(pool(every), 5, given=given(known, [0] * 3 + [1] * 3, 2), progress=Silent())
    assert told[0].position >= 60
    assert told[0].doubt > 0.5
    assert {told[0].best, told[0].second} == {0, 1}
    model = LogisticRegression(C=10.0, tol=1e-10, max_iter=10_000).fit(known.astype(np.float64), [0] * 3 + [1] * 3)
    for one in told:
        probabilities = model.predict_proba(every[one.position : one.position + 1].astype(np.float64))[0]
        assert sorted(one.probable, reverse=True) == pytest.approx(sorted(probabilities, reverse=True), abs=1e-3)
        assert one.doubt == pytest.approx(1 - abs(probabilities[0] - probabilities[1]), abs=2e-3)


def test_doubt_outweighs_a_heap_that_is_little_larger() -> None:
    # The same heap twice, and one image more where the head is sure.
    heap = 0.2 * np.random.default_rng(0).normal(size=(10, 2))
    sure, torn = np.array([-8.0, 6.0]), np.array([0.0, 6.0])
    x = np.concatenate([sure + heap, [sure + heap.mean(0)], torn + heap]).astype(np.float32)
    known = np.array([[-4, 0], [-4, 0.1], [4, 0], [4, 0.1]], np.float32)
    plain = suggest_images(pool(x), 1, given=given(known, [0, 0, 0, 0], 2), progress=Silent())
    told = suggest_images(pool(x), 1, given=given(known, [0, 0, 1, 1], 2), progress=Silent())
    assert plain[0].position < 11 <= told[0].position


def test_copies_are_suggested_once_and_not_where_one_is_labelled() -> None:
    x, _ = heaps((12, 12))
    twice = np.concatenate([x, x + np.float32(0.001)])
    groups = np.tile(np.arange(24), 2)
    found = suggest_images(pool(twice, groups), 1000, progress=Silent())
    assert sorted(groups[[one.position for one in found]]) == list(range(24))
    known = Given(x[:2], groups[:2], np.array([0, 0]), 1)
    left = suggest_images(pool(twice, groups), 1000, given=known, progress=Silent())
    assert sorted(groups[[one.position for one in left]]) == list(range(2, 24))


def test_every_image_counts_for_its_nearest() -> None:
    x, known = cloud(60, 5), cloud(4, 6)
    found = suggest_images(pool(x), 7, given=given(known, [0, 1, 0, 1], 2), progress=Silent())
    centres = [*(x[one.position] for one in found), *known]
    nearest = [min(range(len(centres)), key=lambda c: float(np.linalg.norm(one - centres[c]))) for one in x]
    assert [one.stands_for for one in found] == [nearest.count(i) for i in range(7)]


@pytest.mark.parametrize("labels", [[], [0], [0, 0], [0, 1]])
def test_odd_pools(labels: list[int]) -> None:
    known = given(cloud(len(labels), 3), labels, 2) if labels else None
    one = suggest_images(pool(cloud(1, 0)), 5, given=known, progress=Silent())
    assert [found.position for found in one] == [0]
    same = suggest_images(pool(np.zeros((6, 3), np.float32)), 4, given=known, progress=Silent())
    assert [found.position for found in same] == [0, 1, 2, 3]
    every = suggest_images(pool(cloud(9, 0)), 100, given=known, progress=Silent())
    assert sorted(found.position for found in every) == list(range(9))


def test_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggesting, "_MARKS", 50)
    monkeypatch.setattr(suggesting, "_ONE_BY_ONE", 10)
    x, truth = heaps((200, 100, 60))
    groups = np.arange(360) // 2
    one, again = (suggest_images(pool(x, groups), 30, seed=1, progress=Silent()) for _ in range(2))
    assert one == again
    assert len({int(groups[found.position]) for found in one}) == len(one) == 30
    assert {int(truth[found.position]) for found in one[:3]} == {0, 1, 2}


def test_the_pool_has_no_field_for_labels() -> None:
    assert [field.name for field in dataclasses.fields(Pool)] == ["features", "groups"]


def test_errors() -> None:
    x = cloud(5, 0)
    for budget in (0, -3):
        with pytest.raises(OptionError, match="budget must be at least 1"):
            suggest_images(pool(x), budget, progress=Silent())
    with pytest.raises(DataError, match="have 2 features, the others 3"):
        suggest_images(pool(x), 1, given=given(x[:, :2], [0] * 5, 1), progress=Silent())
    for build in (
        lambda: Pool(x[0], np.arange(3)),
        lambda: Pool(x, np.arange(4)),
        lambda: Pool(np.full((2, 2), np.nan, np.float32), np.arange(2)),
        lambda: Given(x, np.arange(5), np.zeros(4, np.int64), 2),
        lambda: Given(x, np.arange(5), np.zeros(5), 2),
        lambda: Given(x, np.arange(5), np.full(5, 2), 2),
    ):
        with pytest.raises(DataError):
            build()
