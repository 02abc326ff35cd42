"""Heads and centres of features that do not fit in memory: the same minima, from chunks that are read again in every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from greffon.errors import OptionError
from greffon.heads import LinearHead, Normaliser

__all__ = ["Chunks", "nearest_centres", "refined_centres", "streamed_centres", "streamed_logistic", "streamed_normaliser"]

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


def streamed_centres(chunks: Chunks, k: int, *, seed: int = 0, passes: int = 50) -> np.ndarray:
    """Centres of k-means, float64 (k, d): scikit-learn's ``MiniBatchKMeans`` (Sculley 2010) over one pass finds where to begin, and
    ``refined_centres`` goes on from there over all rows. Raises OptionError where there are fewer rows than ``k``.
    """
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(k, random_state=seed, n_init=5)  # type: ignore[arg-type]  # a number, or "auto"
    few = np.zeros((0, 0), np.float32)
    for x, _ in chunks():
        few = x if not len(few) else np.concatenate([few, x])  # as many as a first draw of centres wants
        if len(few) >= 20 * k:
            model.partial_fit(few)
            few = few[:0]
    if not hasattr(model, "cluster_centers_"):
        if len(few) < k:
            raise OptionError(f"streamed_centres: there must be {k} rows or more, got {len(few)}")
        model.partial_fit(few)
    return refined_centres(chunks, np.asarray(model.cluster_centers_, np.float64), passes=passes)


def refined_centres(chunks: Chunks, centres: np.ndarray, *, spherical: bool = False, passes: int = 50) -> np.ndarray:
    """Lloyd's rounds of k-means over all rows, from these centres, until the fit no longer grows: float64 (k, d).

    The same minimum as in memory from the same start, as every round sees every row. A centre that nothing is nearest to stays.

    Parameters
    ----------
    centres
        (k, d).
    spherical
        Rows and centres have length 1, and likeness is the cosine (Dhillon and Modha 2001).
    passes
        Over the chunks, at most.
    """
    centres, before = np.asarray(centres, np.float64), -np.inf
    for _ in range(passes):
        sums, counts, fit, rows = np.zeros_like(centres), np.zeros(len(centres), np.int64), 0.0, 0
        for x, _ in chunks():
            labels, likeness = nearest_centres(x, centres)
            fit, rows = fit + float(likeness.sum()), rows + len(x)
            counts += np.bincount(labels, minlength=len(centres))
            np.add.at(sums, labels, x)
        if fit <= before + 1e-7 * abs(fit):
            break
        before, alive = fit, counts > 0
        found = sums[alive] / counts[alive, None]
        centres = centres.copy()
        centres[alive] = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12) if spherical else found
    return centres


def nearest_centres(x: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which centre is the nearest to each row, int64 (m,), and minus half the squared distance to it, float64 (m,)."""
    half = (centres**2).sum(1) / 2
    likeness = x.astype(np.float64) @ centres.T - half
    labels = likeness.argmax(1)
    return labels, likeness[np.arange(len(x)), labels] - (x.astype(np.float64) ** 2).sum(1) / 2
