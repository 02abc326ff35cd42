"""How many clusters: each criterion against a definition of its own, and together on drawn groups."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from greffon.progress import Silent
from greffon.transfer.unsupervised import (
    Unlabelled,
    estimate_count,
    gap_choice,
    prediction_strength,
    silhouette,
    unit_rows,
)
from groups import grouped


@pytest.mark.parametrize("k", [2, 4, 7])
def test_groups_are_counted(k: int) -> None:
    photos, _ = grouped(k, 25, 12)
    found = estimate_count(photos, most_k=12, rounds=5, progress=Silent())
    assert found is not None
    assert found.k == k
    np.testing.assert_array_equal(found.ks, np.arange(2, 13))
    for values in (found.silhouette, found.stability, found.gap, found.gap_error):
        assert values.shape == (11,)
        assert np.isfinite(values).all()
    again = estimate_count(photos, most_k=12, rounds=5, progress=Silent())
    assert again is not None
    np.testing.assert_array_equal(again.gap, found.gap)


def test_of_too_few_nothing_can_be_said() -> None:
    photos, _ = grouped()
    for features in (photos.features[:1], photos.features[:3], np.repeat(photos.features[:2], 30, 0)):
        assert estimate_count(Unlabelled(features), progress=Silent()) is None
    found = estimate_count(Unlabelled(photos.features[:5]), progress=Silent())
    assert found is not None
    assert found.ks.tolist() == [2]


def test_the_strength_against_pairs() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 3, 30), rng.integers(0, 4, 30)
    shares = []
    for c in range(3):
        pairs = [(i, j) for i in range(30) for j in range(30) if i != j and one[i] == one[j] == c]
        shares.append(np.mean([other[i] == other[j] for i, j in pairs]))
    assert prediction_strength(one, other) == pytest.approx(min(shares))
    assert prediction_strength(one, one + 5) == 1


def test_the_rule_of_the_gap() -> None:
    ks = np.arange(2, 6)
    assert gap_choice(ks, np.array([0.1, 0.3, 0.5, 0.52]), np.array([0.01, 0.01, 0.01, 0.05])) == 4
    assert gap_choice(ks, np.array([0.1, 0.3, 0.5, 0.7]), np.full(4, 0.01)) == 5
    assert gap_choice(ks, np.array([0.5, 0.3, 0.5, 0.7]), np.full(4, 0.01)) == 2


def test_the_silhouette_is_scikit_learns() -> None:
    photos, truth = grouped()
    wanted = silhouette_score(unit_rows(photos.features), truth, metric="cosine")
    assert silhouette(photos.features, truth) == pytest.approx(float(wanted))
    out = truth.copy()
    out[:5] = -1
    wanted = silhouette_score(unit_rows(photos.features[5:]), truth[5:], metric="cosine")
    assert silhouette(photos.features, out) == pytest.approx(float(wanted))
    assert np.isnan(silhouette(photos.features, np.zeros(len(truth), np.int64)))
    assert np.isnan(silhouette(photos.features[:3], np.arange(3)))
    assert silhouette(photos.features, truth, most=50) == pytest.approx(float(silhouette(photos.features, truth)), abs=0.1)
