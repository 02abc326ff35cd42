"""What every method of the table keeps to, on whatever it is given, and what it is worth on drawn domains."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest

from clouds import Clouds, drawn
from greffon.errors import DataError
from greffon.heads import Representation
from greffon.transfer.transductive import (
    LOOKS,
    METHODS,
    VOTERS,
    Domains,
    FeatureMethod,
    Labelled,
    Unlabelled,
    adapt_features,
    has_pot,
    look_at,
)

NAMES = [name for name in METHODS if name != "optimal-transport" or has_pot()]
SETTINGS = [pytest.param(one, id=f"{name}-{i}") for name in NAMES for i, one in enumerate(METHODS[name])]
PLAIN = drawn(60, 50, 8, move=3, turn=0.4, stretch=1.5)
S, T = PLAIN.source, PLAIN.target


def only(source: Labelled, keep: np.ndarray) -> Labelled:
    return Labelled(source.features[keep], source.labels[keep], source.classes)


def with_columns(x: np.ndarray, value: float) -> np.ndarray:
    found = x.copy()
    found[:, :3] = value
    return found


def both(clouds: Clouds) -> tuple[Labelled, Unlabelled]:
    return clouds.source, clouds.target


CASES: dict[str, Callable[[], tuple[Labelled, Unlabelled]]] = {
    "plain": lambda: (S, T),
    "a class without images": lambda: (only(S, S.labels != 1), T),
    "one class alone": lambda: (only(S, S.labels == 1), T),
    "an image a class": lambda: (only(S, np.unique(S.labels, return_index=True)[1]), T),
    "one image": lambda: (only(S, np.array([4])), T),
    "a target of one": lambda: (S, Unlabelled(T.features[:1])),
    "a target of two": lambda: (S, Unlabelled(T.features[:2])),
    "a target of five": lambda: (S, Unlabelled(T.features[:5])),
    "one image on both sides": lambda: (only(S, np.array([4])), Unlabelled(T.features[:1])),
    "features that never move": lambda: (
        replace(S, features=with_columns(S.features, 7)), Unlabelled(with_columns(T.features, 7)),
    ),
    "features that do not move in the target": lambda: (S, Unlabelled(with_columns(T.features, 0.1))),
    "a target in which nothing moves": lambda: (S, Unlabelled(np.full_like(T.features, 0.1))),
    "nothing moves": lambda: (replace(S, features=np.zeros_like(S.features)), Unlabelled(np.zeros_like(T.features))),
    "images many times": lambda: (
        Labelled(np.repeat(S.features, 3, 0), np.repeat(S.labels, 3), 3), Unlabelled(np.repeat(T.features[:15], 4, 0)),
    ),
    "one image many times": lambda: (S, Unlabelled(np.repeat(T.features[:1], 30, 0))),
    "the target is the source": lambda: (S, Unlabelled(S.features)),
    "more features than images": lambda: both(drawn(30, 25, 90, move=3, turn=0.4)),
    "one feature": lambda: both(drawn(30, 25, 1, move=3)),
    "two classes": lambda: both(drawn(40, 30, 8, 2, move=3, turn=0.4)),
    "as many classes as images": lambda: both(drawn(20, 20, 8, 20, move=3)),
    "a target far smaller": lambda: both(drawn(300, 7, 8, move=3, turn=0.4)),
    "a target far larger": lambda: both(drawn(9, 200, 8, move=3, turn=0.4)),
    "tiny numbers": lambda: (replace(S, features=S.features * 1e-6), Unlabelled(T.features * 1e-6)),
    "huge numbers": lambda: (replace(S, features=S.features * 1e6), Unlabelled(T.features * 1e6)),
    "domains far away": lambda: (S, Unlabelled(T.features + 1000)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", SETTINGS)
def test_probabilities_on_whatever_is_given(method: FeatureMethod, case: str) -> None:
    """No warning (they are errors), no crash, rows that sum to 1, and the same again."""
    source, target = CASES[case]()
    before = source.features.copy(), target.features.copy()
    told = method.probabilities(source, target, 3)
    assert told.shape == (len(target), source.classes)
    assert told.dtype == np.float64
    assert np.isfinite(told).all()
    assert (told >= 0).all()
    np.testing.assert_allclose(told.sum(1), 1, atol=1e-9)
    np.testing.assert_array_equal(method.probabilities(source, target, 3), told)
    np.testing.assert_array_equal(source.features, before[0])
    np.testing.assert_array_equal(target.features, before[1])


@pytest.mark.parametrize("method", SETTINGS)
def test_one_image_far_from_all_others(method: FeatureMethod) -> None:
    features = T.features[:12].copy()
    features[0] *= 1e4
    told = method.probabilities(only(S, np.arange(24)), Unlabelled(features), 0)
    assert np.isfinite(told).all()
    np.testing.assert_allclose(told.sum(1), 1, atol=1e-9)


@pytest.mark.parametrize("method", SETTINGS)
def test_a_class_without_images_is_never_named(method: FeatureMethod) -> None:
    told = method.probabilities(only(S, S.labels != 1), T, 0)
    assert (told.argmax(1) != 1).all()
    assert told[:, 1].max() < 0.01
    assert (method.probabilities(only(S, S.labels == 1), T, 0).argmax(1) == 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_images_does_not_matter(name: str) -> None:
    rng = np.random.default_rng(0)
    order, other = rng.permutation(len(T)), rng.permutation(len(S))
    for method in METHODS[name]:
        told = method.probabilities(S, T, 0)[order]
        again = method.probabilities(only(S, other), Unlabelled(T.features[order]), 0)
        if name == "meda":  # it tells the domains apart on halves, which depend on the order
            assert (told.argmax(1) == again.argmax(1)).mean() > 0.95
        else:
            np.testing.assert_allclose(again, told, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_classes_may_be_numbered_otherwise(name: str) -> None:
    number = np.array([2, 0, 1])
    for method in METHODS[name]:
        told = method.probabilities(S, T, 0)
        again = method.probabilities(replace(S, labels=number[S.labels]), T, 0)
        if name == "meda":
            assert (again[:, number].argmax(1) == told.argmax(1)).mean() > 0.95
        else:
            np.testing.assert_allclose(again[:, number], told, atol=2e-3)


EASY = [drawn(120, 120, 16, 4, move=2, turn=0.2, stretch=1.2, apart=5, seed=seed) for seed in range(3)]
HARD = [drawn(120, 120, 16, 4, move=8, turn=0.6, stretch=1.5, apart=5, seed=seed) for seed in range(3)]


def mean_accuracy(method: FeatureMethod, problems: list[Clouds]) -> float:
    return float(np.mean([one.accuracy(method.probabilities(one.source, one.target, 0)) for one in problems]))


BASE = mean_accuracy(METHODS["source-only"][0], EASY), mean_accuracy(METHODS["source-only"][0], HARD)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "source-only"])
def test_adapting_does_no_harm_where_it_is_easy_and_helps_where_it_is_hard(name: str) -> None:
    for method in METHODS[name]:
        assert mean_accuracy(method, EASY) > BASE[0] - 0.02
        assert mean_accuracy(method, HARD) > BASE[1] + 0.08


# --- what cannot be given ---------------------------------------------------------------------------------------------


def test_a_target_has_no_labels() -> None:
    assert [field.name for field in fields(Unlabelled)] == ["features"]
    assert [field.name for field in fields(Domains)] == ["representation", "source", "target"]
    with pytest.raises(TypeError):
        Unlabelled(T.features, PLAIN.truth)  # type: ignore[call-arg]
    with pytest.raises((AttributeError, TypeError)):
        T.labels = PLAIN.truth  # type: ignore[attr-defined]
    for name in METHODS:
        for method in METHODS[name]:
            assert list(inspect.signature(method.probabilities).parameters) == ["source", "target", "seed"]
    assert list(inspect.signature(adapt_features).parameters) == [
        "source", "labels", "classes", "target", "widths", "method", "seed", "progress",
    ]  # fmt: skip


X = np.ones((4, 3), np.float32)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: Unlabelled(X[0]), "target: features must be"),
        (lambda: Unlabelled(X[:0]), "one image or more"),
        (lambda: Unlabelled(X * np.nan), "target: features must be finite"),
        (lambda: Labelled(X * np.inf, np.zeros(4, np.int64), 2), "source: features must be finite"),
        (lambda: Labelled(X, np.zeros(3, np.int64), 2), "labels must be whole numbers"),
        (lambda: Labelled(X, np.zeros(4), 2), "labels must be whole numbers"),
        (lambda: Labelled(X, np.full(4, 2), 2), "labels must be from 0 to 1, got 2 to 2"),
        (lambda: Labelled(X, np.array([0, 1, -1, 0]), 2), "got -1 to 1"),
    ],
)
def test_what_does_not_fit_is_said(make: Callable[[], object], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        make()


# --- the table, and the looks -----------------------------------------------------------------------------------------


def test_the_table() -> None:
    assert set(VOTERS) < set(METHODS)
    assert next(iter(METHODS)) == "source-only"
    assert all(METHODS.values())
    for settings in METHODS.values():
        assert len({str(one) for one in settings}) == len(settings)


def test_looks_are_what_they_are_called() -> None:
    """Records of stages of 4 and 8 channels: their means, then their maxima; the last stage is looked at."""
    rng = np.random.default_rng(0)
    own, other = rng.random((6, 24)).astype(np.float32), rng.random((5, 24)).astype(np.float32)
    found = look_at(own, np.arange(6) % 2, 2, other, (4, 8))
    assert [one.representation for one in found] == list(LOOKS)
    for i, row in enumerate(other):
        mean, largest, together = row[8:16], row[16:24], np.sqrt(row[8:24])
        np.testing.assert_allclose(found[0].target.features[i], np.sqrt(mean) / np.sqrt(mean.sum()), rtol=1e-5)
        np.testing.assert_allclose(found[1].target.features[i], largest / np.linalg.norm(largest), rtol=1e-5)
        np.testing.assert_allclose(found[2].target.features[i], together / np.linalg.norm(together), rtol=1e-5)
    only_one = look_at(own, np.arange(6) % 2, 2, other, (4, 8), [Representation("all", "mean", "standard")])
    np.testing.assert_array_equal(only_one[0].source.features, own[:, [*range(4), *range(8, 16)]])
