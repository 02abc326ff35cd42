"""Several clusterings as one: the spectral join, the votes, and their agreement."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from greffon.transfer.unsupervised import agreement, joined, votes_for
from greffon.transfer.unsupervised.spectral import left_vectors

TRUTH = np.repeat(np.arange(3), 40)


def noisy(share: float, seed: int) -> np.ndarray:
    """The truth under other numbers, with a share of the photos anywhere."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(3)[TRUTH]
    wrong = rng.random(len(labels)) < share
    return np.where(wrong, rng.integers(0, 3, len(labels)), labels)


def test_many_that_err_are_right_together() -> None:
    guesses = [noisy(0.4, seed) for seed in range(15)]
    found = joined(guesses, 3, 0)
    assert found.k == 3
    alone = max(adjusted_rand_score(TRUTH, one) for one in guesses)
    assert adjusted_rand_score(TRUTH, found.labels) > alone + 0.15
    again = joined(guesses, 3, 0)
    np.testing.assert_array_equal(again.labels, found.labels)


def test_the_names_of_the_clusters_do_not_matter() -> None:
    guesses = [noisy(0.3, seed) for seed in range(6)]
    renamed = [(one + 1) % 3 for one in guesses]
    assert adjusted_rand_score(joined(guesses, 3, 0).labels, joined(renamed, 3, 0).labels) == 1


def test_the_sure_ones_are_right_more_often() -> None:
    found = joined([noisy(0.5, seed) for seed in range(9)], 3, 0)
    names = [np.bincount(TRUTH[found.labels == c], minlength=3).argmax() for c in range(found.k)]
    right = np.array(names)[found.labels] == TRUTH
    sure = found.confidence >= np.median(found.confidence)
    assert right[sure].mean() > right[~sure].mean() + 0.1


def test_votes_against_a_loop() -> None:
    labels, guesses = noisy(0.2, 1), [noisy(0.5, 2), np.where(np.arange(120) % 7, noisy(0.1, 3), -1)]
    beliefs = [np.where(one[:, None] == np.arange(3), 1.0, 0.0) for one in guesses]
    wanted = np.zeros(120)
    for i in range(120):
        for one in guesses:
            if one[i] >= 0:
                together = [j for j in range(120) if one[j] == one[i]]
                wanted[i] += np.mean([labels[j] == labels[i] for j in together]) / 2
    np.testing.assert_allclose(votes_for(labels, beliefs), wanted)


def test_clusterings_of_other_numbers_and_with_photos_in_none() -> None:
    one, other = noisy(0.1, 0), np.where(np.arange(120) % 5, TRUTH * 2 + np.arange(120) % 2, -1)
    found = joined([one, other, np.zeros(120, np.int64), np.full(120, -1)], 3, 0)
    assert found.k == 3
    assert adjusted_rand_score(TRUTH, found.labels) > 0.7
    same = joined([np.zeros(5, np.int64)] * 3, 2, 0)
    assert same.k == 1


def test_left_vectors_against_the_whole_affinity() -> None:
    """They are the eigenvectors of Z D^-1 Z', the affinity by what two rows share, which is normalised where rows sum to 1."""
    rng = np.random.default_rng(0)
    table = rng.random((20, 7)) * (rng.random((20, 7)) < 0.6) + 1e-3
    table /= table.sum(1, keepdims=True)
    found = left_vectors(sparse.csr_array(table), 4)
    values, vectors = np.linalg.eigh(table @ np.diag(1 / table.sum(0)) @ table.T)
    np.testing.assert_allclose(np.abs(found), np.abs(vectors[:, ::-1][:, :4]), atol=1e-8)
    assert values[-1] == pytest.approx(1)


def test_agreement_is_corrected_for_chance() -> None:
    assert agreement(TRUTH, (TRUTH + 1) % 3) == pytest.approx(1)
    assert abs(agreement(TRUTH, np.random.default_rng(0).integers(0, 3, 120))) < 0.05
