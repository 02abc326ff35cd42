"""The figures without labels: against the papers' words, drawn spectra whose answer is known, and scikit-learn's neighbours."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from greffon.transfer.unsupervised import (
    alpha_req,
    found_again,
    neighbour_agreement,
    neighbour_shares,
    rank_me,
)
from greffon.transfer.unsupervised.measures import nearest

RNG = np.random.default_rng(0)


def with_spectrum(values: np.ndarray, n: int = 400) -> np.ndarray:
    """Rows whose covariance has exactly these eigenvalues."""
    x = RNG.normal(size=(n, len(values)))
    u, _, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    turn, _ = np.linalg.qr(RNG.normal(size=(len(values), len(values))))
    return (u * np.sqrt(values * (n - 1))) @ turn.T


# --- RankMe -----------------------------------------------------------------------------------------------------------


def rank_by_hand(x: np.ndarray) -> float:
    """Equation 1 of arXiv:2210.02885, by way of the eigenvalues of Z'Z."""
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(x.T @ x), 0))
    entropy = 0.0
    for value in values:
        p = value / sum(values) + 1e-7
        entropy -= p * math.log(p)
    return math.exp(entropy)


def test_rank_against_the_paper() -> None:
    for x in (RNG.normal(size=(60, 12)), RNG.normal(size=(60, 3)) @ RNG.normal(size=(3, 12)), RNG.exponential(size=(40, 5))):
        assert rank_me(x) == pytest.approx(rank_by_hand(x), rel=1e-4)


def test_rank_counts_dimensions() -> None:
    assert rank_me(np.eye(9)) == pytest.approx(9, rel=1e-4)
    assert rank_me(np.outer(np.arange(1, 7), np.arange(1, 5))) == pytest.approx(1, abs=1e-4)
    assert rank_me(np.zeros((5, 4))) == 1
    # Of the singular values, not of their squares: two of 2 and 1 are shares of 2/3 and 1/3.
    assert rank_me(np.diag([2.0, 1.0])) == pytest.approx(math.exp(2 / 3 * math.log(1.5) + 1 / 3 * math.log(3)), rel=1e-5)


# --- alpha-ReQ --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.2])
def test_the_exponent_of_a_power_law_is_found(alpha: float) -> None:
    values = np.arange(1, 61.0) ** -alpha
    assert alpha_req(with_spectrum(values)) == pytest.approx(alpha, rel=1e-6)
    assert alpha_req(5 + 3 * with_spectrum(values)) == pytest.approx(alpha, rel=1e-6), "neither place nor scale counts"


def test_the_exponent_is_a_fit_with_weights_1_over_k() -> None:
    values = np.sort(RNG.exponential(size=30))[::-1]
    k = np.arange(3, 31)
    x, y, w = np.log(k), np.log(values[2:]), 1 / k
    mean_x, mean_y = (w * x).sum() / w.sum(), (w * y).sum() / w.sum()
    slope = (w * (x - mean_x) * (y - mean_y)).sum() / (w * (x - mean_x) ** 2).sum()
    assert alpha_req(with_spectrum(values)) == pytest.approx(-slope, rel=1e-6)


def test_few_eigenvalues_have_no_exponent() -> None:
    assert math.isnan(alpha_req(RNG.normal(size=(50, 4))))
    assert math.isnan(alpha_req(np.ones((6, 9))))
    assert not math.isnan(alpha_req(RNG.normal(size=(50, 5))))


# --- neighbours -------------------------------------------------------------------------------------------------------


def test_neighbours_are_scikit_learns() -> None:
    x, y = RNG.normal(size=(50, 6)), RNG.normal(size=(30, 6))
    theirs = NearestNeighbors(n_neighbors=5, metric="cosine").fit(y).kneighbors(x, return_distance=False)
    assert np.array_equal(nearest(x, y, 5, without_self=False), theirs)
    alone = NearestNeighbors(n_neighbors=6, metric="cosine").fit(x).kneighbors(x, return_distance=False)[:, 1:]
    assert np.array_equal(nearest(x, x, 5, without_self=True, block=7), alone)


def test_agreement_is_the_share_of_neighbours_in_common() -> None:
    a = RNG.normal(size=(40, 5))
    b = a + 0.5 * RNG.normal(size=(40, 5))
    wanted = []
    for i in range(40):
        sets = []
        for x in (a, b):
            order = [j for j in np.argsort(-cosine_similarity(x)[i]).tolist() if j != i]
            sets.append(set(order[:7]))
        wanted.append(len(sets[0] & sets[1]) / 7)
    assert neighbour_shares(a, b, 7) == pytest.approx(np.array(wanted))
    assert neighbour_agreement(a, b, 7) == pytest.approx(np.mean(wanted))
    assert neighbour_agreement(a, 3 * a) == 1
    assert neighbour_agreement(a[:1], b[:1]) == 1
    assert neighbour_agreement(a[:5], b[:5], 10) == 1, "all four others are neighbours of each"


def test_found_again() -> None:
    a = np.eye(5)
    b = a[[0, 1, 2, 4, 3]]
    assert found_again(a, a) == 1
    assert found_again(a, b) == pytest.approx(0.6)
    assert found_again(a[:0], a[:0]) == 1
