"""Methods that let the target's own clusters speak: self-training by classes, and structured prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.heads import softmax
from greffon.transfer.transductive.adapting import learn_and_tell, unit_scale
from greffon.transfer.transductive.aligning import per_domain
from greffon.transfer.transductive.domains import Labelled, Unlabelled

__all__ = ["SelfTraining", "StructuredPrediction", "surest"]


def surest(probabilities: np.ndarray, share: float) -> np.ndarray:
    """Of each predicted class the given share of its images, the surest first and one at least: int64 (k,), sorted."""
    guess, sure = probabilities.argmax(1), probabilities.max(1)
    chosen = []
    for c in np.unique(guess):
        mine = np.flatnonzero(guess == c)
        count = max(1, int(len(mine) * share))
        chosen.append(mine[np.argsort(-sure[mine], kind="stable")[:count]])
    return np.sort(np.concatenate(chosen))


@final
@dataclass(frozen=True, slots=True)
class SelfTraining:
    """The surest images of each class, more of them in each round, are learned from as if their labels were known: class
    balanced self-training (Zou et al. 2018, arXiv:1810.07911, section 4.2), on features with statistics per domain.

    The last round learns from the target alone.
    """

    rounds: int = 10
    strength: float = 1.0
    aligned: bool = True

    def probabilities(self, source: Labelled, target: Unlabelled, seed: int) -> np.ndarray:
        if self.aligned:
            own, other = per_domain(source.features, target.features)
        else:
            own, other = (unit_scale(x, source.features) for x in (source.features, target.features))
        classes = source.classes
        guess = learn_and_tell(own, source.labels, classes, other, self.strength)
        for number in range(1, self.rounds + 1):
            labels, some = guess.argmax(1), surest(guess, number / self.rounds)
            x, y = other[some], labels[some]
            if number < self.rounds:
                x, y = np.concatenate([own, x]), np.concatenate([source.labels, y])
            guess = learn_and_tell(x, y, classes, other, self.strength)
        return guess


@final
@dataclass(frozen=True, slots=True)
class StructuredPrediction:
    """Selective pseudo-labelling by structured prediction (Wang and Breckon 2020, arXiv:1911.07982).

    In each round, a projection is learned in which images of one class lie together (supervised locality preserving
    projection, equations 1 to 4), from the source and the target images selected so far. Every target image is then
    judged by its distance to the class means of the source, and by that to the clusters which k-means finds in the target
    from there, matched one to one to the classes (equations 6 to 9); the larger of the two probabilities counts. The
    surest of each class are selected, in round t of T so large a part of them.

    Parameters
    ----------
    axes, dimensions
        Of the principal axes before, and of the projection.
    centred
        Whether each domain is centred on its own mean first.
    """

    axes: int = 256
    dimensions: int = 128
    rounds: int = 10
    centred: bool = False

    def probabilities(self, source: Labelled, target: Unlabelled, seed: int) -> np.ndarray:
        own, other = _together(source.features, target.features, self.axes, self.centred)
        present = np.unique(source.labels)
        labels = np.searchsorted(present, source.labels)
        some, pseudo = np.zeros(0, np.int64), np.zeros(len(other), np.int64)
        guess = np.zeros((len(other), len(present)))
        for number in range(self.rounds + 1):
            x, y = np.concatenate([own, other[some]]), np.concatenate([labels, pseudo[some]])
            directions = _preserving(x, y, len(present), self.dimensions)
            a, b = own @ directions, other @ directions
            centre = np.concatenate([a, b]).mean(0)
            a, b = _to_length_one(a - centre), _to_length_one(b - centre)
            means = _to_length_one(np.stack([a[labels == c].mean(0) for c in range(len(present))]))
            clusters = _to_length_one(_clusters(b, means))
            guess = np.maximum(softmax(-_distances(b, means)), softmax(-_distances(b, clusters)))
            pseudo = guess.argmax(1)
            some = surest(guess, (number + 1) / self.rounds)
        full = np.zeros((len(other), source.classes))
        full[:, present] = guess / guess.sum(1, keepdims=True)
        return full


def _together(source: np.ndarray, target: np.ndarray, axes: int, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """Both domains on the principal axes of the two together, each image's vector of length one."""
    a, b = source.astype(np.float64), target.astype(np.float64)
    if centred:
        a, b = a - a.mean(0), b - b.mean(0)
    every = np.concatenate([a, b])
    every -= every.mean(0)
    values, vectors = np.linalg.eigh(every.T @ every)
    kept = np.flatnonzero(values > 1e-10 * max(float(values[-1]), 1e-300))[::-1][:axes]
    turned = _to_length_one(every @ vectors[:, kept]) if len(kept) else np.zeros((len(every), 1))
    return turned[: len(a)], turned[len(a) :]


def _preserving(x: np.ndarray, y: np.ndarray, classes: int, dimensions: int) -> np.ndarray:
    """The directions P, (d, k), of the largest X' D X P = l (X' L X + I) P, where W joins images of one class.

    With W of ones within each class, D is the size of an image's class, and X' W X the sum over classes of the outer
    product of the sum of its features: no (n, n) matrix is needed.
    """
    from scipy.linalg import eigh

    sums = np.zeros((classes, x.shape[1]))
    np.add.at(sums, y, x)
    spread = (x * np.bincount(y, minlength=classes)[y][:, None]).T @ x
    width = x.shape[1]
    count = min(dimensions, width)
    _, directions = eigh(spread, spread - sums.T @ sums + np.eye(width), subset_by_index=(width - count, width - 1))
    return directions[:, ::-1]


def _clusters(x: np.ndarray, means: np.ndarray, rounds: int = 100) -> np.ndarray:
    """k-means in the target from the class means, and its clusters in the order of the classes that they match."""
    from scipy.optimize import linear_sum_assignment

    centres = means
    for _ in range(rounds):
        nearest = _distances(x, centres).argmin(1)
        moved = np.stack([x[nearest == c].mean(0) if (nearest == c).any() else centres[c] for c in range(len(means))])
        if np.allclose(moved, centres, atol=1e-9):
            break
        centres = moved
    _, columns = linear_sum_assignment(_distances(means, centres))
    return centres[columns]


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean, (n, m)."""
    from scipy.spatial.distance import cdist

    return cdist(a, b)


def _to_length_one(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
