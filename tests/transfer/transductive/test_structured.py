"""Self-training and structured prediction: against loops, n x n matrices and scikit-learn's PCA, k-means and classifier."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.linalg import eigh
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from clouds import Clouds, drawn, logistic
from greffon.transfer.transductive import Labelled, SelfTraining, StructuredPrediction, per_domain, surest
from greffon.transfer.transductive.structured import _clusters, _preserving

CLOUDS = drawn(60, 55, 10, move=2.5, turn=0.4, stretch=1.3, apart=3.0)
S, T = CLOUDS.source, CLOUDS.target


def unit(x: np.ndarray) -> np.ndarray:
    return np.array([row / np.sqrt(row @ row) for row in x])


def k_means(x: np.ndarray, start: np.ndarray) -> np.ndarray:
    """scikit-learn's centres, (k, d)."""
    make: Any = KMeans  # its stubs know of names alone
    return make(len(start), init=start, n_init=1, tol=0).fit(x).cluster_centers_


def naive_surest(probabilities: np.ndarray, share: float) -> list[int]:
    chosen = []
    for c in range(probabilities.shape[1]):
        mine = [i for i, row in enumerate(probabilities) if row.argmax() == c]
        mine.sort(key=lambda i: -probabilities[i, c])
        chosen += mine[: max(1, int(len(mine) * share))]
    return sorted(chosen)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99, 1.0, 1.1])
def test_the_surest_of_each_class(share: float) -> None:
    told = np.random.default_rng(0).dirichlet(np.ones(4), 37)
    assert surest(told, share).tolist() == naive_surest(told, share)


def test_every_predicted_class_is_among_the_surest() -> None:
    told = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.45, 0.55, 0.0], [0.7, 0.3, 0.0]])
    assert surest(told, 0.4).tolist() == [0, 2]
    assert surest(told[:1], 0.1).tolist() == [0]


def naive_self_training(rounds: int, aligned: bool) -> tuple[np.ndarray, list[int]]:
    """What the last round says, and how many images each learned from."""
    if aligned:
        own, other = per_domain(S.features, T.features)
    else:
        length = np.sqrt((S.features.var(0)).sum())
        own, other = (S.features - S.features.mean(0)) / length, (T.features - S.features.mean(0)) / length
    told, counts = logistic(own, S.labels, other), []
    for t in range(1, rounds + 1):
        some = naive_surest(told, t / rounds)
        x = [other[i] for i in some]
        y = [int(told[i].argmax()) for i in some]
        if t < rounds:
            x, y = [*own, *x], [*S.labels, *y]
        counts.append(len(y))
        told = logistic(np.array(x), np.array(y), other)
    return told, counts


@pytest.mark.parametrize(("rounds", "aligned"), [(1, True), (4, True), (4, False), (10, True)])
def test_the_schedule_of_self_training(rounds: int, aligned: bool) -> None:
    theirs, counts = naive_self_training(rounds, aligned)
    assert counts[-1] == 55, "the last round learns from the whole target, and from it alone"
    assert all(a < b for a, b in itertools.pairwise(counts[:-1]))
    np.testing.assert_allclose(SelfTraining(rounds=rounds, aligned=aligned).probabilities(S, T, 0), theirs, atol=1e-3)


def test_locality_is_preserved_by_explicit_matrices() -> None:
    """X' D X P = l (X' L X + I) P: W_ij is 1 within a class, D its row sums, L = D - W."""
    x, y = S.features.astype(np.float64), S.labels
    y = np.where(np.arange(60) < 8, 2, y)  # classes of unlike sizes
    w = np.array([[float(a == b) for b in y] for a in y])
    d = np.diag(w.sum(1))
    values, theirs = eigh(x.T @ d @ x, x.T @ (d - w) @ x + np.eye(10))
    ours = _preserving(x, y, 3, 4)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs[:, ::-1][:, :4]), atol=1e-8)
    assert (np.diff(values) >= 0).all()


def matched(means: np.ndarray, centres: np.ndarray) -> tuple[int, ...]:
    """The one-to-one order of the centres in which they are nearest to the means, by trying all."""
    orders = itertools.permutations(range(len(means)))
    return min(
        orders, key=lambda order: sum(float(np.linalg.norm(a - centres[o])) for a, o in zip(means, order, strict=True))
    )


