"""Figures without labels: against the papers' formulas by loops, and on densities that were drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from greffon.transfer.transductive import (
    density_ratio,
    information_maximisation,
    soft_neighbourhood_density,
    weighted_validation,
)

TOLD = np.random.default_rng(0).dirichlet(np.ones(4) * 0.5, 30)


def entropy(row: np.ndarray) -> float:
    return -sum(float(p) * math.log(p) for p in row if p > 0)


def test_information_is_the_mutual_information() -> None:
    by_hand = (entropy(TOLD.mean(0)) - sum(entropy(row) for row in TOLD) / 30) / math.log(4)
    assert information_maximisation(TOLD) == pytest.approx(by_hand, abs=1e-4)
    assert information_maximisation(np.eye(5)[np.arange(20) % 5]) == pytest.approx(1, abs=1e-4)
    assert information_maximisation(np.eye(5)[np.zeros(20, int)]) == pytest.approx(0, abs=1e-4)
    assert information_maximisation(np.full((7, 3), 1 / 3)) == pytest.approx(0, abs=1e-4)
    assert information_maximisation(np.ones((3, 1))) == pytest.approx(0, abs=1e-4)


def naive_density(told: np.ndarray, temperature: float = 0.05) -> float:
    """Saito et al. (2021), equations 1 to 3: the entropy of each image's likenesses to the others."""
    rows = [row / math.sqrt(float(row @ row)) for row in told]
    found = []
    for i, one in enumerate(rows):
        near = np.array([math.exp(float(one @ other) / temperature) for j, other in enumerate(rows) if j != i])
        found.append(entropy(near / near.sum()))
    return sum(found) / len(found)


def test_neighbourhood_density_by_loops() -> None:
    assert soft_neighbourhood_density(TOLD) == pytest.approx(naive_density(TOLD), abs=1e-4)
    assert soft_neighbourhood_density(TOLD, most=10) == pytest.approx(naive_density(TOLD[::3]), abs=1e-4)
    assert soft_neighbourhood_density(TOLD[:1]) == 0
    tight, loose = np.eye(2)[np.arange(40) % 2], np.random.default_rng(1).dirichlet(np.ones(2), 40)
    assert soft_neighbourhood_density(tight) > soft_neighbourhood_density(loose)


def deep_embedded_validation(right: np.ndarray, ratio: np.ndarray) -> float:
    """Algorithm 1 of You et al. (2019) on the risk: mean(L) + eta mean(W) - eta, eta = -Cov(L, W) / Var(W)."""
    loss = [w * (1.0 - float(r)) for w, r in zip(ratio, right, strict=True)]
    n, mean_l, mean_w = len(loss), sum(loss) / len(loss), float(sum(ratio)) / len(loss)
    covariance = sum((a - mean_l) * (w - mean_w) for a, w in zip(loss, ratio, strict=True)) / n
    eta = -covariance / (sum((w - mean_w) ** 2 for w in ratio) / n)
    return 1 - (mean_l + eta * mean_w - eta)


@pytest.mark.parametrize("seed", range(5))
def test_weighted_validation_is_the_papers(seed: int) -> None:
    """The accuracy that it gives is 1 less the risk that the paper gives."""
    rng = np.random.default_rng(seed)
    right, ratio = rng.random(60) < 0.7, rng.gamma(2, 0.55, 60)
    assert weighted_validation(right, ratio) == pytest.approx(deep_embedded_validation(right, ratio), abs=1e-10)


def test_weighted_validation_of_even_weights_is_accuracy_and_stays_in_range() -> None:
    right = np.arange(10) < 7
    assert weighted_validation(right, np.ones(10)) == pytest.approx(0.7)
    assert weighted_validation(np.ones(4, bool), np.array([0.1, 3, 2, 9])) == pytest.approx(1)
    assert 0 <= weighted_validation(right, np.array([30.0] * 7 + [0.1] * 3)) <= 1


def test_weighting_looks_where_the_target_is() -> None:
    """Right on one side alone; the target stands there."""
    x = np.random.default_rng(0).normal(size=4000)
    ratio, right = norm.pdf(x, 1) / norm.pdf(x), x > 0
    truth = norm.sf(0, 1)
    assert right.mean() < 0.55
    assert weighted_validation(right, ratio) == pytest.approx(truth, abs=0.03)


def test_the_density_ratio_of_drawn_clouds() -> None:
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(1500, 2)), rng.normal(size=(1000, 2)) + np.array([1.0, 0.0])
    ratio = density_ratio(x, other, strength=10)
    assert ratio.mean() == pytest.approx(1, abs=0.12)
    assert ratio[x[:, 0] > 1].mean() > 4 * ratio[x[:, 0] < 0].mean()
    truth = multivariate_normal.pdf(x, [1, 0], 1) / multivariate_normal.pdf(x, [0, 0], 1)
    assert np.corrcoef(np.log(ratio), np.log(truth))[0, 1] > 0.98
    np.testing.assert_allclose(np.median(np.log(ratio) - np.log(truth)), 0, atol=0.15)


def test_the_density_ratio_by_halves_and_scikit_learn() -> None:
    """p(target | x) / p(source | x), by balanced logistic regression on the half in which the image is not."""
    rng = np.random.default_rng(1)
    x, other = rng.normal(size=(40, 3)), rng.normal(size=(40, 3)) + 0.7
    every, domain = np.concatenate([x, other]), np.repeat([0, 1], 40)
    part = np.random.default_rng(5).permutation(80) % 2
    theirs = np.empty(40)
    for i in range(40):
        learn = part != part[i]
        told = balanced(every[learn], domain[learn], x[i : i + 1])
        theirs[i] = told[0, 1] / told[0, 0]
    np.testing.assert_allclose(density_ratio(x, other, seed=5, strength=0.5), theirs, rtol=1e-3)


def balanced(x: np.ndarray, domain: np.ndarray, ask: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=0.5, class_weight="balanced", tol=1e-10, max_iter=10000)
    return model.fit(x.astype(np.float32), domain).predict_proba(ask.astype(np.float32))


def test_the_density_ratio_of_next_to_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(6, 2))
    for a, b in ((x, x[:1]), (x[:1], x), (x[:1], x[:1]), (np.ones((5, 2)), np.ones((5, 2)))):
        ratio = density_ratio(a, b)
        assert ratio.shape == (len(a),)
        assert np.isfinite(ratio).all()
        assert (ratio > 0).all()
    np.testing.assert_allclose(density_ratio(np.ones((40, 2)), np.ones((40, 2))), 1, rtol=0.05)
