"""Arrays → figures, with intervals. No torch here."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

__all__ = [
    "auroc",
    "calibration_error",
    "calibration_error_by_chance",
    "confusion",
    "log_loss",
    "mcnemar",
    "paired_difference",
    "per_class",
    "reliability",
    "top_k_accuracy",
    "wilson_interval",
]


def wilson_interval(right: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a proportion, after Wilson (1927), J. Am. Stat. Assoc. 22, 209-212.

    Unlike the normal approximation it stays within [0, 1] and is honest for few images. (0, 1) where n is 0.
    ``right`` may be a fraction: the mean of several counts.
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


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """The exact p-value of McNemar's test, two-sided: whether two are right equally often on the same images.

    McNemar (1947), Psychometrika 12, 153-157, with the binomial distribution: of the images on which just one of the two is right, each
    is right on half, if they are equally good. 1 where there is no such image.

    Parameters
    ----------
    first, second
        Bool or 0 and 1, (n,): whether each of the two was right on each image.
    """
    from scipy.stats import binomtest

    mine = int(np.sum((first != 0) & (second == 0)))
    theirs = int(np.sum((first == 0) & (second != 0)))
    return float(binomtest(mine, mine + theirs).pvalue) if mine + theirs else 1.0


def auroc(low: np.ndarray, high: np.ndarray, confidence: float = 0.95) -> tuple[float, tuple[float, float]]:
    """How often a score of ``high`` is above one of ``low``, equal ones counted half; with its interval.

    The area under the ROC curve with the variance of DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44, 837-845, on the logit
    scale. Where that variance is 0, as when no two are in the wrong order, the interval is Wilson's for as many images as the smaller
    of the two sets has.

    Parameters
    ----------
    low, high
        Float (m,) and (n,), each at least one.
    """
    below, above = np.sort(low), np.sort(high)
    # Of each score, the share of the others' that it is on the right side of.
    of_high = (np.searchsorted(below, high, "left") + np.searchsorted(below, high, "right")) / (2 * len(low))
    of_low = 1 - (np.searchsorted(above, low, "left") + np.searchsorted(above, low, "right")) / (2 * len(high))
    area, fewer = float(of_high.mean()), min(len(low), len(high))
    variance = sum(float(one.var(ddof=1)) / len(one) for one in (of_low, of_high)) if fewer > 1 else 0.0
    if not 0 < area < 1 or variance <= 0:
        return area, wilson_interval(round(area * fewer), fewer, confidence)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle, half = math.log(area / (1 - area)), z * math.sqrt(variance) / (area * (1 - area))
    return area, (1 / (1 + math.exp(min(half - middle, 700.0))), 1 / (1 + math.exp(max(-half - middle, -700.0))))


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


def calibration_error_by_chance(probabilities: np.ndarray, bins: int = 15, draws: int = 200, seed: int = 0) -> float:
    """What ``calibration_error`` would be in the mean if every image were named rightly with just the probability that is told.

    It is never 0, because a few images are not right in just the share that they should be: some 0.07 for 150 images, 0.03 for 1,000. An
    error near it says nothing against the model.

    Parameters
    ----------
    probabilities
        float64 (n, c), n at least 1.
    draws, seed
        So many times it is drawn which images are right.
    """
    confidence = probabilities.max(1)
    which = np.clip(np.searchsorted(np.arange(1, bins + 1) / bins, confidence, side="left"), 0, bins - 1)
    rng, total = np.random.default_rng(seed), 0.0
    for _ in range(draws):
        right = rng.random(len(confidence)) < confidence
        total += float(np.abs(np.bincount(which, weights=confidence - right, minlength=bins)).sum()) / len(confidence)
    return total / draws
