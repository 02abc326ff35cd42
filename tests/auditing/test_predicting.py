"""Probabilities out of fold, on drawn records."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from greffon.auditing import LOOKS, find_suspects, guess_out_of_fold
from greffon.auditing.predicting import neighbour_votes
from greffon.datasets import folds
from greffon.heads import Normaliser
from greffon.progress import Silent

WIDTHS = (3, 8)


def records(labels: np.ndarray, apart: float = 3.0, seed: int = 0) -> np.ndarray:
    """float32 (n, 22): mean and maximum of two stages, the classes at corners of the last one."""
    rng = np.random.default_rng(seed)
    last = rng.normal(size=(len(labels), 8)) + apart * np.eye(8)[np.maximum(labels, 0)]
    return np.concatenate([rng.normal(size=(len(labels), 6)), last, last + 0.5], 1).astype(np.float32)


def test_planted_errors_are_found_and_no_image_sees_itself() -> None:
    truth = np.repeat([0, 1, 2], 40)
    pooled, labels = records(truth), truth.copy()
    labels[[3, 50, 90]] = [1, 2, 0]
    told = guess_out_of_fold(pooled, WIDTHS, labels, 3, np.arange(120), progress=Silent())
    assert told is not None
    np.testing.assert_allclose(told.probabilities.sum(1), 1)
    assert told.judged.all()
    found = find_suspects(told.probabilities, labels, told.judged)
    assert set(np.argsort(-found.suspicion)[:3]) == {3, 50, 90}
    assert found.suggested[[3, 50, 90]].tolist() == [0, 1, 2]
    again = guess_out_of_fold(pooled, WIDTHS, labels, 3, np.arange(120), progress=Silent())
    assert again is not None
    np.testing.assert_array_equal(again.probabilities, told.probabilities)


def votes_by_hand(x: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: int) -> np.ndarray:
    """One photo after the other: the weighted votes of its five nearest others, and one mean vote spread as the classes are."""
    shares = np.bincount(labels, minlength=classes) / len(labels)
    found = []
    for i in range(len(x)):
        others = np.flatnonzero(groups != groups[i])
        lengths = np.linalg.norm(x[others], axis=1) * np.linalg.norm(x[i])
        apart = 1 - x[others] @ x[i] / lengths
        near = np.argsort(apart, kind="stable")[:5]
        weights = np.exp(-8 * apart[near])
        votes = shares * weights.mean()
        for one, weight in zip(labels[others[near]], weights, strict=True):
            votes[one] += weight
        found.append(votes / votes.sum())
    return np.array(found)


@pytest.mark.parametrize("alike", [1, 3])
def test_votes_are_those_of_a_loop(alike: int) -> None:
    rng = np.random.default_rng(alike)
    x, labels, groups = rng.normal(size=(40, 6)), rng.integers(0, 3, 40), np.arange(40) // alike
    told = neighbour_votes(x.astype(np.float32), labels, groups, 3)
    np.testing.assert_allclose(told, votes_by_hand(x, labels, groups, 3), atol=1e-5)
    np.testing.assert_allclose(told.sum(1), 1)


def test_who_has_nobody_to_ask_has_the_shares_of_the_classes() -> None:
    told = neighbour_votes(np.eye(4, dtype=np.float32), np.array([0, 0, 0, 1]), np.zeros(4, np.int64), 2)
    np.testing.assert_allclose(told, [[0.75, 0.25]] * 4)


def test_the_parts_are_scikit_learns_out_of_fold() -> None:
    """Three logistic regressions, each fitted fold by fold by scikit-learn on features as they are, and three times the votes."""
    labels = np.repeat([0, 1, 2], 30)
    pooled = records(labels, apart=1.5)
    told = guess_out_of_fold(pooled, WIDTHS, labels, 3, np.arange(90), progress=Silent())
    assert told is not None
    mean = np.zeros((90, 3))
    for i, (look, strength) in enumerate(zip(LOOKS, told.strengths, strict=True)):
        features = look.take(pooled, WIDTHS)
        x = Normaliser.fit(features, look.norm).apply(features).astype(np.float64)
        for train, test in folds(labels, np.arange(90), 5, i):
            one = LogisticRegression(C=strength, tol=1e-10, max_iter=10000).fit(x[train], labels[train])
            mean[test] += one.predict_log_proba(x[test]) / 6
        mean += np.log(votes_by_hand(x, labels, np.arange(90), 3)) / 6
    agree = (told.probabilities.argmax(1) == mean.argmax(1)).mean()
    assert agree >= 0.95  # the mean is of calibrated probabilities, here of plain ones
    own = np.arange(90), labels
    by_hand = np.exp(mean) / np.exp(mean).sum(1, keepdims=True)
    assert np.corrcoef(told.probabilities[own], by_hand[own])[0, 1] > 0.98


def test_near_duplicates_do_not_vouch_for_each_other() -> None:
    """A photo and its copy, both under the wrong label: each would learn it of the other."""
    truth = np.repeat([0, 1], 30)
    pooled, labels = records(truth), truth.copy()
    pooled[1] = pooled[0]
    labels[[0, 1]] = 1
    groups = np.arange(60)
    groups[1] = 0
    told = guess_out_of_fold(pooled, WIDTHS, labels, 2, groups, progress=Silent())
    assert told is not None
    assert set(np.argsort(-find_suspects(told.probabilities, labels, told.judged).suspicion)[:2]) == {0, 1}


@pytest.mark.parametrize("labels", [[0] * 9, [0] * 8 + [1], [-1] * 9, [0, 1], []])
def test_nothing_to_learn_from(labels: list[int]) -> None:
    y = np.array(labels, np.int64)
    assert guess_out_of_fold(records(y), WIDTHS, y, 2, np.arange(len(y)), progress=Silent()) is None
    # Two images of each class, but they are the same.
    pairs = np.array([0, 0, 1, 1])
    assert guess_out_of_fold(records(pairs), WIDTHS, pairs, 2, pairs, progress=Silent()) is None


def test_unlabelled_and_lonely_images_are_not_judged() -> None:
    labels = np.array([0] * 10 + [1] * 10 + [2] + [-1] * 3)
    told = guess_out_of_fold(records(labels), WIDTHS, labels, 3, np.arange(24), progress=Silent())
    assert told is not None
    assert told.judged.tolist() == [True] * 20 + [False] * 4
    np.testing.assert_allclose(told.probabilities[21:], 1 / 3)
    assert np.isfinite(told.probabilities).all()
