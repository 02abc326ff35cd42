"""What is answered and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from greffon.evaluation import abstain_figures, unknown_figures


def test_known_photos_below_the_limit_are_answered() -> None:
    novelty = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    found = abstain_figures(novelty, np.array([True, False, True, True, False]), 0.4, 0.8)
    assert (found.answered, found.coverage, found.accuracy, found.n) == (4, 0.8, 0.75, 5)
    expected = binomtest(3, 4).proportion_ci(0.95, method="wilson")
    assert found.accuracy_interval == pytest.approx((expected.low, expected.high))
    assert json.loads(json.dumps(found.to_dict()))["asked"] == 0.8


def test_where_nothing_is_answered_there_is_no_accuracy() -> None:
    found = abstain_figures(np.array([0.9, 0.8]), np.array([True, True]), 0.1, 0.95)
    assert (found.answered, found.accuracy, found.accuracy_interval) == (0, None, (0.0, 1.0))


def test_unknown_photos_above_the_limit_are_refused() -> None:
    found = unknown_figures(np.array([0.1, 0.2, 0.3, 0.6]), np.array([0.25, 0.5, 0.7]), 0.4)
    assert (found.n, found.refused, found.rate) == (3, 2, pytest.approx(2 / 3))
    assert found.auroc == pytest.approx((2 + 3 + 4) / 12)
    assert json.loads(json.dumps(found.to_dict()))["refused"] == 2
