"""Split conformal sets: the limit as NumPy has it, and the coverage that is promised."""

from __future__ import annotations

import math

import numpy as np
import pytest

from greffon.conformal import conformal_scores, prediction_sets, score_limit
from greffon.errors import OptionError


def drawn(n: int, c: int, seed: int, sharp: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(c, 1 / sharp), n)
    labels = np.array([rng.choice(c, p=row) for row in p])
    return p, labels


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [19, 99, 100, 250])
def test_the_limit_is_the_quantile_of_the_article(coverage: float, n: int) -> None:
    """Angelopoulos and Bates, section 1: the quantile of level ceil((n + 1) (1 - alpha)) / n of the scores."""
    p, labels = drawn(n, 4, n)
    scores = conformal_scores(p, labels)
    level = np.ceil(round((n + 1) * coverage, 9)) / n
    assert score_limit(scores, coverage) == np.quantile(1 - p[np.arange(n), labels], level, method="inverted_cdf")


def test_sets_hold_the_true_class_as_often_as_asked_for() -> None:
    """Over draws of calibration and test, though the probabilities are wrong: sharpened beyond what is true."""
    n, draws = 60, 400
    for coverage in (0.7, 0.9):
        right, total = 0, 0
        for seed in range(draws):
            p, labels = drawn(2 * n, 5, seed)
            q = p**3 / (p**3).sum(1, keepdims=True)
            limit = score_limit(conformal_scores(q[:n], labels[:n]), coverage)
            held = prediction_sets(q[n:], limit)
            right, total = right + int(held[np.arange(n), labels[n:]].sum()), total + n
        spread = 3 * math.sqrt(coverage * (1 - coverage) * 2 / n / draws)
        assert coverage - spread <= right / total <= coverage + 1 / (n + 1) + spread


def test_few_images_allow_no_high_coverage_and_sets_may_be_empty() -> None:
    scores = np.array([0.1, 0.2, 0.6])
    assert score_limit(scores, 0.75) == 0.6
    assert score_limit(scores, 0.5) == 0.2
    assert math.isinf(score_limit(scores, 0.9))
    assert math.isinf(score_limit(np.zeros(0), 0.5))
    p = np.array([[0.7, 0.3], [0.85, 0.15]])
    assert prediction_sets(p, 0.2).tolist() == [[False, False], [True, False]]
    assert prediction_sets(p, math.inf).all()
    # The seventh of 99, though 100 times 0.07 is a little more than 7 in binary.
    assert score_limit(np.arange(1, 100) / 100, 0.07) == 0.07


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_a_coverage_that_cannot_be(coverage: float) -> None:
    with pytest.raises(OptionError, match="coverage"):
        score_limit(np.array([0.5]), coverage)
