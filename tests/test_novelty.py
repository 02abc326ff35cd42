"""How new a photo is: distances against scikit-learn, leaving out against a loop, and a limit that keeps what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from greffon.errors import OptionError
from greffon.novelty import NEIGHBOURS, left_out_novelty, nearest_rows, novelty_limit, novelty_scores


def rows(n: int, seed: int, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_the_nearest_are_those_of_scikit_learn(k: int) -> None:
    reference, asked = rows(40, 0), rows(23, 1)
    found, distances = nearest_rows(asked, reference, k, block=7)
    told, which = NearestNeighbors(n_neighbors=k, metric="cosine").fit(reference.astype(np.float64)).kneighbors(asked.astype(np.float64))
    np.testing.assert_array_equal(found, which)
    np.testing.assert_allclose(distances, told, atol=1e-12)
    np.testing.assert_allclose(novelty_scores(asked, reference, k), told.mean(1), atol=1e-12)


def test_leaving_out_is_a_loop_over_the_others() -> None:
    x, groups = rows(30, 2), np.array([0, 0, 0, 1, 1, *range(2, 27)])
    expected = []
    for i in range(30):
        others = x[groups != groups[i]].astype(np.float64)
        apart = 1 - others @ x[i].astype(np.float64) / np.linalg.norm(others, axis=1) / np.linalg.norm(x[i].astype(np.float64))
        expected.append(np.sort(apart)[:NEIGHBOURS].mean())
    np.testing.assert_allclose(left_out_novelty(x, groups, x, groups), np.sort(expected), atol=1e-9)


def test_where_nothing_else_is_left_there_is_no_score() -> None:
    x = rows(4, 3)
    assert len(left_out_novelty(x, np.zeros(4, np.int64), x, np.zeros(4, np.int64))) == 0
    two = left_out_novelty(x, np.array([0, 0, 0, 1]), x, np.array([0, 0, 0, 1]), 3)
    assert len(two) == 4, "fewer neighbours than were asked for are enough"


def test_other_photos_are_compared_with_all() -> None:
    reference, asked = rows(20, 4), rows(9, 5)
    found = left_out_novelty(asked, np.arange(100, 109), reference, np.arange(20))
    np.testing.assert_allclose(found, np.sort(novelty_scores(asked, reference)), atol=1e-12)


def test_the_limit_keeps_as_many_as_asked_for() -> None:
    rng = np.random.default_rng(0)
    for kept in (0.5, 0.9, 0.95):
        shares = []
        for _ in range(400):
            scores = rng.exponential(size=101)
            shares.append(scores[100] <= novelty_limit(np.sort(scores[:100]), kept))
        error = math.sqrt(kept * (1 - kept) / 400)
        assert kept - 3 * error <= np.mean(shares) <= kept + 0.01 + 3 * error


@pytest.mark.parametrize(("n", "kept", "rank"), [(99, 0.95, 95), (99, 0.07, 7), (19, 0.95, 19), (100, 0.5, 51)])
def test_the_rank_of_the_limit(n: int, kept: float, rank: int) -> None:
    assert novelty_limit(np.arange(1.0, n + 1), kept) == rank


def test_too_few_scores_have_no_limit() -> None:
    assert math.isinf(novelty_limit(np.arange(18.0), 0.95))
    for kept in (0.0, 1.0, -1.0, 2.0, float("nan")):
        with pytest.raises(OptionError, match="share of known photos"):
            novelty_limit(np.arange(9.0), kept)
