"""Two drawn domains of features whose classes are Gaussians: the target's are moved, turned and stretched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.transfer.transductive import Labelled, Unlabelled

__all__ = ["Clouds", "drawn", "logistic"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Clouds:
    """Both domains. ``truth``, the target's labels, is for the test alone."""

    source: Labelled
    target: Unlabelled
    truth: np.ndarray

    def accuracy(self, probabilities: np.ndarray) -> float:
        return float((probabilities.argmax(1) == self.truth).mean())


def drawn(
    n: int = 90, m: int = 80, d: int = 12, classes: int = 3, *, move: float = 0.0, turn: float = 0.0, stretch: float = 1.0,
    apart: float = 4.0, mixed: Sequence[float] | None = None, seed: int = 0,
) -> Clouds:  # fmt: skip
    """Classes of width 1 whose centres are about ``apart`` from each other.

    The target is turned by ``turn`` radians in every pair of axes, stretched, and moved by ``move`` along one direction.
    ``mixed`` are its classes' proportions; by default all are alike.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, d))
    centres *= apart / np.sqrt(2) / np.linalg.norm(centres, axis=1, keepdims=True)
    y = rng.permutation(np.arange(n) % classes)
    share = np.full(classes, 1 / classes) if mixed is None else np.asarray(mixed)
    truth = rng.permutation(np.searchsorted(np.cumsum(share) * m, np.arange(m) + 0.5))
    rotation = np.eye(d)
    for i in range(0, d - 1, 2):
        rotation[i : i + 2, i : i + 2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    direction = rng.normal(size=d)
    x = centres[y] + rng.normal(size=(n, d))
    there = stretch * (centres[truth] + rng.normal(size=(m, d))) @ rotation + move * direction / np.linalg.norm(
        direction
    )
    return Clouds(Labelled(x.astype(np.float32), y, classes), Unlabelled(there.astype(np.float32)), truth)


def logistic(x: np.ndarray, labels: np.ndarray, target: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """What scikit-learn's logistic regression says of others: float64 (m, classes that have images)."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, tol=1e-10, max_iter=10000).fit(x.astype(np.float64), labels)
    return model.predict_proba(target.astype(np.float64))
