"""Features (n, d) → scores (n, c): the new part that is grown on the backbone, where no stage is trained.

The definitions are scikit-learn's. What is found is kept as a few arrays, so that a model needs neither scikit-learn's
version nor a pickle to predict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np

from greffon.errors import ModelError, OptionError
from greffon.linear import linear_minima

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
    "principal_axes",
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
        rows = _rows(features, norm)
        mean = rows.mean(0, dtype=np.float64)
        # By parts: flattened maps are wide, and a copy of all of them in float64 would be wider.
        variance = sum(((rows[i : i + 512] - mean) ** 2).sum(0) for i in range(0, len(rows), 512)) / len(rows)
        if norm == "standard":
            spread = np.sqrt(variance)
            # A feature that never moves says nothing; dividing by its rounding noise would make it shout.
            alive = spread > 1e-6 * max(float(np.abs(rows).max(initial=0.0)), 1e-30)
            scale = np.where(alive, 1 / np.where(alive, spread, 1), 0.0) / np.sqrt(max(int(alive.sum()), 1))
        else:
            length = float(np.sqrt(np.sum(variance)))
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

    def turned_back(self, axes: np.ndarray) -> LinearHead:
        """The same head for features as they were before ``principal_axes``, which gave ``axes``, (r, d)."""
        return replace(self, weight=(self.weight.astype(np.float64) @ axes).astype(np.float32))

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
            np.add.at(votes[start : start + len(part)], (np.arange(len(part))[:, None], self.labels[near]), 1.0)
        return np.log((votes + 1 / self.classes) / (votes.sum(1, keepdims=True) + 1))

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, d) to float64 (n, c), rows of which sum to 1."""
        return softmax(self.scores(x) / self.temperature)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"features": self.features, "labels": self.labels}


Head = LinearHead | NeighbourHead


def head_from_arrays(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray], features: int, classes: int) -> Head:
    """A head from what a model folder keeps of it. Raises ModelError where types, shapes or values are not right."""
    if not isinstance(about, Mapping):
        raise ModelError(f"the head must be described by names and values, got {type(about).__name__}")
    kind: Any = about.get("kind")
    temperature: Any = about.get("temperature")
    if kind not in HEADS or type(temperature) not in (int, float) or not 0 < temperature < 1e6:
        raise ModelError(f"the head must be one of {', '.join(HEADS)} with a positive temperature, got {kind!r}, {temperature!r}")
    wanted = {"features": np.float32, "labels": np.int64} if kind == "knn" else {"weight": np.float32, "bias": np.float32}
    if {name: array.dtype for name, array in arrays.items()} != wanted:
        got = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items())
        raise ModelError(f"the head {kind} must hold {' and '.join(wanted)} of their types, got {got or 'nothing'}")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ModelError("the head holds numbers that are not finite")
    if kind == "knn":
        kept, labels = arrays["features"], arrays["labels"]
        k: Any = about.get("k")
        if kept.ndim != 2 or kept.shape[1] != features or labels.shape != (len(kept),):
            raise ModelError(f"the head must hold features (m, {features}) and labels (m,), got {kept.shape} and {labels.shape}")
        if type(k) is not int or not 1 <= k <= len(kept) or labels.min() < 0 or labels.max() >= classes:
            raise ModelError(f"the head's k or labels are out of range: k {k!r}, {classes} classes")
        return NeighbourHead(kept, labels, classes, k, float(temperature))
    weight, bias = arrays["weight"], arrays["bias"]
    if weight.shape != (classes, features) or bias.shape != (classes,):
        raise ModelError(f"the head must hold weight ({classes}, {features}) and bias ({classes},), got {weight.shape} and {bias.shape}")
    return LinearHead(kind, weight, bias, float(temperature))


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
    if kind in ("logistic", "svm") or (kind == "ridge" and len(x) < x.shape[1]):
        turned, axes = principal_axes(x)
        head = fit_heads(kind, turned, y, classes, (strength,), balanced=balanced)[0]
        if isinstance(head, LinearHead):
            return head.turned_back(axes)
    return fit_heads(kind, x, y, classes, (strength,), balanced=balanced)[0]


