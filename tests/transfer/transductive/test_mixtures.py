"""The moved mixture: against a loop of Gaussians by SciPy, the likelihood's rise, and what was drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power
from scipy.stats import multivariate_normal

from clouds import drawn
from greffon.transfer.transductive import Labelled, ShiftedMixture
from greffon.transfer.transductive.mixtures import _discriminants

CLOUDS = drawn(90, 150, 6, move=4, apart=5, mixed=(0.7, 0.1, 0.2))
S, T = CLOUDS.source, CLOUDS.target


def gaussian(x: np.ndarray, mean: np.ndarray, variance: float) -> float:
    cov: Any = variance * np.eye(len(mean))  # its stubs know of whole numbers alone
    return float(multivariate_normal.pdf(x, mean, cov))


def by_hand(shrinkage: float, prior: float, rounds: int) -> tuple[np.ndarray, list[float], np.ndarray, np.ndarray]:
    """Beliefs, the log-posterior before every round, proportions and the move, (k,), on axes made by a matrix root."""
    x, y = S.features.astype(np.float64), S.labels
    centres = np.stack([x[y == c].mean(0) for c in range(3)])
    scatter = sum(np.outer(row - centres[c], row - centres[c]) for row, c in zip(x, y, strict=True)) / len(x)
    scatter = scatter + shrinkage * np.diag(scatter).mean() * np.eye(6)
    whitened = fractional_matrix_power(scatter, -0.5)
    _, _, rows = np.linalg.svd((centres - centres.mean(0)) @ whitened)
    axes = whitened @ rows[:2].T
    own, other = x @ axes, T.features.astype(np.float64) @ axes
    means = np.stack([own[y == c].mean(0) for c in range(3)])
    width = float(np.mean([((row - means[c]) ** 2).mean() for row, c in zip(own, y, strict=True)]))
    share, move = np.full(3, 1 / 3), other.mean(0) - means.mean(0)
    posterior: list[float] = []
    belief = np.zeros((len(other), 3))
    for _ in range(rounds):
        likelihood = 0.0
        for i, row in enumerate(other):
            parts = np.array([share[c] * gaussian(row, means[c] + move, width) for c in range(3)])
            belief[i] = parts / parts.sum()
            likelihood += np.log(parts.sum())
        posterior.append(likelihood + prior * float(np.log(share).sum()))
        share = (belief.sum(0) + prior) / (len(other) + 3 * prior)
        move = sum(belief[i, c] * (other[i] - means[c]) for i in range(len(other)) for c in range(3)) / len(other)
        width = sum(belief[i, c] * ((other[i] - means[c] - move) ** 2).sum()
                    for i in range(len(other)) for c in range(3)) / (2 * len(other))  # fmt: skip
    return belief, posterior, share, np.asarray(move)


@pytest.mark.parametrize(("shrinkage", "prior", "rounds"), [(0.5, 1.0, 1), (0.5, 1.0, 4), (0.1, 8.0, 12)])
def test_expectation_maximisation_by_hand(shrinkage: float, prior: float, rounds: int) -> None:
    ours = ShiftedMixture(shrinkage=shrinkage, prior=prior, rounds=rounds).probabilities(S, T, 0)
    np.testing.assert_allclose(ours, by_hand(shrinkage, prior, rounds)[0], atol=1e-4)


def test_the_posterior_rises_and_the_drawn_mixture_is_found() -> None:
    """The loop that the method equals never becomes less likely, and ends at the proportions and the move."""
    belief, posterior, share, _ = by_hand(0.5, 1.0, 30)
    assert (np.diff(posterior) > -1e-7).all()
    assert posterior[-1] > posterior[0] + 10
    np.testing.assert_allclose(share, (0.7, 0.1, 0.2), atol=0.04)
    ours = ShiftedMixture().probabilities(S, T, 0)
    np.testing.assert_allclose(ours, belief, atol=0.01)
    np.testing.assert_allclose(ours.mean(0), (0.7, 0.1, 0.2), atol=0.04)
    assert CLOUDS.accuracy(ours) > 0.95


def test_the_move_is_the_drawn_one() -> None:
    """On the discriminant axes the found move is that of the class means, which the proportions do not bend."""
    axes = _discriminants(S.features, S.labels, 3, 0.5)
    own, other = S.features @ axes, T.features @ axes
    told = ShiftedMixture().probabilities(S, T, 0)
    means = np.stack([own[S.labels == c].mean(0) for c in range(3)])
    found = (other - told @ means).mean(0)
    true = np.mean([other[CLOUDS.truth == c].mean(0) - means[c] for c in range(3)], axis=0)
    np.testing.assert_allclose(found, true, atol=0.4)
    assert np.linalg.norm(other.mean(0) - own.mean(0) - true) > 1.0, "the means of the domains tell another move"


def test_discriminants_whiten_what_is_within_classes() -> None:
    axes = _discriminants(S.features, S.labels, 3, 0.0)
    within = np.concatenate([S.features[S.labels == c] - S.features[S.labels == c].mean(0) for c in range(3)])
    np.testing.assert_allclose(axes.T @ np.cov(within, rowvar=False, bias=True) @ axes, np.eye(2), atol=1e-5)
    assert _discriminants(S.features[:, :1], S.labels, 3, 0.5).shape == (1, 1)


def test_proportions_cannot_reach_nothing() -> None:
    """Images that are thought of in each class keep one that is missing in the target possible."""
    some = CLOUDS.truth != 1
    told = ShiftedMixture(prior=5).probabilities(S, type(T)(T.features[some]), 0)
    assert np.isfinite(told).all()
    assert told[:, 1].mean() < 0.05


def test_a_class_without_images_gets_nothing() -> None:
    gap = Labelled(S.features, np.array([0, 2, 3])[S.labels], 5)
    told = ShiftedMixture().probabilities(gap, T, 0)
    assert (told[:, [1, 4]] == 0).all()
    np.testing.assert_array_equal(told[:, [0, 2, 3]], ShiftedMixture().probabilities(S, T, 0))
