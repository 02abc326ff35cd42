"""The minima of penalised linear classifiers: what ``heads`` fits where scikit-learn stops too early or takes too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["linear_minima"]


def linear_minima(
    kind: str, x: np.ndarray, y: np.ndarray, grid: Sequence[float], balanced: bool, tolerance: float
) -> list[np.ndarray]:
    """The minima of scikit-learn's ``LogisticRegression`` or ``LinearSVC``: float64 (classes present, d + 1), the intercept last.

    L-BFGS in coordinates in which the curvature is near 1 if the features stand on their principal axes.
    ``LogisticRegression`` measures its gradient in the features' own units, and stops far from the minimum where these
    are small; ``LinearSVC`` takes a hundred times as long as this.
    """
    from scipy.optimize import minimize

    names, numbers, counts = np.unique(y, return_inverse=True, return_counts=True)
    n, c = len(x), len(names)
    dtype = np.float64 if tolerance < 1e-5 and x.size <= 2**25 else np.float32
    truth = np.zeros((n, c), dtype)
    truth[np.arange(n), numbers] = 1
    share = np.full((n, c), 1 / n, dtype)
    if balanced:
        each = (1 / (c * counts))[numbers].astype(dtype)[:, None]
        # Of many classes, LinearSVC weighs in each of its problems the one class, not the rest.
        share[:] = np.where(truth == 1, each, share) if kind == "svm" and c > 2 else each
    moment = np.append(share.mean(1) @ (x.astype(dtype) ** 2), 1.0) * (2 if kind == "svm" else 1 / c)
    found = np.zeros((c, x.shape[1] + 1))
    minima = []
    for strength in grid:
        # LinearSVC penalises the intercept too. Of two classes LogisticRegression has one vector: the difference of the two here.
        factor, last = (1, 1) if kind == "svm" else (2 if c == 2 else 1, 0)
        penalty = np.append(np.full(x.shape[1], factor), last) / (n * strength)
        unit = 1 / np.sqrt(moment + penalty)
        scaled = np.concatenate([x * unit[:-1].astype(dtype), np.full((n, 1), unit[-1], dtype)], 1)
        end: Any = minimize(_squared_hinge if kind == "svm" else _cross_entropy, (found / unit).ravel(),
                       (scaled, truth, share, penalty * unit**2), "L-BFGS-B", True,
                       options={"maxiter": 1000, "gtol": tolerance, "ftol": 0.0})  # fmt: skip
        found = end.x.reshape(c, -1) * unit  # where the next one begins
        minima.append(found / 2 if kind == "svm" and c == 2 else found)
    return minima


def _cross_entropy(
    flat: np.ndarray, x: np.ndarray, truth: np.ndarray, share: np.ndarray, penalty: np.ndarray
) -> tuple[float, np.ndarray]:
    """The mean, weighted by ``share``, and half the penalised squares, with the gradient; in the precision of ``x``."""
    w = flat.reshape(truth.shape[1], -1)
    z = x @ w.T.astype(x.dtype)
    z -= z.max(1, keepdims=True)
    e = np.exp(z)
    total = e.sum(1, keepdims=True)
    value = (share[:, 0] * (np.log(total[:, 0]) - (z * truth).sum(1))).sum(dtype=np.float64)
    pull = penalty * w
    return float(value + (pull * w).sum() / 2), (((e / total - truth) * share).T @ x + pull).ravel()


def _squared_hinge(
    flat: np.ndarray, x: np.ndarray, truth: np.ndarray, share: np.ndarray, penalty: np.ndarray
) -> tuple[float, np.ndarray]:
    """The same of (1 - margin)², where the margin is below 1, of each class against the rest."""
    w = flat.reshape(truth.shape[1], -1)
    side = 2 * truth - 1
    lack = np.maximum(1 - side * (x @ w.T.astype(x.dtype)), 0)
    value = (share * lack**2).sum(dtype=np.float64)
    pull = penalty * w
    return float(value + (pull * w).sum() / 2), ((-2 * share * side * lack).T @ x + pull).ravel()
