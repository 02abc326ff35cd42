"""Several guesses of the same images as one: who is right about which class is estimated from how the guesses agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["consensus"]

#: As how many independent guesses all of them together count, at most. Methods that see the same features err together:
#: counted as independent, they would be sure of everything.
_INDEPENDENT = 6.0


def consensus(
    guesses: Sequence[np.ndarray],
    classes: int,
    *,
    trust: np.ndarray | None = None,
    smoothing: float = 2.0,
    rounds: int = 50,
) -> np.ndarray:
    """The classes that are most likely, if each guesser has a confusion matrix of its own: the estimate of Dawid and Skene
    (1979, Applied Statistics 28, 20-28) by expectation maximisation, from the votes.

    Guessers that the others bear out in a class are believed in it, the others are read for what they confuse it with.
    No label is needed.

    Parameters
    ----------
    guesses
        int64 (n,) each: the class of every image.
    classes
        How many there are.
    trust
        How much each guesser counts beside the others, (k,), none below 0; by default, and if all are 0, alike.
    smoothing
        Images that are thought of in each cell of a confusion matrix; fewer where a class has few in the mean: in all cells of a
        row no more than that.
    rounds
        At most so many.

    Returns
    -------
    float64 (n, classes), rows of which sum to 1.
    """
    votes = [np.eye(classes)[guess] for guess in guesses]
    if len(votes) == 1:
        return votes[0]
    # Not more is thought of in a row than a class has images in the mean; else of many small classes few would be left.
    smoothing = min(smoothing, len(votes[0]) / classes**2)
    share = np.ones(len(votes)) if trust is None or not np.any(trust) else np.asarray(trust, np.float64)
    share = share / share.sum()
    weights = share * min(float(len(votes)), _INDEPENDENT)
    belief = np.tensordot(share, np.stack(votes), 1)
    for _ in range(rounds):
        score = np.tile(np.log(belief.mean(0) + 1e-6), (len(belief), 1))
        for guess, vote, weight in zip(guesses, votes, weights, strict=True):
            table = (belief.T @ vote + smoothing) / (
                belief.sum(0)[:, None] + smoothing * classes
            )  # row true, column guessed
            score += weight * np.log(table[:, guess].T)
        before, belief = belief, _softmax(score)
        if np.abs(belief - before).max() < 1e-6:
            break
    return belief


def _softmax(scores: np.ndarray) -> np.ndarray:
    z = np.exp(scores - scores.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)
