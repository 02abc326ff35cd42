"""The choice of features and graph, by leaving labelled images out: against a loop, and where it must keep its hands still."""

from __future__ import annotations

import numpy as np
import pytest

from greffon.errors import OptionError
from greffon.progress import Silent
from greffon.transfer.transductive import (
    GRID,
    Labelled,
    Spreading,
    Unlabelled,
    choose_spreading,
    class_mass_normalised,
    class_prior,
    neighbour_graph,
    spread,
)


def two_looks(each: int = 40, shots: int = 10, seed: int = 0) -> list[tuple[Labelled, Unlabelled]]:
    """Features that say nothing, and features that say all, of the same images."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(2), each)
    few = np.concatenate([np.flatnonzero(y == c)[:shots] for c in range(2)])
    others = np.setdiff1d(np.arange(2 * each), few)
    noise = rng.normal(size=(2 * each, 6)).astype(np.float32)
    clear = (noise + 4 * np.eye(2, 6)[y]).astype(np.float32)
    return [(Labelled(x[few], y[few], 2), Unlabelled(x[others])) for x in (noise, clear)]


def test_accuracies_are_those_of_a_loop_that_leaves_each_out() -> None:
    looks = two_looks()
    groups = np.array([0, 0, *range(2, 20)])
    for labelled, _ in looks:  # one is a copy of the other: who may learn from it is right
        labelled.features[:2] = -labelled.features[12]
    _, _, tried = choose_spreading(looks, (Spreading(5, 0.8),), groups=groups, progress=Silent())
    for (labelled, unlabelled), (_, _, accuracy) in zip(looks, tried, strict=True):
        graph = neighbour_graph(np.concatenate([labelled.features, unlabelled.features]), 5)
        right = []
        for i in range(20):
            seeds = np.zeros((80, 2))
            for j in range(20):
                if groups[j] != groups[i]:
                    seeds[j, labelled.labels[j]] = 1
            scores = spread(graph, seeds, 0.8)
            told = class_mass_normalised(scores, scores.sum(0), np.full(2, 0.5))
            right.append(told[i].argmax() == labelled.labels[i])
        assert accuracy == pytest.approx(np.mean(right))


def test_better_features_are_found_and_noise_is_not() -> None:
    noise, clear = two_looks()
    assert choose_spreading([noise, clear], progress=Silent())[0] == 1
    assert choose_spreading([clear, noise], progress=Silent())[:2] == (0, GRID[0])
    other_noise = two_looks(seed=5)[0]
    stayed = [choose_spreading([two_looks(seed=s)[0], other_noise], progress=Silent())[0] == 0 for s in range(20)]
    assert sum(stayed) >= 17


def test_of_a_handful_the_default_comes_out() -> None:
    for shots in (1, 2, 4):
        assert choose_spreading(two_looks(shots=shots), progress=Silent()) == (0, GRID[0], ())
    labelled, unlabelled = two_looks()[1]
    lone = Labelled(labelled.features[:11], labelled.labels[:11], 2)  # ten of one class, one of the other
    assert choose_spreading([(lone, unlabelled)] * 2, progress=Silent())[2] == ()


def test_many_labelled_images_are_sampled() -> None:
    looks = two_looks(each=60, shots=40)
    found = choose_spreading(looks, most=20, progress=Silent())
    assert found[0] == 1
    assert all(round(accuracy * 20) == pytest.approx(accuracy * 20) for _, _, accuracy in found[2])


def test_the_prior_counts_one_more_of_each() -> None:
    labelled = Labelled(np.zeros((4, 2), np.float32), np.array([0, 0, 0, 1]), 3)
    np.testing.assert_allclose(class_prior(labelled), [4 / 7, 2 / 7, 1 / 7])


def test_what_cannot_be_is_said() -> None:
    for neighbours, alpha in ((0, 0.9), (5, 1.0), (5, 0.0)):
        with pytest.raises(OptionError, match="neighbours must be at least 1 and alpha"):
            Spreading(neighbours, alpha)
    with pytest.raises(OptionError, match="one look"):
        choose_spreading([], progress=Silent())
