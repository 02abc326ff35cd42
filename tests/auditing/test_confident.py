"""Confident learning against a loop that is written as the article has it, and on labels that are wrong by design."""

from __future__ import annotations

import numpy as np
import pytest

from greffon.auditing import confident_joint, find_suspects, suspicion


def drawn(n: int = 400, c: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, c, n)
    scores = rng.normal(size=(n, c)) + 2.0 * np.eye(c)[labels]
    p = np.exp(scores)
    return p / p.sum(1, keepdims=True), labels


def by_the_article(p: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Equations 1 and 2 of Northcutt et al. (2021), image by image."""
    n, c = p.shape
    t = []
    for j in range(c):
        of_j = [p[i, j] for i in range(n) if labels[i] == j]
        t.append(sum(of_j) / len(of_j))
    joint, counted = np.zeros((c, c), int), []
    for i in range(n):
        candidates = [j for j in range(c) if p[i, j] >= t[j]]
        best = max(candidates, key=lambda j: p[i, j], default=-1)
        counted.append(best)
        if best >= 0:
            joint[labels[i], best] += 1
    return joint, counted


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_confident_joint_is_the_articles(seed: int) -> None:
    p, labels = drawn(seed=seed)
    joint, counted = confident_joint(p, labels)
    expected, one_by_one = by_the_article(p, labels)
    np.testing.assert_array_equal(joint, expected)
    np.testing.assert_array_equal(counted, one_by_one)
    assert joint.sum() < len(labels), "some images are not counted as anything"


def test_an_example_by_hand() -> None:
    # Thresholds: 0.7 for class 0 (of 0.9, 0.8, 0.4), 0.6 for class 1 (of 0.6 and 0.6).
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.4, 0.6], [0.4, 0.6]])
    labels = np.array([0, 0, 0, 1, 1])
    joint, counted = confident_joint(p, labels)
    assert joint.tolist() == [[2, 1], [0, 2]]
    assert counted.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_allclose(suspicion(p, labels), [0.1, 0.2, 0.6, 0.4, 0.4])
    found = find_suspects(p, labels, np.ones(5, bool))
    assert found.confident.tolist() == [False, False, True, False, False]
    assert found.estimated == pytest.approx(1.0)
    assert found.suggested.tolist() == [0, 0, 1, 1, 1]
    assert found.suspected.tolist() == [False, False, True, False, False]
    assert not found.sure.any()
    assert find_suspects(np.array([[0.02, 0.98], [0.9, 0.1], [0.1, 0.9]]), np.array([0, 0, 1]), np.ones(3, bool)).sure.tolist() == [
        True, False, False,
    ]  # fmt: skip


def test_the_estimate_is_scaled_to_the_images_of_each_label() -> None:
    """Equation 3: of a row of the joint, in shares, so many of its label's images."""
    p, labels = drawn(seed=3)
    joint, _ = by_the_article(p, labels)
    expected = sum((1 - joint[c, c] / joint[c].sum()) * (labels == c).sum() for c in range(4))
    assert find_suspects(p, labels, np.ones(len(labels), bool)).estimated == pytest.approx(expected)


def test_wrong_labels_stand_first() -> None:
    p, truth = drawn(n=1000, seed=4)
    rng = np.random.default_rng(0)
    wrong = rng.permutation(1000)[:50]
    labels = truth.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, 4, 50)) % 4
    found = find_suspects(p, labels, np.ones(1000, bool))
    first = np.argsort(-found.suspicion)[:200]
    assert np.isin(wrong, first).mean() > 0.7
    assert np.mean(found.suggested[wrong] == truth[wrong]) > 0.7


def test_labels_that_cannot_be_judged_have_no_suspicion() -> None:
    p, labels = drawn(n=20)
    labels[0], judged = -1, np.arange(20) > 1
    found = find_suspects(p, labels, judged)
    assert np.isnan(found.suspicion[:2]).all()
    assert not found.confident[:2].any()
    assert np.isfinite(found.suspicion[2:]).all()
    nothing = find_suspects(p, labels, np.zeros(20, bool))
    assert np.isnan(nothing.suspicion).all()
    assert nothing.estimated == 0
    # A class that no judged image has keeps its probability, but nothing counts as it.
    alone = find_suspects(p, np.zeros(20, np.int64), np.ones(20, bool))
    assert set(np.flatnonzero(alone.joint.sum(0))) <= {0}
