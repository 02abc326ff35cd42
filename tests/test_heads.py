"""Heads against scikit-learn's own, features against slices and loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.svm import LinearSVC

from greffon.errors import ModelError, OptionError
from greffon.heads import (
    HEADS,
    NORMS,
    POOLS,
    LinearHead,
    NeighbourHead,
    Normaliser,
    Representation,
    fit_head,
    fit_heads,
    fit_temperature,
    head_from_arrays,
    principal_axes,
    softmax,
    strengths,
)

WIDTHS = (3, 5, 4)


def clouds(seed: int, n: int, d: int, classes: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Normalised features of classes that overlap, with a spectrum that falls as that of real features does."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), np.arange(classes), rng.integers(0, classes, n - 2 * classes)])
    x = rng.normal(size=(classes, d))[y] + spread * rng.normal(size=(n, d))
    x = (x / np.arange(1, d + 1) ** 0.5 + 2).astype(np.float32)
    return Normaliser.fit(x, "standard").apply(x), y.astype(np.int64)


# --- features --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", ["last", "all"])
@pytest.mark.parametrize("pool", ["mean", "max", "mean+max"])
def test_take_is_the_pooled_stages_side_by_side(stages: Any, pool: Any) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(6, width, 4, 4)).astype(np.float32) for width in WIDTHS]
    record = np.concatenate([part for m in maps for part in (m.mean((2, 3)), m.max((2, 3)))], 1)
    expected = []
    for stage in maps if stages == "all" else maps[-1:]:
        expected += [stage.mean((2, 3))] if "mean" in pool else []
        expected += [stage.max((2, 3))] if "max" in pool else []
    got = Representation(stages, pool).take(record, WIDTHS)
    assert got.dtype == np.float32
    assert np.array_equal(got, np.concatenate(expected, 1))


def test_flattened_maps_come_as_float32_or_as_the_bits_of_bfloat16() -> None:
    maps = torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0))
    flat = Representation("last", "flatten")
    assert np.array_equal(flat.take(maps.numpy(), WIDTHS), maps.reshape(3, -1).numpy())
    half = maps.bfloat16()
    got = flat.take(half.view(torch.int16).numpy().view(np.uint16), WIDTHS)
    assert got.dtype == np.float32
    assert np.array_equal(got, half.float().reshape(3, -1).numpy())


@pytest.mark.parametrize("words", [("first", "mean", "l2"), ("last", "min", "l2"), ("last", "mean", "l1"), ("all", "flatten", "l2")])
def test_unknown_representations_are_refused(words: tuple[Any, Any, Any]) -> None:
    with pytest.raises(OptionError, match="Representation"):
        Representation(*words)


@pytest.mark.parametrize("norm", NORMS)
def test_normaliser_is_its_loops(norm: str) -> None:
    rng = np.random.default_rng(1)
    train, other = rng.gamma(1, 3, (700, 6)).astype(np.float32), rng.normal(size=(9, 6)).astype(np.float32)
    train[:, 2] = 7.0  # says nothing

    def row(values: np.ndarray) -> np.ndarray:
        v = values.astype(np.float64)
        if norm == "sqrt-l2":
            v = np.array([np.sign(e) * abs(e) ** 0.5 for e in v])
        return v if norm == "standard" else v / np.sqrt(sum(e * e for e in v))

    rows = np.array([row(r) for r in train])
    mean = np.array([sum(column) / len(column) for column in rows.T])
    if norm == "standard":
        deviation = np.array([np.sqrt(sum((v - m) ** 2 for v in column) / len(column)) for column, m in zip(rows.T, mean, strict=True)])
        scale = np.array([0 if i == 2 else 1 / deviation[i] / np.sqrt(5) for i in range(6)])
    else:
        scale = np.full(6, 1 / np.sqrt(sum(sum((r - mean) ** 2) for r in rows) / len(rows)))
    found = Normaliser.fit(train, norm)
    assert found.apply(other).dtype == np.float32
    assert found.apply(other) == pytest.approx(np.array([(row(r) - mean) * scale for r in other]), abs=2e-5)
    assert (found.apply(train).astype(np.float64) ** 2).sum(1).mean() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_normaliser_survives_features_that_are_all_alike(norm: str) -> None:
    for value in (0.0, 5.0):
        same = np.full((4, 3), value, np.float32)
        assert np.array_equal(Normaliser.fit(same, norm).apply(same), np.zeros((4, 3)))


@pytest.mark.parametrize("shape", [(40, 7), (12, 60), (20, 20)])
def test_principal_axes_keep_all_inner_products(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    x[:, -1] = x[:, 0]  # one direction less
    turned, axes = principal_axes(x)
    assert turned.shape[1] == min(shape[0], shape[1] - 1)
    assert turned @ axes == pytest.approx(x, abs=1e-5)
    assert axes @ axes.T == pytest.approx(np.eye(len(axes)), abs=1e-6)
    strength = (turned**2).sum(0)
    assert (np.diff(strength) <= 1e-4).all()
    assert strength == pytest.approx(np.linalg.svd(x.astype(np.float64))[1][: len(axes)] ** 2, rel=1e-4)


def test_principal_axes_of_nothing() -> None:
    turned, axes = principal_axes(np.zeros((3, 5), np.float32))
    assert np.array_equal(turned @ axes, np.zeros((3, 5)))


# --- against scikit-learn --------------------------------------------------------------------------------------

#: Few classes and many, fewer images than features and more.
SHAPES = [(80, 10, 2), (90, 12, 4), (40, 150, 2), (50, 170, 5), (400, 20, 30)]


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("strength", [1.0, 30.0, 300.0])
def test_logistic_is_scikit_learns(shape: tuple[int, int, int], strength: float, balanced: bool) -> None:
    x, y = clouds(3, *shape)
    other, _ = clouds(4, *shape)
    mine = fit_head("logistic", x, y, shape[2], strength, balanced=balanced)
    theirs = LogisticRegression(C=strength, class_weight="balanced" if balanced else None, tol=1e-8, max_iter=20000)
    theirs.fit(x.astype(np.float64), y)
    near = 2e-3 if strength > 100 else 5e-4
    for some in (x, other):
        assert mine.probabilities(some) == pytest.approx(theirs.predict_proba(some.astype(np.float64)), abs=near)
        assert np.array_equal(mine.scores(some).argmax(1), theirs.predict(some.astype(np.float64)))


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_svm_and_ridge_are_scikit_learns(shape: tuple[int, int, int], balanced: bool) -> None:
    x, y = clouds(5, *shape)
    other, _ = clouds(6, *shape)
    weight = "balanced" if balanced else None
    for kind, strength, theirs in (
        ("svm", 3.0, LinearSVC(C=3.0, class_weight=weight, dual=False, tol=1e-9, max_iter=20000)),  # type: ignore[arg-type]
        ("ridge", 0.3, RidgeClassifier(alpha=0.3, class_weight=weight)),
    ):
        theirs.fit(x.astype(np.float64), y)
        expected = theirs.decision_function(other.astype(np.float64))
        scores = fit_head(kind, x, y, shape[2], strength, balanced=balanced).scores(other)
        assert (scores[:, 1] - scores[:, 0] if shape[2] == 2 else scores) == pytest.approx(expected, abs=2e-3), kind


@pytest.mark.parametrize("shape", SHAPES)
def test_centroid_and_neighbours_are_scikit_learns(shape: tuple[int, int, int]) -> None:
    x, y = clouds(7, *shape)
    other, _ = clouds(8, *shape)
    assert np.array_equal(fit_head("centroid", x, y, shape[2], 1).scores(other).argmax(1), NearestCentroid().fit(x, y).predict(other))
    for k in (1, 3, 9):
        theirs = KNeighborsClassifier(k).fit(x, y)
        mine = fit_head("knn", x, y, shape[2], k)
        assert np.array_equal(mine.scores(other).argmax(1), theirs.predict(other))
        # The shares with one vote spread over all classes, then as logarithms.
        votes = theirs.predict_proba(other) * k
        assert mine.probabilities(other) == pytest.approx((votes + 1 / shape[2]) / (k + 1), abs=1e-9)


def test_a_grid_gives_what_single_fits_give() -> None:
    x, y = clouds(9, 120, 30, 4)
    for kind in HEADS:
        for strength, head in zip(strengths(kind), fit_heads(kind, x, y, 4, strengths(kind)), strict=True):
            assert head.scores(x) == pytest.approx(fit_head(kind, x, y, 4, strength).scores(x), abs=3e-3), (kind, strength)


# --- the contract of every head --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("classes", [2, 6])
def test_every_head_keeps_the_contract(kind: str, classes: int) -> None:
    x, y = clouds(10, 90, 16, classes, spread=0.3)
    strength = strengths(kind)[len(strengths(kind)) // 2]
    assert list(strengths(kind)) == sorted(strengths(kind))
    head = fit_head(kind, x, y, classes, strength)
    assert head.kind == kind
    scores, probabilities = head.scores(x), head.probabilities(x)
    assert scores.shape == probabilities.shape == (90, classes)
    assert scores.dtype == probabilities.dtype == np.float64
    assert probabilities.sum(1) == pytest.approx(np.ones(90))
    assert (scores.argmax(1) == y).mean() > 0.9
    assert np.array_equal(scores.argmax(1), probabilities.argmax(1))
    again = fit_head(kind, x, y, classes, strength)
    assert all(np.array_equal(a, b) for a, b in zip(head.arrays().values(), again.arrays().values(), strict=True))
    about = {"kind": kind, "temperature": 0.7, "k": head.k if isinstance(head, NeighbourHead) else None}
    back = head_from_arrays(about, head.arrays(), 16, classes)
    assert np.array_equal(back.scores(x), scores)
    assert back.probabilities(x) == pytest.approx(softmax(scores / 0.7))


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("present", [(1, 4), (0, 2, 5)])
def test_a_class_without_images_never_wins(kind: str, present: tuple[int, ...]) -> None:
    x, y = clouds(11, 60, 8, len(present))
    head = fit_head(kind, x, np.array(present)[y], 6, strengths(kind)[-1])
    far = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32) * 30
    for some in (x, far):
        assert set(head.scores(some).argmax(1).tolist()) <= set(present)


@pytest.mark.parametrize("kind", HEADS)
def test_faults_of_the_caller_are_named(kind: str) -> None:
    x, y = clouds(12, 20, 4, 2)
    with pytest.raises(OptionError, match="two classes"):
        fit_head(kind, x, np.zeros(20, np.int64), 2, 1.0)
    for strength in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="strength"):
            fit_head(kind, x, y, 2, strength)
    with pytest.raises(OptionError, match="the head must be one of"):
        fit_head("forest", x, y, 2, 1.0)


def test_more_neighbours_than_images_are_all_images() -> None:
    x, y = clouds(13, 4, 4, 2)
    assert fit_head("knn", x, y, 2, 15).probabilities(x) == pytest.approx(np.full((4, 2), 0.5))


@pytest.mark.parametrize(
    ("about", "arrays"),
    [
        ([], {}),
        ({"kind": "forest", "temperature": 1.0}, {}),
        ({"kind": [], "temperature": 1.0}, {}),
        ({"kind": "svm", "temperature": 0.0}, {}),
        ({"kind": "svm", "temperature": float("nan")}, {}),
        ({"kind": "svm", "temperature": True}, {}),
        ({"kind": "svm", "temperature": "1"}, {}),
        ({"kind": "svm", "temperature": 1.0}, {"bias": np.zeros(2, np.float32)}),
        ({"kind": "svm", "temperature": 1.0}, {"weight": np.zeros((2, 3), np.float32), "bias": np.zeros(3, np.float32)}),
        ({"kind": "svm", "temperature": 1.0}, {"weight": np.zeros((3, 2), np.float32), "bias": np.zeros(2, np.float32)}),
        ({"kind": "svm", "temperature": 1.0}, {"weight": np.full((2, 3), np.nan, np.float32), "bias": np.zeros(2, np.float32)}),
        ({"kind": "svm", "temperature": 1.0}, {"weight": np.zeros((2, 3), np.int8), "bias": np.zeros(2, np.float32)}),
        ({"kind": "knn", "temperature": 1.0, "k": "3"}, {"features": np.zeros((4, 3), np.float32), "labels": np.zeros(4, np.int64)}),
        ({"kind": "knn", "temperature": 1.0, "k": 5}, {"features": np.zeros((4, 3), np.float32), "labels": np.zeros(4, np.int64)}),
        ({"kind": "knn", "temperature": 1.0, "k": 1}, {"features": np.zeros((0, 3), np.float32), "labels": np.zeros(0, np.int64)}),
        ({"kind": "knn", "temperature": 1.0, "k": 1}, {"features": np.zeros((4, 3), np.float32), "labels": np.full(4, 2)}),
        ({"kind": "knn", "temperature": 1.0, "k": 1}, {"features": np.zeros((4, 3), np.float32), "labels": np.full(4, 0.5)}),
    ],
)
def test_damaged_heads_are_refused(about: Any, arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError):
        head_from_arrays(about, arrays, 3, 2)


# --- temperature -----------------------------------------------------------------------------------------------


def test_temperature_is_the_best_of_a_grid() -> None:
    rng = np.random.default_rng(14)
    y = rng.integers(0, 5, 4000)
    scores = 6 * (rng.normal(size=(4000, 5)) + 1.2 * np.eye(5)[y])
    grid = np.exp(np.linspace(-4, 4, 4001))
    loss = [-np.log(softmax(scores / t)[np.arange(4000), y]).mean() for t in grid[1500:3500]]
    assert fit_temperature(scores, y) == pytest.approx(grid[1500:3500][int(np.argmin(loss))], rel=5e-3)
    assert fit_temperature(scores * 3, y) == pytest.approx(3 * fit_temperature(scores, y), rel=1e-3)


def test_images_that_are_all_right_do_not_make_a_head_certain() -> None:
    y = np.arange(20) % 2
    scores = 5.0 * np.eye(2)[y]
    best = softmax(scores / fit_temperature(scores, y)).max(1)
    # 20 right and one that is either: the log-loss is least at 20.5 / 21.
    assert best == pytest.approx(np.full(20, 20.5 / 21), abs=1e-4)


def test_images_of_a_class_that_was_not_learned_say_nothing_of_the_temperature() -> None:
    rng = np.random.default_rng(15)
    y = rng.integers(0, 3, 200)
    scores = np.concatenate([rng.normal(size=(200, 3)) + np.eye(3)[y], np.full((200, 1), -np.inf)], 1)
    with_stranger = fit_temperature(np.concatenate([scores, scores[:1]]), np.append(y, 3))
    assert with_stranger == fit_temperature(scores, y)
    assert with_stranger == pytest.approx(fit_temperature(scores[:, :3], y), rel=1e-3)
    assert fit_temperature(scores[:1], np.array([3])) == 1.0


def test_softmax_of_large_scores() -> None:
    assert softmax(np.array([[1e4, 0.0], [-1e4, -1e4]])) == pytest.approx(np.array([[1.0, 0.0], [0.5, 0.5]]))


def test_the_tables_are_what_they_name() -> None:
    assert set(POOLS) == {"mean", "max", "mean+max", "flatten"}
    assert isinstance(fit_head("svm", *clouds(16, 20, 4, 2), 2, 1.0), LinearHead)
