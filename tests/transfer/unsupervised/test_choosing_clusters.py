"""From looks to clusters: the look that is taken, the consensus, what is told of each photo, and the parts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from greffon.errors import OptionError
from greffon.progress import Silent
from greffon.transfer.unsupervised import METHODS, Unlabelled, cluster_looks, parts_of, unit_rows
from groups import grouped

CLEAR, TRUTH = grouped()
BLURRED = Unlabelled((CLEAR.features + np.random.default_rng(1).normal(0, 3, CLEAR.features.shape)).astype(np.float32))
NOISE = Unlabelled(np.random.default_rng(2).normal(size=(120, 10)).astype(np.float32))


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_a_look_that_shows_nothing_is_not_taken(method: str) -> None:
    found = cluster_looks([NOISE, CLEAR, BLURRED, CLEAR], 4, method=method, progress=Silent())
    assert found.look == (1 if method != "auto" else found.look)
    assert found.look != 0
    kept = found.labels >= 0
    assert adjusted_rand_score(TRUTH[kept], found.labels[kept]) > 0.95
    assert found.k == 4
    assert found.count is None
    assert len(found.opinions) == 4 * (6 if method == "auto" else 1)
    assert found.method == ("consensus" if method == "auto" else method)
    centres = unit_rows(np.stack([unit_rows(CLEAR.features)[found.labels == c].mean(0) for c in range(4)]))
    if found.look in (1, 3):
        for i, row in enumerate(unit_rows(CLEAR.features)):
            others = [c for c in range(4) if c != found.labels[i]]
            assert found.nearest[i] == max(others, key=lambda c: float(centres[c] @ row))


def test_the_number_is_estimated_where_none_is_given() -> None:
    found = cluster_looks([CLEAR, BLURRED], most_k=8, progress=Silent())
    assert found.count is not None
    assert found.k == found.count.k == 4
    again = cluster_looks([CLEAR, BLURRED], most_k=8, progress=Silent())
    np.testing.assert_array_equal(again.labels, found.labels)
    np.testing.assert_array_equal(again.confidence, found.confidence)


def test_photos_that_do_not_differ_are_one_cluster() -> None:
    same = Unlabelled(np.repeat(CLEAR.features[:1], 9, 0))
    found = cluster_looks([same, same], progress=Silent())
    assert (found.k, found.count, found.method) == (1, None, "one cluster")
    assert np.isnan(found.silhouette)
    assert (found.nearest == -1).all()
    assert cluster_looks([Unlabelled(CLEAR.features[:1])], progress=Silent()).labels.tolist() == [0]
    assert cluster_looks([CLEAR], 1, progress=Silent()).k == 1


def test_bad_wishes_are_one_clear_error() -> None:
    same = Unlabelled(np.repeat(CLEAR.features[:2], 9, 0))
    for looks, options, said in (
        ([CLEAR], {"method": "dbscan"}, "--method must be auto or one of kmeans, mixture, ward, hdbscan, spectral, got 'dbscan'"),
        ([CLEAR], {"k": 0}, "-k must be 1 or more"),
        ([CLEAR], {"most_k": 1}, "--most-k must be 2 or more"),
        ([CLEAR], {"k": 121}, "-k 121: there are only 120 different photos"),
        ([CLEAR, same], {"k": 3}, "-k 3: of the 120 photos only 2 look different"),
    ):
        with pytest.raises(OptionError) as caught:
            cluster_looks(looks, progress=Silent(), **options)  # type: ignore[arg-type]
        assert said in caught.value.what


def test_parts_are_where_the_groups_are() -> None:
    """Two groups in each of two clusters: the first cut parts them."""
    labels = (TRUTH % 2).astype(np.int64)
    found = parts_of(CLEAR, labels, depth=1)
    for c in (0, 1):
        mine = np.flatnonzero(labels == c)
        assert adjusted_rand_score(TRUTH[mine], [found[i] for i in mine]) == 1
    assert set(found) == {"1", "2"}
    deep = parts_of(CLEAR, np.where(np.arange(120) < 5, -1, labels))
    assert set(deep[:5]) == {""}
    assert {word[:1] for word in deep[5:]} == {"1", "2"}
    counts = Counter(word[:1] for i, word in enumerate(deep) if i >= 5 and labels[i] == 0)
    assert counts["1"] >= counts["2"]
    assert parts_of(Unlabelled(CLEAR.features[:6]), np.zeros(6, np.int64)) == ("",) * 6
    assert parts_of(Unlabelled(np.repeat(CLEAR.features[:1], 20, 0)), np.zeros(20, np.int64)) == ("",) * 20
