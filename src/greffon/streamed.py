"""Heads and centres of features that do not fit in memory: the same minima, from chunks that are read again in every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from greffon.errors import OptionError
from greffon.heads import LinearHead, Normaliser

__all__ = ["Chunks", "streamed_centres", "streamed_logistic", "streamed_normaliser"]

#: Gives all chunks anew, every time that it is called: features float32 (m, d), and int64 (m,) classes, -1 where not known.
Chunks = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]


def streamed_normaliser(chunks: Chunks) -> Normaliser:
    """``Normaliser.fit(features, "standard")`` in one pass, the variances joined chunk by chunk (Chan, Golub and LeVeque 1983)."""
    count, mean, squares, largest = 0, np.zeros(0), np.zeros(0), 1e-30
    for x, _ in chunks():
        if not len(x):
            continue
        own = x.mean(0, dtype=np.float64)
        spread = ((x - own) ** 2).sum(0)
        largest = max(largest, float(np.abs(x).max()))
        if not count:
            count, mean, squares = len(x), own, spread
            continue
        both = count + len(x)
        squares = squares + spread + (own - mean) ** 2 * (count * len(x) / both)
        mean = mean + (own - mean) * (len(x) / both)
        count = both
    if not count:
        raise OptionError("streamed_normaliser: there are no features")
    deviation = np.sqrt(squares / count)
    alive = deviation > 1e-6 * largest
    scale = np.where(alive, 1 / np.where(alive, deviation, 1), 0.0) / np.sqrt(max(int(alive.sum()), 1))
    return Normaliser("standard", mean.astype(np.float32), scale.astype(np.float32))


def streamed_logistic(
    chunks: Chunks, classes: int, strength: float, *, balanced: bool = False, tolerance: float = 1e-6, passes: int = 300
) -> LinearHead:
    """``heads.fit_head("logistic", ...)`` of features that are read from chunks: the same minimum, by L-BFGS over all of them.

    Not an average of steps on samples, so there is no rate to choose: every value and gradient is that of all rows. Before it,
    one pass counts the classes and one takes the second moments, on whose axes the curvature is near 1.

    Parameters
    ----------
    chunks
        Normalised features. Rows whose class is not known are passed over.
    strength, balanced
        See ``fit_head``.
    tolerance
        The largest component of the gradient.
    passes
        Over the chunks, at most.

    Raises
    ------
    OptionError
        A strength that is not positive, or fewer than two classes with rows.
    """
    from scipy.optimize import minimize

    if not (np.isfinite(strength) and strength > 0):
        raise OptionError(f"the strength of logistic must be a positive number, got {strength}")
    counts = np.zeros(classes, np.int64)
    for _, y in chunks():
        counts += np.bincount(y[y >= 0], minlength=classes)
    present = np.flatnonzero(counts)
    n, c = int(counts.sum()), len(present)
    if c < 2:
        raise OptionError(f"streamed_logistic: needs rows of two classes or more, got {c}")
    weight = np.zeros(classes)
    weight[present] = 1 / (c * counts[present]) if balanced else 1 / n
    place = np.full(classes, -1)
    place[present] = np.arange(c)
    moments = None
    for x, y in _known(chunks):
        weighted = (x.T.astype(np.float64) * weight[y]) @ x
        moments = weighted if moments is None else moments + weighted
    assert moments is not None
    values, axes = np.linalg.eigh(moments)
    # Of two classes LogisticRegression has one vector: the difference of the two here.
    penalty = np.append(np.full(len(values), 2.0 if c == 2 else 1.0), 0.0) / (n * strength)
    unit = 1 / np.sqrt(np.append(np.maximum(values, 0), 1.0) / c + penalty)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(c, -1) * unit
        turned = (w[:, :-1] @ axes.T).astype(np.float32)
        value, slope, last = 0.0, np.zeros((c, len(values))), np.zeros(c)
        for x, y in _known(chunks):
            z = (x @ turned.T).astype(np.float64) + w[:, -1]
            z -= z.max(1, keepdims=True)
            e = np.exp(z)
            total = e.sum(1)
            rows, own, each = np.arange(len(x)), place[y], weight[y]
            value += float((each * (np.log(total) - z[rows, own])).sum())
            error = e / total[:, None]
            error[rows, own] -= 1
            error *= each[:, None]
            slope += error.T.astype(np.float32) @ x
            last += error.sum(0)
        pull = penalty * w
        gradient = np.concatenate([slope @ axes, last[:, None]], 1) + pull
        return value + float((pull * w).sum()) / 2, (gradient * unit).ravel()

    end: Any = minimize(loss, np.zeros(c * (len(values) + 1)), method="L-BFGS-B", jac=True,
                        options={"maxfun": passes, "maxiter": passes, "gtol": tolerance, "ftol": 0.0})  # fmt: skip
    found = end.x.reshape(c, -1) * unit
    whole = np.zeros((classes, len(values)), np.float32)
    bias = np.full(classes, float(found[:, -1].min()) - 1e6, np.float32)  # a class without rows never wins
    whole[present], bias[present] = found[:, :-1] @ axes.T, found[:, -1]
    return LinearHead("logistic", whole, bias)


def _known(chunks: Chunks) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """The rows whose class is known."""
    for x, y in chunks():
        good = y >= 0
        if good.all():
            yield x, y
        elif good.any():
            yield x[good], y[good]


def streamed_centres(chunks: Chunks, k: int, *, seed: int = 0, passes: int = 3) -> np.ndarray:
    """Centres of k-means, float64 (k, d), by scikit-learn's ``MiniBatchKMeans`` (Sculley 2010) over some passes.

    Raises OptionError where the first chunk has fewer rows than ``k``.
    """
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(k, random_state=seed, n_init=3)  # type: ignore[arg-type]  # a number, or "auto"
    for _ in range(passes):
        for x, _ in chunks():
            if len(x) < k and not hasattr(model, "cluster_centers_"):
                raise OptionError(f"streamed_centres: the first chunk must have {k} rows or more, got {len(x)}")
            model.partial_fit(x)
    return np.asarray(model.cluster_centers_, np.float64)
