"""Features (n, d) → scores (n, c): the new part that is grown on the backbone, where no stage is trained.

Fitting is scikit-learn's. What it finds is kept as a few arrays, so that a model needs neither scikit-learn's version
nor a pickle to predict.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from greffon.errors import ModelError, OptionError

__all__ = [
    "HEADS",
    "NORMS",
    "POOLS",
    "Head",
    "LinearHead",
    "NeighbourHead",
    "Normaliser",
    "Representation",
    "fit_head",
    "fit_heads",
    "fit_temperature",
    "head_from_arrays",
    "softmax",
    "strengths",
]

HEADS = ("logistic", "svm", "ridge", "centroid", "knn")
POOLS = ("mean", "max", "mean+max", "flatten")
NORMS = ("standard", "l2", "sqrt-l2")


@final
@dataclass(frozen=True, slots=True)
class Representation:
    """What of the backbone's output is the feature vector.

    Parameters
    ----------
    stages
        ``"last"`` or ``"all"``: whose outputs are taken.
    pool
        Over height and width: ``"mean"``, ``"max"``, both, or ``"flatten"``: not at all (last stage only).
    norm
        ``"standard"``: every feature to mean 0 and the same variance. ``"l2"``: every image's vector to length 1.
        ``"sqrt-l2"``: its square root first (Arandjelović and Zisserman 2012, RootSIFT).
    """

    stages: Literal["last", "all"] = "last"
    pool: Literal["mean", "max", "mean+max", "flatten"] = "mean"
    norm: Literal["standard", "l2", "sqrt-l2"] = "standard"

    def __post_init__(self) -> None:
        if self.stages not in ("last", "all") or self.pool not in POOLS or self.norm not in NORMS:
            raise OptionError(f"Representation: unknown {self.stages!r}, {self.pool!r} or {self.norm!r}")
        if self.pool == "flatten" and self.stages != "last":
            raise OptionError("Representation: only the last stage can be flattened")

    def __str__(self) -> str:
        return f"{self.pool} of the last stage, {self.norm}" if self.stages == "last" else f"{self.pool} of all stages, {self.norm}"

    def take(self, pooled: np.ndarray, widths: Sequence[int]) -> np.ndarray:
        """The features out of a pooled record, float32 (n, sum of 2 c), or of a flattened map (n, c, h, w): float32 (n, d)."""
        if self.pool == "flatten":
            if pooled.dtype == np.uint16:  # bfloat16: the upper half of a float32
                return (pooled.reshape(len(pooled), -1).astype(np.uint32) << 16).view(np.float32)
            return pooled.reshape(len(pooled), -1).astype(np.float32)
        parts, at = [], 0
        for i, width in enumerate(widths):
            if self.stages == "all" or i == len(widths) - 1:
                if self.pool != "max":
                    parts.append(pooled[:, at : at + width])
                if self.pool != "mean":
                    parts.append(pooled[:, at + width : at + 2 * width])
            at += 2 * width
        return np.concatenate(parts, 1)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Normaliser:
    """Rows to length one where asked, then ``(x - mean) * scale``, so that the mean squared length becomes 1."""

    norm: str
    mean: np.ndarray  # float32 (d,)
    scale: np.ndarray  # float32 (d,)

    @classmethod
    def fit(cls, features: np.ndarray, norm: str) -> Normaliser:
        """Learn mean and scale from the training features, (n, d)."""
        rows = _rows(features, norm).astype(np.float64)
        mean = rows.mean(0)
        if norm == "standard":
            spread = rows.std(0)
            # A feature that never moves says nothing; dividing by its rounding noise would make it shout.
            alive = spread > 1e-6 * max(float(np.abs(rows).max(initial=0.0)), 1e-30)
            scale = np.where(alive, 1 / np.where(alive, spread, 1), 0.0) / np.sqrt(max(int(alive.sum()), 1))
        else:
            length = np.sqrt(((rows - mean) ** 2).sum(1).mean())
            scale = np.full(rows.shape[1], 1 / length if length > 1e-12 else 0.0)
        return cls(norm, mean.astype(np.float32), scale.astype(np.float32))

    def apply(self, features: np.ndarray) -> np.ndarray:
        """float32 (n, d) to float32 (n, d)."""
        return (_rows(features, self.norm) - self.mean) * self.scale


def _rows(features: np.ndarray, norm: str) -> np.ndarray:
    x = features.astype(np.float32)
    if norm == "standard":
        return x
    if norm == "sqrt-l2":
        x = np.sign(x) * np.sqrt(np.abs(x))
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


@final
@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """Scores are ``x @ weight.T + bias``; probabilities their softmax after division by the temperature."""

    kind: str
    weight: np.ndarray  # float32 (c, d)
    bias: np.ndarray  # float32 (c,)
    temperature: float = 1.0

    def scores(self, x: np.ndarray) -> np.ndarray:
        """(n, d) to float64 (n, c)."""
        return x.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, d) to float64 (n, c), rows of which sum to 1."""
        return softmax(self.scores(x) / self.temperature)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"weight": self.weight, "bias": self.bias}


