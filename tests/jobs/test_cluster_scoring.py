"""The score against counting by hand and all namings tried."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from greffon.jobs.cluster.scoring import score_of


def by_hand(truth: np.ndarray, clusters: np.ndarray) -> float:
    names = max(int(truth.max()), int(clusters.max())) + 1
    return max(float(np.mean([order[c] == t if c >= 0 else False for c, t in zip(clusters, truth, strict=True)]))
               for order in permutations(range(names)))  # fmt: skip


@pytest.mark.parametrize(("classes", "k"), [(3, 3), (4, 3), (3, 5)])
def test_the_best_naming_is_found(classes: int, k: int) -> None:
    rng = np.random.default_rng(classes * k)
    truth, clusters = rng.integers(0, classes, 40), rng.integers(-1, k, 40)
    told = score_of(truth, clusters)
    assert told.accuracy == pytest.approx(by_hand(truth, clusters))
    assert told.n == 40


def test_one_cluster_is_not_two_classes() -> None:
    told = score_of(np.array([0, 0, 0, 1, 1]), np.zeros(5, np.int64))
    assert (told.accuracy, told.nmi, told.ari) == (0.6, 0, 0)
    told = score_of(np.array([0, 0, 1, 1, -1]), np.array([1, 1, 0, 0, 0]))
    assert (told.n, told.accuracy, told.nmi, told.ari) == (4, 1, 1, 1)


def test_information_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    truth, clusters = rng.integers(0, 3, 60), rng.integers(0, 4, 60)
    table = np.array([[np.mean((truth == t) & (clusters == c)) for c in range(4)] for t in range(3)])
    a, b = table.sum(1), table.sum(0)
    shared = np.nansum(table * np.log(np.where(table > 0, table, 1) / np.outer(a, b)))
    entropy = (-(a * np.log(a)).sum() - (b * np.log(b)).sum()) / 2
    assert score_of(truth, clusters).nmi == pytest.approx(shared / entropy)
