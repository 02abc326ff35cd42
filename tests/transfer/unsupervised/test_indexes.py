"""The index of vectors: exact against a loop, cells against exact, and the same every time."""

from __future__ import annotations

import numpy as np
import pytest

import greffon.transfer.unsupervised.indexes as indexes
from greffon.errors import OptionError
from greffon.progress import Silent
from greffon.transfer.unsupervised import VectorIndex, build_index, has_faiss, nearest, searcher

needs_faiss = pytest.mark.skipif(not has_faiss(), reason="FAISS is not installed")


def clouds(n: int, d: int = 24, seed: int = 0) -> np.ndarray:
    """float32 (n, d) of length one, in some thirty clouds, as features of photos lie."""
    rng = np.random.default_rng(seed)
    rows = np.random.default_rng(7).normal(size=(30, d))[rng.integers(0, 30, n)] + 0.6 * rng.normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def celled() -> tuple[np.ndarray, VectorIndex, np.ndarray]:
    x = clouds(4000)
    return x, *build_index(x, kind="cells", progress=Silent())


def test_few_vectors_are_kept_as_they_are() -> None:
    x = clouds(200)
    index, order = build_index(x, progress=Silent())
    assert (index.kind, index.probes, index.recall, len(index)) == ("exact", 0, 1.0, 200)
    assert (order == np.arange(200)).all() and (index.vectors == x).all()
    found = searcher(index).search(x[:3], 5)
    assert (found.rows == np.argsort(-(x[:3].astype(np.float64) @ x.T.astype(np.float64)), axis=1)[:, :5]).all()


@needs_faiss
def test_cells_hold_every_vector_once_beside_its_centre(celled: tuple[np.ndarray, VectorIndex, np.ndarray]) -> None:
    x, index, order = celled
    assert index.kind == "cells" and index.vectors.dtype == np.float16
    assert sorted(order.tolist()) == list(range(4000))
    assert np.abs(index.vectors.astype(np.float32) - x[order]).max() < 1e-3
    assert int(index.ends[-1]) == 4000 and (np.diff(index.ends) >= 0).all()
    cell = np.searchsorted(index.ends, np.arange(4000), side="right")
    assert (cell == (x[order] @ index.centres.T).argmax(1)).mean() > 0.999
    assert index.recall >= 0.97 and 0 < index.probes < len(index.centres)


@needs_faiss
def test_cells_find_what_all_find(celled: tuple[np.ndarray, VectorIndex, np.ndarray]) -> None:
    _, index, _ = celled
    queries = clouds(300, seed=5)
    search = searcher(index)
    truth = nearest(index.vectors, 10, queries=queries)
    every = search.search(queries, 10, probes=len(index.centres))
    assert (every.rows == truth.rows).mean() > 0.999
    assert np.allclose(every.similarity, truth.similarity, atol=1e-4)
    some = search.search(queries, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(some.rows.tolist(), truth.rows.tolist(), strict=True)])
    assert recall >= 0.95
    poor = search.search(queries, 10, probes=1)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(poor.rows.tolist(), truth.rows.tolist(), strict=True)]) < recall
    assert (np.diff(some.similarity, axis=1) <= 0).all()


@needs_faiss
def test_as_many_cells_are_looked_into_as_it_takes() -> None:
    x = np.random.default_rng(1).normal(size=(3000, 16)).astype(np.float32)  # no clouds: neighbours lie in many cells
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    index, _ = build_index(x, kind="cells", progress=Silent())
    assert index.probes > 4 and 0.98 <= index.recall <= 1
    search, own = searcher(index), np.asarray(index.vectors[:300], np.float32)
    truth = nearest(index.vectors, 11, queries=own)
    found = search.search(own, 11)
    recall = np.mean([(len(set(a) & set(b)) - 1) / 10 for a, b in zip(found.rows.tolist(), truth.rows.tolist(), strict=True)])
    assert recall >= 0.97


@needs_faiss
def test_each_is_left_out_among_its_own(celled: tuple[np.ndarray, VectorIndex, np.ndarray]) -> None:
    _, index, _ = celled
    found, truth = searcher(index).among_themselves(8), nearest(index.vectors, 8)
    assert found.rows.shape == (4000, 8)
    assert (found.rows != np.arange(4000)[:, None]).all()
    assert np.mean([len(set(a) & set(b)) / 8 for a, b in zip(found.rows.tolist(), truth.rows.tolist(), strict=True)]) > 0.9


@needs_faiss
def test_the_same_seed_gives_the_same_cells() -> None:
    x = clouds(3000, seed=2)
    (one, order), (other, again) = (build_index(x, kind="cells", seed=4, progress=Silent()) for _ in range(2))
    assert (order == again).all() and one.probes == other.probes
    for name in ("vectors", "centres", "ends"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


@needs_faiss
def test_identical_vectors_and_few_vectors_can_have_cells() -> None:
    for x in (np.repeat(clouds(1), 200, 0), clouds(2), clouds(45)):
        index, _ = build_index(x, kind="cells", progress=Silent())
        search = searcher(index)
        assert np.allclose(search.search(x[:1], 5).similarity[:, 0], 1, atol=1e-3)
        assert search.among_themselves(10).rows.shape == (len(x), min(10, len(x) - 1))


def test_a_large_k_gives_all(celled: tuple[np.ndarray, VectorIndex, np.ndarray]) -> None:
    x, index, _ = celled
    assert sorted(searcher(index).search(x[:1], 9999).rows[0].tolist()) == list(range(4000))
    wide = searcher(index).search(x[:2], 600)
    assert (wide.rows >= 0).all()
    with pytest.raises(OptionError, match="k must be at least 1"):
        searcher(index).search(x[:1], 0)


def test_without_faiss_cells_are_searched_in_full(
    celled: tuple[np.ndarray, VectorIndex, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, index, _ = celled
    monkeypatch.setattr(indexes, "has_faiss", lambda: False)
    queries = clouds(20, seed=9)
    assert (searcher(index).search(queries, 4).rows == nearest(index.vectors, 4, queries=queries).rows).all()
    with pytest.raises(OptionError, match="needs FAISS"):
        build_index(queries, kind="cells", progress=Silent())
    listener = Silent()
    monkeypatch.setattr(indexes, "_MANY", 10)
    assert build_index(queries, progress=listener)[0].kind == "exact"
    assert "greffon[search]" in listener.warnings[0]


def test_another_kind_is_an_error() -> None:
    with pytest.raises(OptionError, match="auto, exact, cells"):
        build_index(clouds(5), kind="hnsw", progress=Silent())
