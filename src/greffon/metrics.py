"""Arrays → figures, with intervals. No torch here."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

__all__ = [
    "calibration_error",
    "confusion",
    "log_loss",
    "paired_difference",
    "per_class",
    "reliability",
    "top_k_accuracy",
    "wilson_interval",
]


def wilson_interval(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a proportion, after Wilson (1927), J. Am. Stat. Assoc. 22, 209-212.

    Unlike the normal approximation it stays within [0, 1] and is honest for few images. (0, 1) where n is 0.
    """
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # With none or all right the ends are 0 and 1 exactly, which the arithmetic misses by a rounding.
    return (0.0 if right == 0 else middle - half), (1.0 if right == n else middle + half)


def paired_difference(
    first: np.ndarray, second: np.ndarray, confidence: float = 0.95
) -> tuple[float, tuple[float, float]]:
    """The first's accuracy minus the second's on the same images, with its interval.

    The interval is the score interval of Tango (1998), Statistics in Medicine 17, 891-908: the differences that the
    score test does not reject. It is to a difference what Wilson's is to a proportion: honest for few images, and
    never empty, even where the two agree on every image. 0 lies outside just where McNemar's test (without continuity
    correction) finds a difference.

    Parameters
    ----------
    first, second
        Bool or 0 and 1, (n,): whether each of the two was right on each image. n of 0 says nothing: 0 within (-1, 1).
    """
    n = len(first)
    if n == 0:
        return 0.0, (-1.0, 1.0)
    mine = int(np.sum((first != 0) & (second == 0)))
    theirs = int(np.sum((first == 0) & (second != 0)))
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return (mine - theirs) / n, (-_tango_limit(theirs, mine, n, z), _tango_limit(mine, theirs, n, z))


def _tango_limit(mine: int, theirs: int, n: int, z: float) -> float:
    """The largest difference that is not rejected; by bisection, to the last bits."""
    low, high = (mine - theirs) / n, 1.0
    for _ in range(60):
        delta = (low + high) / 2
        # The most likely share of images on which the second alone is right, if the true difference were delta.
        b = (2 * n - mine + theirs) * delta - mine - theirs
        c = -theirs * delta * (1 - delta)
        share = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * share + delta * (1 - delta))
        if (mine - theirs - n * delta) ** 2 <= z * z * variance:
            low = delta
        else:
            high = delta
    return low


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 (classes, classes): row, the true class; column, the predicted one."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (truth, predicted), 1)
    return table


def per_class(table: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and count of each class, (c,) each, from a confusion matrix.

    Precision of a class that was never predicted, and recall of one without images, are not defined: NaN.
    """
    right = np.diag(table).astype(np.float64)
    count, predicted = table.sum(1), table.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = right / predicted, right / count
        f1 = 2 * right / (count + predicted)
    return {"precision": precision, "recall": recall, "f1": f1, "count": count}


def top_k_accuracy(truth: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    """The share of images whose true class is among the k most probable. ``probabilities``: (n, c)."""
    best = np.argpartition(-probabilities, k - 1, axis=1)[:, :k]
    return float((best == truth[:, None]).any(1).mean())


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -ln p(true class), in nats; probabilities below 1e-15 count as that."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-15)).mean())


def reliability(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> list[tuple[int, float, float]]:
    """Of every bin that has images: their number, mean confidence and accuracy; bins of equal width, each closed above.

    What a reliability diagram shows: DeGroot and Fienberg (1983), The Statistician 32, 12-22.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == truth
    # Against the edges themselves: confidence * bins may be a rounding above a whole number.
    which = np.clip(np.searchsorted(np.arange(1, bins + 1) / bins, confidence, side="left"), 0, bins - 1)
    return [
        (int(here.sum()), float(confidence[here].mean()), float(right[here].mean()))
        for here in (which == b for b in range(bins))
        if here.any()
    ]


def calibration_error(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: Guo et al. (2017), arXiv:1706.04599, equation 3.

    The mean over images of |confidence - accuracy| of the image's bin; see ``reliability``.
    """
    return sum(count / len(truth) * abs(sure - right) for count, sure, right in reliability(truth, probabilities, bins))