@pytest.mark.parametrize(("seed", "order"), [(39, (0, 2, 1)), (70, (1, 0, 2)), (95, (2, 1, 0)), (1, (0, 1, 2))])
def test_clusters_are_those_of_scikit_learn_in_the_order_of_the_classes(seed: int, order: tuple[int, ...]) -> None:
    """Of some draws, the clusters have changed places on their way from the means."""
    rng = np.random.default_rng(seed)
    x, means = rng.normal(size=(30, 2)), rng.normal(size=(3, 2))
    theirs = k_means(x, means)
    assert matched(means, theirs) == order
    np.testing.assert_allclose(_clusters(x, means), theirs[list(order)], atol=1e-6)


def test_clusters_that_have_wandered_are_matched_one_to_one() -> None:
    """The first mean catches the second's cloud: by nearness alone both would take the same."""
    x = np.concatenate([np.full((20, 1), 0.0), np.full((20, 1), 10.0)]) + np.linspace(-0.1, 0.1, 40)[:, None]
    found = _clusters(x, np.array([[9.0], [30.0]]))
    assert found[:, 0].round().tolist() == [5.0, 30.0], "a cluster without images stays where it is"
    found = _clusters(x, np.array([[4.0], [4.5]]))
    np.testing.assert_allclose(found[:, 0], [0, 10], atol=0.1)


def naive_structured_prediction(clouds: Clouds, axes: int, k: int, rounds: int, centred: bool) -> np.ndarray:
    """Wang and Breckon's algorithm 1, with n x n matrices."""
    a, b = clouds.source.features.astype(np.float64), clouds.target.features.astype(np.float64)
    if centred:
        a, b = a - a.mean(0), b - b.mean(0)
    every = np.concatenate([a, b])
    every = unit(PCA(min(axes, every.shape[1]), svd_solver="full").fit_transform(every))
    a, b, y = every[: len(a)], every[len(a) :], clouds.source.labels
    some: list[int] = []
    pseudo, told = np.zeros(len(b), int), np.zeros((len(b), 3))
    for t in range(rounds + 1):
        x, labels = np.concatenate([a, b[some]]), np.concatenate([y, pseudo[some]])
        w = (labels[:, None] == labels[None]).astype(float)
        d = np.diag(w.sum(1))
        _, p = eigh(x.T @ d @ x, x.T @ (d - w) @ x + np.eye(x.shape[1]))
        p = p[:, ::-1][:, :k]
        z = np.concatenate([a, b]) @ p
        z = unit(z - z.mean(0))
        own, other = z[: len(a)], z[len(a) :]
        means = unit(np.stack([own[y == c].mean(0) for c in range(3)]))
        centres = k_means(other, means)
        order = matched(means, centres)
        centres = unit(centres[list(order)])
        both = []
        for targets in (means, centres):
            score = np.array([[np.exp(-np.linalg.norm(row - centre)) for centre in targets] for row in other])
            both.append(score / score.sum(1, keepdims=True))
        told = np.maximum(*both)
        pseudo = told.argmax(1)
        some = naive_surest(told, (t + 1) / rounds)
    return told / told.sum(1, keepdims=True)


@pytest.mark.parametrize(("axes", "k", "rounds", "centred"), [(256, 2, 3, False), (6, 128, 10, True), (7, 4, 1, True)])
def test_structured_prediction_by_the_papers_steps(axes: int, k: int, rounds: int, centred: bool) -> None:
    ours = StructuredPrediction(axes=axes, dimensions=k, rounds=rounds, centred=centred).probabilities(S, T, 0)
    np.testing.assert_allclose(ours, naive_structured_prediction(CLOUDS, axes, k, rounds, centred), atol=1e-6)


def test_structured_prediction_leaves_a_class_without_images_out() -> None:
    gap = Labelled(S.features, np.array([0, 2, 3])[S.labels], 5)
    told = StructuredPrediction().probabilities(gap, T, 0)
    assert (told[:, [1, 4]] == 0).all()
    np.testing.assert_array_equal(told[:, [0, 2, 3]], StructuredPrediction().probabilities(S, T, 0))