@final
@dataclass(frozen=True, slots=True, eq=False)
class NeighbourHead:
    """k nearest neighbours: the score of a class is the logarithm of its share of the votes, one vote spread over all."""

    features: np.ndarray  # float32 (m, d)
    labels: np.ndarray  # int64 (m,)
    classes: int
    k: int
    temperature: float = 1.0
    kind: str = "knn"

    def scores(self, x: np.ndarray) -> np.ndarray:
        """(n, d) to float64 (n, c)."""
        votes = np.zeros((len(x), self.classes))
        own = (self.features**2).sum(1)
        for start in range(0, len(x), 1024):
            part = x[start : start + 1024]
            distance = own[None] - 2 * part @ self.features.T
            near = np.argpartition(distance, min(self.k, len(own)) - 1, axis=1)[:, : self.k]
            for i, row in enumerate(self.labels[near]):
                np.add.at(votes[start + i], row, 1.0)
        return np.log((votes + 1 / self.classes) / (votes.sum(1, keepdims=True) + 1))

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, d) to float64 (n, c), rows of which sum to 1."""
        return softmax(self.scores(x) / self.temperature)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"features": self.features, "labels": self.labels}


Head = LinearHead | NeighbourHead


def head_from_arrays(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray], features: int, classes: int) -> Head:
    """A head from what a model folder keeps of it. Raises ModelError where shapes or values are not right."""
    kind, temperature = about.get("kind"), about.get("temperature")
    if kind not in HEADS or not isinstance(temperature, (int, float)) or not 0 < temperature < 1e6:
        raise ModelError(f"the head must be one of {', '.join(HEADS)} with a positive temperature, got {kind!r}, {temperature!r}")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ModelError("the head holds numbers that are not finite")
    if kind == "knn":
        kept, labels, k = arrays.get("features"), arrays.get("labels"), about.get("k")
        if kept is None or labels is None or kept.ndim != 2 or kept.shape[1] != features or labels.shape != (len(kept),):
            raise ModelError(f"the head must hold features (m, {features}) and labels (m,)")
        if not isinstance(k, int) or not 1 <= k <= len(kept) or labels.min() < 0 or labels.max() >= classes:
            raise ModelError(f"the head's k or labels are out of range: k {k!r}, {classes} classes")
        return NeighbourHead(kept.astype(np.float32), labels.astype(np.int64), classes, k, float(temperature))
    weight, bias = arrays.get("weight"), arrays.get("bias")
    if weight is None or bias is None or weight.shape != (classes, features) or bias.shape != (classes,):
        raise ModelError(f"the head must hold weight ({classes}, {features}) and bias ({classes},)")
    return LinearHead(kind, weight.astype(np.float32), bias.astype(np.float32), float(temperature))


def strengths(kind: str) -> tuple[float, ...]:
    """The values among which cross-validation chooses: C of logistic and svm, alpha of ridge, k of knn."""
    return {
        "logistic": (1.0, 3.0, 10.0, 30.0, 100.0, 300.0),
        "svm": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
        "ridge": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
        "centroid": (1.0,),
        "knn": (1.0, 3.0, 5.0, 9.0, 15.0),
    }[kind]


def fit_head(kind: str, x: np.ndarray, y: np.ndarray, classes: int, strength: float, *, balanced: bool = False) -> Head:
    """Fit a head on normalised features.

    Parameters
    ----------
    kind
        One of ``HEADS``.
    x, y
        float32 (n, d) and int64 (n,). Classes without images get a score that never wins.
    strength
        See ``strengths``.
    balanced
        Whether every class counts alike, however many images it has (not for knn).
    """
    if len(x) * 1.2 < x.shape[1] and kind in ("logistic", "svm", "ridge"):
        # Fewer images than features: the same inner products in n numbers an image. Penalised linear fits do not change.
        u, s, vt = np.linalg.svd(x, full_matrices=False)
        head = fit_heads(kind, (u * s).astype(np.float32), y, classes, (strength,), balanced=balanced)[0]
        if isinstance(head, LinearHead):
            return LinearHead(kind, (head.weight @ vt).astype(np.float32), head.bias)
    return fit_heads(kind, x, y, classes, (strength,), balanced=balanced)[0]


def fit_heads(
    kind: str, x: np.ndarray, y: np.ndarray, classes: int, grid: Sequence[float], *, balanced: bool = False, tolerance: float = 1e-4
) -> list[Head]:
    """A head for every strength of a grid, as ``fit_head`` makes them; each fit begins where the one before it ended."""
    if kind not in HEADS:
        raise OptionError(f"the head must be one of {', '.join(HEADS)}, got {kind!r}")
    present = np.unique(y)
    if kind == "knn":
        return [NeighbourHead(x, y, classes, int(min(k, len(x)))) for k in grid]
    if len(present) < 2:
        raise OptionError(f"fit_head: needs images of two classes or more, got {len(present)}")
    if kind == "centroid":
        centres = np.stack([x[y == c].mean(0) for c in present])
        # -|x - m|² / 2 without |x|², which is the same for every class.
        return [_spread(kind, centres, -(centres.astype(np.float64) ** 2).sum(1) / 2, present, classes) for _ in grid]
    weight = "balanced" if balanced else None
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.svm import LinearSVC

    if kind == "logistic":
        model = LogisticRegression(class_weight=weight, max_iter=1000, tol=tolerance, warm_start=True)
    elif kind == "svm":
        model = LinearSVC(class_weight=weight, dual=False, max_iter=1000, tol=tolerance)
    else:
        model = RidgeClassifier(class_weight=weight)
    heads: list[Head] = []
    for strength in grid:
        model.set_params(**{"alpha" if kind == "ridge" else "C": strength})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)
        coefficients, bias = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
        if len(coefficients) == 1:  # two classes: one score, of the second
            coefficients, bias = np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-bias, bias]) / 2
        heads.append(_spread(kind, coefficients, bias, present, classes))
    return heads


def _spread(kind: str, weight: np.ndarray, bias: np.ndarray, present: np.ndarray, classes: int) -> LinearHead:
    full = np.zeros((classes, weight.shape[1]), np.float32)
    offset = np.full(classes, float(bias.min()) - 1e3, np.float32)
    full[present], offset[present] = weight, bias
    return LinearHead(kind, full, offset)


def fit_temperature(scores: np.ndarray, y: np.ndarray) -> float:
    """The divisor of the scores that makes the log-loss of held-out images least (Guo et al. 2017, arXiv:1706.04599, section 4.2)."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        z = scores / np.exp(log_temperature)
        z = z - z.max(1, keepdims=True)
        return float((np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x))


def softmax(scores: np.ndarray) -> np.ndarray:
    """(n, c) to (n, c), rows of which sum to 1."""
    z = np.exp(scores - scores.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)
