"""Consensus: against a triple loop of Dawid and Skene's, and on annotators whose confusions were drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from greffon.transfer.transductive import consensus


def annotators(
    n: int, tables: list[np.ndarray], seed: int = 0, share: np.ndarray | None = None
) -> tuple[list[np.ndarray], np.ndarray]:
    """Each one's guesses, from its confusion matrix (row true, column guessed), and the truth."""
    rng = np.random.default_rng(seed)
    classes = len(tables[0])
    truth = rng.choice(classes, n, p=share)
    return [np.array([rng.choice(classes, p=table[c]) for c in truth]) for table in tables], truth


def dawid_skene(
    guesses: list[np.ndarray], classes: int, trust: list[float], smoothing: float, rounds: int
) -> np.ndarray:
    """Loops over images, guessers and classes. All together count as min(k, 6) independent ones.

    In a row no more is thought of than a class has images in the mean.
    """
    n, total = len(guesses[0]), sum(trust)
    if smoothing * classes > n / classes:
        smoothing = n / classes / classes
    power = [min(len(guesses), 6) * one / total for one in trust]
    belief = [
        [sum(t / total for g, t in zip(guesses, trust, strict=True) if g[i] == c) for c in range(classes)]
        for i in range(n)
    ]
    for _ in range(rounds):
        prior = [sum(belief[i][c] for i in range(n)) / n for c in range(classes)]
        found = []
        for i in range(n):
            product = []
            for c in range(classes):
                value = prior[c] + 1e-6
                for g, w in zip(guesses, power, strict=True):
                    seen = sum(belief[j][c] for j in range(n) if g[j] == g[i])
                    value *= ((seen + smoothing) / (prior[c] * n + smoothing * classes)) ** w
                product.append(value)
            found.append([value / math.fsum(product) for value in product])
        belief = found
    return np.array(belief)


@pytest.mark.parametrize(
    ("trust", "smoothing", "rounds"),
    [(None, 2.0, 1), (None, 0.5, 3), ([1.0, 3.0, 0.5], 2.0, 2), ([0.0, 1.0, 1.0], 1.0, 2)],
)
def test_consensus_by_loops(trust: list[float] | None, smoothing: float, rounds: int) -> None:
    rng = np.random.default_rng(1)
    guesses, _ = annotators(25, [rng.dirichlet(np.ones(3) + 4 * np.eye(3)[c], 3) for c in range(3)])
    ours = consensus(guesses, 3, trust=None if trust is None else np.array(trust), smoothing=smoothing, rounds=rounds)
    np.testing.assert_allclose(ours, dawid_skene(guesses, 3, trust or [1.0] * 3, smoothing, rounds), atol=1e-10)


def test_the_smoothing_is_whole_from_forty_images_a_class() -> None:
    guesses, _ = annotators(90, [np.full((2, 2), 0.3) + 0.4 * np.eye(2)] * 3)
    np.testing.assert_allclose(consensus(guesses, 2, rounds=2), dawid_skene(guesses, 2, [1.0] * 3, 2.0, 2), atol=1e-10)


def test_eight_count_as_six() -> None:
    guesses, _ = annotators(20, [np.full((3, 3), 0.2) + 0.4 * np.eye(3)] * 8)
    np.testing.assert_allclose(consensus(guesses, 3, rounds=2), dawid_skene(guesses, 3, [1.0] * 8, 2.0, 2), atol=1e-10)


GOOD = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
#: Names the second class the third nearly always, and the other way round: wrong, and telling.
SWAPS = np.array([[0.9, 0.05, 0.05], [0.05, 0.1, 0.85], [0.05, 0.85, 0.1]])
BLIND = np.full((3, 3), 1 / 3)


def test_it_knows_more_than_the_majority() -> None:
    """Two who swap classes and two who guess blindly outvote two good ones often; the consensus reads the confusions."""
    guesses, truth = annotators(600, [GOOD, GOOD, GOOD, SWAPS, SWAPS, BLIND, BLIND])
    votes = np.stack([np.bincount(column, minlength=3) for column in np.stack(guesses).T])
    majority = float((votes.argmax(1) == truth).mean())
    ours = float((consensus(guesses, 3).argmax(1) == truth).mean())
    assert ours > majority + 0.03
    assert ours > 0.95


def test_proportions_are_learned() -> None:
    share = np.array([0.8, 0.15, 0.05])
    guesses, truth = annotators(800, [np.full((3, 3), 0.15) + 0.55 * np.eye(3)] * 5, share=share)
    belief = consensus(guesses, 3)
    np.testing.assert_allclose(belief.mean(0), np.bincount(truth) / 800, atol=0.06)
    np.testing.assert_allclose(belief.sum(1), 1)


def test_all_of_one_mind() -> None:
    guess = np.array([0, 1, 2, 2, 1, 0, 0])
    for count in (1, 4, 40):
        assert consensus([guess] * count, 3).argmax(1).tolist() == guess.tolist()
    assert consensus([guess] * 3, 5)[:, 3:].max() < 0.05, "a class that nobody names"
    rng = np.random.default_rng(0)
    for classes, n in ((2, 5), (3, 30), (10, 40), (31, 100), (31, 300)):
        guess = rng.integers(classes, size=n)
        for count in (3, 12):
            assert consensus([guess] * count, classes).argmax(1).tolist() == guess.tolist(), (classes, n, count)


def test_few_images_of_many_classes_are_not_drawn_into_one() -> None:
    """Four images of each of 31 classes: the consensus is no worse than the majority."""
    good = np.full((31, 31), 0.25 / 30) + (0.75 - 0.25 / 30) * np.eye(31)
    guesses, truth = annotators(124, [good] * 6)
    majority = np.stack([np.bincount(column, minlength=31) for column in np.stack(guesses).T]).argmax(1)
    assert (consensus(guesses, 31).argmax(1) == truth).mean() > (majority == truth).mean() - 0.03


def test_who_is_not_trusted_does_not_count() -> None:
    one, other = np.array([0, 1, 0, 1, 0, 1]), np.array([1, 0, 1, 0, 1, 0])
    for trust, winner in (((1.0, 0.0), one), ((0.0, 1.0), other)):
        assert consensus([one, other], 2, trust=np.array(trust)).argmax(1).tolist() == winner.tolist()


def test_nobody_trusted_is_everybody_alike() -> None:
    guesses, _ = annotators(30, [GOOD, GOOD, BLIND])
    np.testing.assert_array_equal(consensus(guesses, 3, trust=np.zeros(3)), consensus(guesses, 3))
