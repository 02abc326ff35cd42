"""A mixture of the source's classes, moved and mixed anew: what the target is, if its classes keep their shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.transfer.transductive.domains import Labelled, Unlabelled

__all__ = ["ShiftedMixture"]


@final
@dataclass(frozen=True, slots=True)
class ShiftedMixture:
    """Class proportions of the target, and with them its classes, where they may be far from the source's.

    On the source's discriminant axes each class is a Gaussian with its own mean and a common width. In the target all means are
    moved by one vector, the width is another, and so are the proportions; the three are found by expectation maximisation
    from even proportions. Aligning the domains' means, as most methods do, takes other proportions for a move; this does
    not. It fails where the domains differ in more than a move, and must be checked against something else. (Saerens et
    al. 2002, Neural Computation 14, estimate proportions like this, without the move.)

    Parameters
    ----------
    shrinkage
        Added to the diagonal of the scatter within classes, in units of its mean.
    prior
        Images that are thought of in each class.
    """

    shrinkage: float = 0.5
    prior: float = 1.0
    rounds: int = 200

    def probabilities(self, source: Labelled, target: Unlabelled, seed: int) -> np.ndarray:
        present = np.unique(source.labels)
        full = np.zeros((len(target), source.classes))
        if len(present) < 2:
            full[:, present[0]] = 1.0
            return full
        labels, count = np.searchsorted(present, source.labels), len(present)
        axes = _discriminants(source.features, labels, count, self.shrinkage)
        own, other = source.features @ axes, target.features @ axes
        means = np.stack([own[labels == c].mean(0) for c in range(count)])
        width = max(float(((own - means[labels]) ** 2).mean()), 1e-12)
        share = np.full(count, 1 / count)
        move = other.mean(0) - share @ means
        belief = np.zeros((len(other), count))
        for _ in range(self.rounds):
            squares = ((other[:, None] - (means + move)[None]) ** 2).sum(2)
            score = np.log(share + 1e-12) - squares / (2 * width)
            before, belief = belief, np.exp(score - score.max(1, keepdims=True))
            belief /= belief.sum(1, keepdims=True)
            if np.abs(belief - before).max() < 1e-6:
                break
            share = (belief.sum(0) + self.prior) / (len(other) + self.prior * count)
            move = (other - belief @ means).mean(0)
            squares = ((other[:, None] - (means + move)[None]) ** 2).sum(2)
            width = max(float((belief * squares).sum() / other.size), 1e-12)
        full[:, present] = belief
        return full


def _discriminants(x: np.ndarray, labels: np.ndarray, classes: int, shrinkage: float) -> np.ndarray:
    """Fisher's discriminant axes as columns, (d, classes - 1), on which the scatter within classes is 1."""
    from scipy.linalg import eigh

    x = x.astype(np.float64)
    means = np.stack([x[labels == c].mean(0) for c in range(classes)])
    within = x - means[labels]
    scatter = within.T @ within / len(x)
    unit = max(float(np.trace(scatter)) / len(scatter), 1e-12)
    between = means - means.mean(0)
    count = min(classes - 1, x.shape[1])
    _, axes = eigh(
        between.T @ between,
        scatter + shrinkage * unit * np.eye(len(scatter)),
        subset_by_index=(x.shape[1] - count, x.shape[1] - 1),
    )
    return axes[:, ::-1]
