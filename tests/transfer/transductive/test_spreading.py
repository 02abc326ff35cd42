"""Label spreading against scikit-learn's, a dense closed form, and naive loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.semi_supervised import LabelSpreading

from greffon.errors import OptionError
from greffon.transfer.transductive import class_mass_normalised, influence, neighbour_graph, spread


def clouds(n: int = 60, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, 8) around a centre for each class, and int64 (n,)."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return (rng.normal(size=(classes, 8))[y] + 0.7 * rng.normal(size=(n, 8))).astype(np.float32), y


def naive_affinity(x: np.ndarray, k: int) -> np.ndarray:
    """W, (n, n), by loops and scikit-learn's cosine."""
    n, likeness = len(x), cosine_similarity(x.astype(np.float64))
    one_way = np.zeros((n, n))
    for i in range(n):
        order = sorted((j for j in range(n) if j != i), key=lambda j: -likeness[i, j])
        for j in order[:k]:
            one_way[i, j] = max(likeness[i, j], 0)
    return (one_way + one_way.T) / 2


def naive_graph(x: np.ndarray, k: int) -> np.ndarray:
    w = naive_affinity(x, k)
    root = np.sqrt(w.sum(1))
    return w / root[:, None] / root[None]


@pytest.mark.parametrize(("k", "block"), [(1, 0), (5, 0), (5, 7), (59, 0), (500, 16)])
def test_the_graph_is_that_of_naive_loops(k: int, block: int) -> None:
    x, _ = clouds()
    graph = neighbour_graph(x, k, block=block)
    np.testing.assert_allclose(graph.toarray(), naive_graph(x, k), atol=1e-6)
    assert abs(graph - graph.T).max() < 1e-12
    assert (graph.diagonal() == 0).all()
    assert np.abs(np.linalg.eigvalsh(graph.toarray())).max() <= 1 + 1e-9


@pytest.mark.parametrize("alpha", [0.2, 0.9, 0.99])
def test_spreading_is_the_closed_form(alpha: float) -> None:
    x, y = clouds()
    graph, seeds = neighbour_graph(x, 5), np.zeros((60, 3))
    seeds[np.arange(9), y[:9]] = 1
    dense = (1 - alpha) * np.linalg.inv(np.eye(60) - alpha * naive_graph(x, 5)) @ seeds
    np.testing.assert_allclose(spread(graph, seeds, alpha), dense, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_spreading_is_scikit_learns_on_the_same_affinity(alpha: float) -> None:
    x, y = clouds(90)
    w = naive_affinity(x, 6)
    known = np.where(np.arange(90) < 6, y, -1)
    kernel: Any = lambda a, b=None: w  # noqa: E731  # its stubs know of names alone
    theirs = LabelSpreading(kernel=kernel, alpha=alpha, max_iter=5000, tol=1e-12).fit(x, known)
    seeds = np.zeros((90, 3))
    seeds[np.arange(6), y[:6]] = 1
    ours = spread(neighbour_graph(x, 6), seeds, alpha)
    np.testing.assert_allclose(ours / ours.sum(1, keepdims=True), theirs.label_distributions_, atol=1e-5)


def test_influence_leaves_out_what_spreading_without_it_gives() -> None:
    x, y = clouds()
    graph, few = neighbour_graph(x, 5), np.array([3, 10, 14, 20, 31, 44, 59])
    told, mass = influence(graph, few, 0.9, block=3)
    own = np.eye(3)[y[few]]
    for i in range(len(few)):
        seeds = np.zeros((60, 3))
        rest = np.delete(few, i)
        seeds[rest, y[rest]] = 1
        without = spread(graph, seeds, 0.9)
        np.testing.assert_allclose(np.delete(told[i], i) @ np.delete(own, i, 0), without[few[i]], atol=1e-8)
        np.testing.assert_allclose(np.delete(mass, i) @ np.delete(own, i, 0), without.sum(0), atol=1e-7)


def test_class_masses_become_the_prior() -> None:
    """By hand: the table of Zhu et al.'s decision rule, q P(class) / mass."""
    scores = np.array([[0.6, 0.2], [0.3, 0.2], [0.1, 0.1]])
    found = class_mass_normalised(scores, scores.sum(0), np.array([0.25, 0.75]))
    for row, given in zip(found, scores, strict=True):
        a, b = 0.25 * given[0] / 1.0, 0.75 * given[1] / 0.5
        np.testing.assert_allclose(row, [a / (a + b), b / (a + b)])
    # An image that nothing reaches, and a class that reaches nothing.
    lonely = class_mass_normalised(np.array([[0.0, 0.0], [0.4, 0.0]]), np.array([0.4, 0.0]), np.array([0.3, 0.7]))
    np.testing.assert_allclose(lonely, [[0.3, 0.7], [1.0, 0.0]])


def test_an_image_like_no_other_is_reached_by_nothing() -> None:
    x = np.zeros((4, 6), np.float32)
    x[0, :2], x[1, :2], x[2, 3], x[3, 4] = (1, 0.5), (1, 0.4), 1, 0  # the last is black: all 0
    graph = neighbour_graph(x, 3)
    assert graph.toarray()[2:].sum() == 0
    found = spread(graph, np.array([[1.0, 0], [0, 0], [0, 0], [0, 1.0]]), 0.9)
    assert found[1, 0] > 0
    assert found[2].tolist() == [0, 0]
    assert found[3].tolist() == pytest.approx([0, 0.1])


def test_one_image_and_none_to_spread() -> None:
    assert neighbour_graph(np.ones((1, 3), np.float32), 5).shape == (1, 1)
    graph = neighbour_graph(clouds()[0], 5)
    assert (spread(graph, np.zeros((60, 2)), 0.9) == 0).all()
    assert isinstance(graph, sparse.csr_array)


def test_what_cannot_be_is_said() -> None:
    x, _ = clouds()
    with pytest.raises(OptionError, match="neighbours must be at least 1, got 0"):
        neighbour_graph(x, 0)
    for alpha in (0.0, 1.0, -1.0, 2.0):
        with pytest.raises(OptionError, match="alpha must be above 0 and below 1"):
            spread(neighbour_graph(x, 3), np.zeros((60, 2)), alpha)
