"""Accuracy against the number of training images: would more photos help?

Heads are fitted on parts of the images, again and again, from stored features, so it costs seconds. The curve that is laid through the
errors is a + b n^-c: Cortes, Jackel, Solla, Vapnik and Denker (1994), Learning Curves: Asymptotic Values and Rate of Convergence, NIPS 6.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from threadpoolctl import threadpool_limits

from greffon.datasets import folds
from greffon.errors import DataError
from greffon.heads import Normaliser, fit_heads, principal_axes
from greffon.metrics import wilson_interval
from greffon.progress import Progress
from greffon.settings import processors

__all__ = ["Growth", "GrowthPoint", "PowerLaw", "fit_power_law", "measure_growth", "training_sizes"]

#: Accuracy that is worth taking photos for, and what is not: shares.
_WORTH, _HARDLY = 0.005, 0.01
#: So many draws of images and repeats give the interval of what is foretold.
_DRAWS = 200


@final
@dataclass(frozen=True, slots=True)
class GrowthPoint:
    """The accuracy of heads that were fitted on so many images; the interval of 95 % is of images and of draws."""

    images: int
    accuracy: float
    interval: tuple[float, float]


@final
@dataclass(frozen=True, slots=True)
class PowerLaw:
    """An error of ``floor + scale * images ** -rate``."""

    floor: float
    scale: float
    rate: float

    def error(self, images: float) -> float:
        """The error with so many training images."""
        return self.floor + self.scale * images**-self.rate


@final
@dataclass(frozen=True, slots=True)
class Growth:
    """The curve, and what it foretells.

    Parameters
    ----------
    points
        From the fewest images to the most, which are those of one part of a cross-validation less.
    images, repeats, folds
        How many images there are; how often they were dealt into so many folds.
    law
        None where there are too few sizes to lay a curve through.
    now, doubled, gain, gain_interval
        The accuracy that the curve foretells for as many training images as there are, and for twice as many; the difference with its
        interval of 95 %, which knows of images and draws, and not of whether the curve goes on as it has.
    foretold
        The accuracy with the most images, as the curve through the other points would have it: how far it is from the last point says
        what such a prophecy is worth. None where there are too few sizes.
    """

    points: tuple[GrowthPoint, ...]
    images: int
    repeats: int
    folds: int
    law: PowerLaw | None
    now: float | None
    doubled: float | None
    gain: float | None
    gain_interval: tuple[float, float] | None
    foretold: float | None

    @property
    def verdict(self) -> str:
        """Whether twice as many photos would help: ``"yes"``, ``"hardly"`` or ``"unsure"``."""
        if self.gain_interval is None:
            return "unsure"
        low, high = self.gain_interval
        return "hardly" if high < _HARDLY else "yes" if low > _WORTH else "unsure"

    @property
    def sentence(self) -> str:
        """The verdict in words, with its figures."""
        if self.gain is None or self.gain_interval is None or self.now is None:
            return f"{self.images} photos are too few to say whether more would help."
        low, high = (100 * end for end in self.gain_interval)
        sure = f"{100 * self.gain:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}) if the curve goes on as it has"
        words = {"yes": "would help", "hardly": "would hardly help", "unsure": "may or may not help"}[self.verdict]
        text = f"Twice as many photos ({2 * self.images:,} instead of {self.images:,}) {words}: {sure}."
        if self.foretold is not None:
            text += (f" From fewer photos alone it would have foretold {100 * self.foretold:.1f} % for {self.points[-1].images:,},"
                     f" where {100 * self.points[-1].accuracy:.1f} % was found.")  # fmt: skip
        return text

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "images": self.images,
            "repeats": self.repeats,
            "folds": self.folds,
            "points": [asdict(one) | {"interval": list(one.interval)} for one in self.points],
            "law": None if self.law is None else asdict(self.law),
            "now": self.now,
            "doubled": self.doubled,
            "gain": self.gain,
            "gain_interval": None if self.gain_interval is None else list(self.gain_interval),
            "foretold": self.foretold,
            "verdict": self.verdict,
            "sentence": self.sentence,
        }


def measure_growth(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    groups: np.ndarray,
    *,
    head: str,
    strength: float,
    norm: str,
    balanced: bool = False,
    k: int = 5,
    repeats: int = 4,
    seed: int = 0,
    progress: Progress,
) -> Growth:
    """Fit heads on parts of the images, of every size, and see what they say of images that they have not seen.

    Every repeat deals the images into folds anew. Of the images outside a fold ever smaller parts are drawn, each within the next larger
    one and with its share of every class, and each fits a head that names the images of the fold. Features are normalised on all images
    (no labels are used).

    Parameters
    ----------
    features
        float32 (n, d), not normalised.
    labels, groups
        int64 (n,). Near-duplicates stay in one fold.
    head, strength, norm, balanced
        The recipe, the same for every size: see ``heads.fit_head`` and ``heads.Normaliser``.
    k, repeats
        Folds, fewer where a class has not an image for each; and how often they are drawn.

    Raises
    ------
    DataError
        A class with fewer than two different images, or one class alone.
    """
    different = [len(np.unique(groups[labels == c])) for c in range(classes) if (labels == c).any()]
    if len(different) < 2 or min(different) < 2:
        raise DataError("a learning curve needs two classes or more, and two different images of each,"
                        f" got {len(different)} classes, and {min(different, default=0)} images of one")  # fmt: skip
    k = min(k, *different)
    x = Normaliser.fit(features, norm).apply(features)
    if head in ("logistic", "svm") or x.shape[1] > len(x):
        x, _ = principal_axes(x)
    every = [folds(labels, groups, k, seed + 1000 * r) for r in range(repeats)]
    sizes = training_sizes(min(len(train) for parts in every for train, _ in parts), len(different))
    right = np.zeros((repeats, len(sizes), len(labels)), bool)

    def one_fold(repeat: int, number: int, train: np.ndarray, test: np.ndarray) -> None:
        order = _nested(labels[train], seed + 1000 * repeat + number)
        for j, size in enumerate(sizes):
            some = train[order[:size]]
            fitted = fit_heads(head, x[some], labels[some], classes, (strength,), balanced=balanced, tolerance=1e-4)[0]
            right[repeat, j, test] = fitted.scores(x[test]).argmax(1) == labels[test]

    progress.begin("Learning from parts of the photos", repeats * k)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(8, processors())) as pool:
        waiting = [pool.submit(one_fold, r, i, *part) for r, parts in enumerate(every) for i, part in enumerate(parts)]
        for done in waiting:
            done.result()
            progress.advance()
    progress.end()
    return _foretell(sizes, right, groups, k, seed)


def training_sizes(most: int, classes: int) -> tuple[int, ...]:
    """Halves of halves of ``most``, down to two images a class or a sixty-fourth: ascending, at least one."""
    sizes = [most >> i for i in range(7)]
    return tuple(sorted({size for size in sizes if size >= 2 * classes} or {most}))


def _nested(labels: np.ndarray, seed: int) -> np.ndarray:
    """An order in which every beginning has its share of every class, and an image of each as soon as there are as many as classes."""
    order = np.random.default_rng(seed).permutation(len(labels))
    place = np.zeros(len(labels))
    for c in np.unique(labels):
        own = order[labels[order] == c]
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
        place[own[0]] = -1.0
    return order[np.argsort(place[order], kind="stable")]


def _foretell(sizes: tuple[int, ...], right: np.ndarray, groups: np.ndarray, k: int, seed: int) -> Growth:
    """The points with their intervals, and the curve through them; ``right``: bool (repeats, sizes, n)."""
    repeats, _, n = right.shape
    accuracy = right.mean((0, 2))
    points = tuple(GrowthPoint(size, float(accuracy[j]), _interval(right[:, j])) for j, size in enumerate(sizes))
    weights = np.array([1 / max((point.interval[1] - point.interval[0]) / 4, 1e-4) for point in points])
    law = now = doubled = gain = interval = foretold = None
    if len(sizes) >= 4:
        law = fit_power_law(sizes, 1 - accuracy, weights)
        now, doubled = 1 - law.error(n), 1 - law.error(2 * n)
        gain, interval = doubled - now, _gains(sizes, right, groups, weights, n, seed)
        interval = (min(interval[0], gain), max(interval[1], gain))
    if len(sizes) >= 5:
        foretold = 1 - fit_power_law(sizes[:-1], 1 - accuracy[:-1], weights[:-1]).error(sizes[-1])
    return Growth(points, n, repeats, k, law, now, doubled, gain, interval, foretold)


def _interval(right: np.ndarray) -> tuple[float, float]:
    """Of a mean over repeats and images, bool (r, n): Wilson's, for as many independent images as have its variance.

    The variances of the means over images and over repeats are added, which is a little too much: Owen and Eckles (2012),
    Bootstrapping data arrays of arbitrary order, Annals of Applied Statistics 6, 895-927.
    """
    repeats, n = right.shape
    share = float(right.mean())
    by_image = float(right.mean(0).var()) / n
    by_repeat = float(right.mean(1).var(ddof=1)) / repeats if repeats > 1 else 0.0
    variance = by_image + by_repeat
    # The mean over repeats is surer than one of them only in what is drawn: never more than the images are.
    alike = min(n, max(1, round(share * (1 - share) / variance))) if variance > 0 else n
    return wilson_interval(share * alike, alike)


def _gains(
    sizes: tuple[int, ...], right: np.ndarray, groups: np.ndarray, weights: np.ndarray, n: int, seed: int
) -> tuple[float, float]:
    """The middle 95 % of what is gained by twice as many images, over draws of images (near-duplicates together) and of repeats."""
    rng = np.random.default_rng(seed)
    _, group = np.unique(groups, return_inverse=True)
    members = int(group.max()) + 1
    found = []
    for _ in range(_DRAWS):
        times = np.bincount(rng.integers(0, members, members), minlength=members)[group].astype(np.float64)
        repeats = rng.integers(0, len(right), len(right))
        error = 1 - right[repeats].mean(0) @ (times / times.sum())
        law = fit_power_law(sizes, error, weights)
        found.append(law.error(n) - law.error(2 * n))
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def fit_power_law(sizes: tuple[int, ...], errors: np.ndarray, weights: np.ndarray) -> PowerLaw:
    """The curve of the least weighted squares with floor and scale at least 0, and a rate from 0.05 to 2.

    For each rate of a fine grid the other two are found exactly (non-negative least squares), then the rate between the best ones.

    Parameters
    ----------
    sizes, errors, weights
        Of k points; weights are 1 / standard error.
    """
    from scipy.optimize import minimize_scalar, nnls

    n, e, w = np.asarray(sizes, np.float64), np.asarray(errors, np.float64), np.asarray(weights, np.float64)

    def best(rate: float) -> tuple[np.ndarray, float]:
        found, rest = nnls(w[:, None] * np.stack([np.ones(len(n)), (n / n[-1]) ** -rate], 1), w * e)
        return found, float(rest)

    grid = np.geomspace(0.05, 2.0, 16)
    rests = [best(float(rate))[1] for rate in grid]
    at = int(np.argmin(rests))
    low, high = grid[max(0, at - 1)], grid[min(len(grid) - 1, at + 1)]
    between: Any = minimize_scalar(lambda rate: best(float(rate))[1], bounds=(float(low), float(high)), method="bounded")
    rate = float(between.x) if between.fun < rests[at] else float(grid[at])
    floor, scale = best(rate)[0]
    return PowerLaw(float(floor), float(scale * n[-1] ** rate), rate)
