"""What is learned from chunks is what is learned from all rows at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from greffon.errors import OptionError
from greffon.heads import Normaliser, fit_head
from greffon.jobs.cluster.scoring import score_of
from greffon.streamed import (
    Chunks,
    nearest_centres,
    refined_centres,
    streamed_centres,
    streamed_logistic,
    streamed_normaliser,
)


def clouds(n: int = 600, d: int = 24, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds of unequal sizes, in features of unequal scales; one feature never moves."""
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, n, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    x = rng.normal(size=(n, d)) + 1.2 * rng.normal(size=(classes, d))[y]
    x = x @ rng.normal(size=(d, d)) * np.exp(rng.normal(size=d)) + 5
    x[:, 3] = 7
    return x.astype(np.float32), y.astype(np.int64)


def cut(x: np.ndarray, y: np.ndarray, size: int = 70) -> Chunks:
    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(x), size):
            yield x[start : start + size], y[start : start + size]

    return chunks


X, Y = clouds()


@pytest.mark.parametrize("size", [1, 70, 600])
def test_the_normaliser_is_that_of_all_rows(size: int) -> None:
    whole, found = Normaliser.fit(X, "standard"), streamed_normaliser(cut(X, Y, size))
    assert np.allclose(found.mean, whole.mean, rtol=1e-6)
    assert np.allclose(found.scale, whole.scale, rtol=1e-4)
    assert found.scale[3] == 0


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_head_is_the_minimum_of_all_rows(classes: int, balanced: bool) -> None:
    x, y = X[classes > Y], Y[classes > Y]
    x = Normaliser.fit(x, "standard").apply(x)
    found = streamed_logistic(cut(x, y), classes, 30.0, balanced=balanced)
    whole = fit_head("logistic", x, y, classes, 30.0, balanced=balanced)
    reference = LogisticRegression(C=30.0, class_weight="balanced" if balanced else None, tol=1e-9, max_iter=5000).fit(
        x.astype(np.float64), y
    )
    theirs = reference.predict_proba(x.astype(np.float64))
    assert np.abs(found.probabilities(x) - theirs).max() < 2e-3
    assert np.abs(found.probabilities(x) - whole.probabilities(x)).max() < 2e-3
    assert ((found.probabilities(x).argmax(1) == y).mean() - (theirs.argmax(1) == y).mean()) == pytest.approx(0, abs=0.003)


def test_rows_without_a_class_are_passed_over_and_absent_classes_never_win() -> None:
    x = Normaliser.fit(X, "standard").apply(X)
    hidden = np.where(np.arange(len(Y)) % 3 == 0, -1, Y)
    known = hidden >= 0
    found, same = streamed_logistic(cut(x, hidden), 6, 30.0), streamed_logistic(cut(x[known], Y[known]), 6, 30.0)
    assert np.abs(found.probabilities(x) - same.probabilities(x)).max() < 1e-3
    assert found.probabilities(x)[:, 4:].max() == 0


def test_centres_are_those_of_all_rows() -> None:
    x, y = clouds(3000, 12, 5, seed=3)
    x = Normaliser.fit(x, "standard").apply(x)
    found = streamed_centres(cut(x, y, 250), 5)
    best = KMeans(5, n_init=20, random_state=0).fit(x.astype(np.float64))  # type: ignore[arg-type]  # a number, or "auto"
    inertia = ((x[:, None] - found[None]) ** 2).sum(2).min(1).sum()
    assert inertia < 1.001 * float(best.inertia_ or 0)
    # Each photo where it is in memory, and as near to the classes: within 0.3 points.
    mine, theirs = nearest_centres(x, found)[0], np.asarray(best.labels_)
    assert score_of(theirs.astype(np.int64), mine).accuracy > 0.99
    assert score_of(y, mine).accuracy == pytest.approx(score_of(y, theirs.astype(np.int64)).accuracy, abs=0.003)


def test_rounds_are_lloyds_whatever_the_chunks() -> None:
    x = X / np.linalg.norm(X, axis=1, keepdims=True)
    start = x[:4].astype(np.float64)
    plain = KMeans(4, max_iter=500, tol=0, algorithm="lloyd").set_params(init=X[:4].astype(np.float64), n_init=1)
    whole = plain.fit(X.astype(np.float64))
    for size in (1, 70, 600):
        found = refined_centres(cut(X, Y, size), X[:4], passes=500)
        assert np.allclose(found, whole.cluster_centers_, rtol=1e-3, atol=1e-3)
        sphere = refined_centres(cut(x, Y, size), start, spherical=True, passes=500)
        # A naive loop.
        centres = start
        for _ in range(500):
            own = (x @ centres.T).argmax(1)
            means = np.stack([x[own == i].mean(0) for i in range(4)])
            centres = means / np.linalg.norm(means, axis=1, keepdims=True)
        assert np.allclose(sphere, centres, atol=1e-3)
    # What nothing is near to stays.
    far = refined_centres(cut(X, Y), np.concatenate([X[:3], np.full((1, X.shape[1]), 1e6)]))
    assert (far[3] == 1e6).all()


def test_bad_input_is_one_error() -> None:
    with pytest.raises(OptionError, match="two classes or more, got 1"):
        streamed_logistic(cut(X, np.zeros_like(Y)), 3, 1.0)
    with pytest.raises(OptionError, match="must be a positive number"):
        streamed_logistic(cut(X, Y), 4, 0.0)
    with pytest.raises(OptionError, match="must be 4 rows or more, got 3"):
        streamed_centres(cut(X[:3], Y[:3], 2), 4)
    with pytest.raises(OptionError, match="there are no features"):
        streamed_normaliser(list)