def principal_axes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features turned to their principal axes (of the second moment about 0), the strongest first.

    Distances and inner products stay, so penalised linear fits stay the same, but there are never more features than
    images, and the fits take some five times fewer steps.

    Parameters
    ----------
    x
        float32 (n, d).

    Returns
    -------
    float32 (n, r) and float64 (r, d), whose product is ``x``. r is at most the smaller of n and d; directions in
    which nothing but rounding lies are left out.
    """
    exact = x.astype(np.float64)
    wide = x.shape[1] > len(x)
    values, vectors = np.linalg.eigh(exact @ exact.T if wide else exact.T @ exact)
    kept = np.flatnonzero(values > 1e-12 * max(float(values[-1]), 1e-300))[::-1]
    if not len(kept):
        return np.zeros((len(x), 1), np.float32), np.zeros((1, x.shape[1]))
    length, vectors = np.sqrt(values[kept]), vectors[:, kept]
    axes = (vectors / length).T @ exact if wide else vectors.T
    return (vectors * length if wide else exact @ vectors).astype(np.float32), axes


def fit_heads(
    kind: str, x: np.ndarray, y: np.ndarray, classes: int, grid: Sequence[float], *, balanced: bool = False, tolerance: float = 1e-6
) -> list[Head]:
    """A head for every strength of a grid, as ``fit_head`` makes them.

    ``tolerance`` is of logistic and svm: the largest component of the gradient of the mean loss, in units in which its
    curvature is near 1; one below 1e-5 is computed in float64. Raises OptionError for an unknown kind, a strength that
    is not positive, or fewer than two classes with images.
    """
    if kind not in HEADS:
        raise OptionError(f"the head must be one of {', '.join(HEADS)}, got {kind!r}")
    least = 1 if kind == "knn" else 0
    if not all(np.isfinite(strength) and strength > 0 and strength >= least for strength in grid):
        raise OptionError(f"the strength of {kind} must be {'at least 1' if least else 'a positive number'}, got {list(grid)}")
    present = np.unique(y)
    if len(present) < 2:
        raise OptionError(f"fit_head: needs images of two classes or more, got {len(present)}")
    if kind == "knn":
        return [NeighbourHead(x, y, classes, int(min(k, len(x)))) for k in grid]
    if kind == "centroid":
        centres = np.stack([x[y == c].mean(0) for c in present])
        # -|x - m|² / 2 without |x|², which is the same for every class.
        return [_spread(kind, centres, -(centres.astype(np.float64) ** 2).sum(1) / 2, present, classes) for _ in grid]
    if kind in ("logistic", "svm"):
        found = linear_minima(kind, x, y, grid, balanced, tolerance)
        return [_spread(kind, one[:, :-1], one[:, -1], present, classes) for one in found]
    from sklearn.linear_model import RidgeClassifier

    heads: list[Head] = []
    for strength in grid:
        model = RidgeClassifier(alpha=strength, class_weight="balanced" if balanced else None).fit(x, y)
        coefficients, bias = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
        if len(coefficients) == 1:  # two classes: one score, of the second
            coefficients, bias = np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-bias, bias]) / 2
        heads.append(_spread(kind, coefficients, bias, present, classes))
    return heads


def _spread(kind: str, weight: np.ndarray, bias: np.ndarray, present: np.ndarray, classes: int) -> LinearHead:
    full = np.zeros((classes, weight.shape[1]), np.float32)
    offset = np.full(classes, float(bias.min()) - 1e6, np.float32)
    full[present], offset[present] = weight, bias
    return LinearHead(kind, full, offset)


def fit_temperature(scores: np.ndarray, y: np.ndarray) -> float:
    """The divisor of the scores that makes the log-loss of held-out images least (Guo et al. 2017, arXiv:1706.04599, section 4.2).

    As in Platt (1999), one more image is thought of, whose class is as likely any: n images that are all right do not
    prove that the next one is. Images whose own class scores -inf, as none was learned from, say nothing here.

    Parameters
    ----------
    scores
        (n, c).
    y
        int64 (n,).
    """
    from scipy.optimize import minimize_scalar

    kept = np.flatnonzero(np.isfinite(scores[np.arange(len(y)), y]))
    if not len(kept):
        return 1.0
    scores, y = scores[kept], y[kept]
    finite = np.isfinite(scores)
    doubt = 1 / (len(y) + 1)

    def loss(log_temperature: float) -> float:
        z = scores / np.exp(log_temperature)
        z = z - z.max(1, keepdims=True)
        total = np.log(np.exp(z).sum(1))
        own = total - z[np.arange(len(y)), y]
        any_class = total - np.where(finite, z, 0).sum(1) / finite.sum(1)
        return float(((1 - doubt) * own + doubt * any_class).mean())

    best: Any = minimize_scalar(loss, bounds=(-4, 4), method="bounded")
    return float(np.exp(best.x))


def softmax(scores: np.ndarray) -> np.ndarray:
    """(n, c) to (n, c), rows of which sum to 1."""
    z = np.exp(scores - scores.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)
