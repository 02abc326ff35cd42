"""With the cut above the last stage: a linear probe and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from threadpoolctl import threadpool_limits

from greffon.datasets import folds, sample_by_class
from greffon.errors import OptionError
from greffon.heads import (
    HEADS,
    NORMS,
    POOLS,
    Head,
    LinearHead,
    Normaliser,
    Representation,
    fit_head,
    fit_heads,
    fit_temperature,
    principal_axes,
    softmax,
    strengths,
)
from greffon.metrics import log_loss
from greffon.progress import Progress
from greffon.settings import processors

__all__ = ["CANDIDATES", "Probe", "Trial", "cross_validate", "fit_probe", "representations", "should_balance"]

#: What cross-validation chooses from, unless the user has chosen. On photos of things the last stage alone is best,
#: on textures and litter all stages together are.
CANDIDATES = (
    Representation("last", "mean", "l2"),
    Representation("last", "mean", "sqrt-l2"),
    Representation("last", "mean+max", "l2"),
    Representation("last", "mean+max", "standard"),
    Representation("all", "mean", "standard"),
    Representation("all", "mean+max", "standard"),
)


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """One thing that was tried: out-of-fold accuracy (balanced, where the classes were) and log-loss in nats."""

    representation: Representation
    strength: float
    accuracy: float
    log_loss: float
    folds: int


@final
@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A fitted head with the features it reads.

    ``asked`` and ``held_out``: the images that it was chosen on, int64 (k,), and what heads that were fitted without them say of
    them, float64 (k, c); a class that a fold could not learn has 0 there.
    """

    representation: Representation
    normaliser: Normaliser
    head: Head
    strength: float
    balanced: bool
    trials: tuple[Trial, ...]
    asked: np.ndarray
    held_out: np.ndarray

    def probabilities(self, pooled: np.ndarray, widths: Sequence[int]) -> np.ndarray:
        """Records of the frozen part, (n, ...), to float64 (n, c)."""
        return self.head.probabilities(self.normaliser.apply(self.representation.take(pooled, widths)))


def representations(pool: str, stages: str, norm: str) -> tuple[Representation, ...]:
    """The candidates that fit what the user has fixed; or the one that is fixed wholly. Raises OptionError."""
    for value, known, name in ((pool, POOLS, "pool"), (stages, ("last", "all"), "stages"), (norm, NORMS, "norm")):
        if value not in ("auto", *known):
            raise OptionError(f"{name} must be auto or one of {', '.join(known)}, got {value!r}")
    pools = POOLS[:3] if pool == "auto" else (pool,)
    wheres = ("last", "all") if stages == "auto" and pool != "flatten" else ("last" if stages == "auto" else stages,)
    norms = NORMS if norm == "auto" else (norm,)
    if pool == stages == norm == "auto":
        return CANDIDATES
    every = [Representation(s, p, n) for s in wheres for p in pools for n in norms]  # type: ignore[arg-type]  # checked above
    # Lengths of vectors that join all stages are ruled by the widest of them: not tried unless asked for.
    return tuple(r for r in every if norm != "auto" or r.stages == "last" or r.norm == "standard")


def should_balance(y: np.ndarray) -> bool:
    """Whether the largest class has at least twice the images of the smallest."""
    _, counts = np.unique(y, return_counts=True)
    return bool(counts.max() >= 2 * counts.min())


def fit_probe(
    pooled: np.ndarray,
    widths: Sequence[int],
    y: np.ndarray,
    classes: int,
    *,
    groups: np.ndarray | None = None,
    head: str = "logistic",
    representations: Sequence[Representation] = CANDIDATES,
    strength: float | None = None,
    balanced: bool | None = None,
    seed: int = 0,
    progress: Progress,
    most: int = 4000,
) -> Probe:
    """Choose representation and strength by cross-validation, and fit the head on all images given.

    First every representation is tried at a middling strength on three folds; then the two best at every strength
    on five. The temperature is fitted on the scores of the images out of fold.

    Parameters
    ----------
    pooled
        Records of the frozen part of the training images.
    widths
        The channels of each stage.
    y
        int64 (n,).
    classes
        How many there are.
    groups
        int64 (n,): near-duplicates stay in one fold.
    head
        One of ``heads.HEADS``.
    representations, strength, balanced
        What to choose from; fixed where one is given. ``balanced=None``: see ``should_balance``.
    most
        The choice is made on at most this many images, drawn by class; the head is fitted on all of them.

    Raises
    ------
    OptionError
        Fewer than two classes with images, no representation, or a strength that the head cannot have.
    """
    if head not in HEADS:
        raise OptionError(f"the head must be one of {', '.join(HEADS)}, got {head!r}")
    if len(np.unique(y)) < 2:
        raise OptionError("a classifier needs images of at least two classes")
    if not representations:
        raise OptionError("fit_probe: needs one representation or more, got none")
    even = should_balance(y) if balanced is None else balanced
    group = np.arange(len(y)) if groups is None else groups
    some = _sample(y, most, seed)
    grid = (strength,) if strength is not None else strengths(head)
    middle = grid[len(grid) // 2]
    # One thread for each product: small ones gain nothing from two, and wait for each other long where the processor
    # is busy. The folds share the processors instead, so the result does not depend on how many there are.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(_workers()) as pool:
        kept = {r: pool.submit(_features, r, pooled[some], widths, head) for r in representations}
        progress.begin("Choosing the features", len(representations))
        rough: list[Trial] = []
        for representation in representations:
            x, _ = kept[representation].result()
            if len(representations) > 1:
                scores = cross_validate(head, x, y[some], group[some], classes, (middle,), k=3, balanced=even, seed=seed)
                rough += _trials(representation, scores, y[some], (middle,), 3, even)
            progress.advance()
        progress.end()
        finalists = [t.representation for t in _ranked(rough, len(some))[:2]] if rough else list(representations)
        trials: list[Trial] = []
        out_of_fold: dict[tuple[Representation, float], np.ndarray] = {}
        progress.begin("Choosing its strength", len(finalists))
        for representation in finalists:
            x, _ = kept[representation].result()
            scores = cross_validate(head, x, y[some], group[some], classes, grid, k=5, balanced=even, seed=seed)
            found = _trials(representation, scores, y[some], grid, 5, even)
            trials += found
            out_of_fold.update({(representation, t.strength): s for t, s in zip(found, scores, strict=True)})
            progress.advance()
        progress.end()
        best = _ranked(trials, len(some))[0]
        features = best.representation.take(pooled, widths)
        normaliser = Normaliser.fit(features, best.representation.norm)
        x, axes = kept[best.representation].result()
        if axes is not None and head != "knn" and len(some) == len(y):
            fitted = fit_heads(head, x, y, classes, (best.strength,), balanced=even)[0]
            if isinstance(fitted, LinearHead):
                fitted = fitted.turned_back(axes)
        else:
            fitted = fit_head(head, normaliser.apply(features), y, classes, best.strength, balanced=even)
    held_out = out_of_fold[best.representation, best.strength]
    fitted = replace(fitted, temperature=fit_temperature(held_out, y[some]))
    probabilities = softmax(held_out / fitted.temperature)
    return Probe(best.representation, normaliser, fitted, best.strength, even, (*rough, *trials), some, probabilities)


def cross_validate(
    head: str,
    x: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    classes: int,
    grid: Sequence[float],
    *,
    k: int = 5,
    balanced: bool = False,
    seed: int = 0,
) -> np.ndarray:
    """Scores of every image by heads that were fitted without it and its near-duplicates: float64 (len(grid), n, classes).

    A class that a fold could not learn scores -inf there; in a fold that could learn fewer than two, every score is 0.
    """
    scores = np.zeros((len(grid), len(y), classes))

    def one_fold(train: np.ndarray, test: np.ndarray) -> None:
        present = np.unique(y[train])
        if len(present) >= 2:
            absent = np.setdiff1d(np.arange(classes), present)
            for i, one in enumerate(fit_heads(head, x[train], y[train], classes, grid, balanced=balanced, tolerance=1e-4)):
                found = one.scores(x[test])
                found[:, absent] = -np.inf
                scores[i, test] = found

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(k, _workers())) as pool:
        for done in [pool.submit(one_fold, train, test) for train, test in folds(y, groups, k, seed)]:
            done.result()
    return scores


def _trials(
    representation: Representation, scores: np.ndarray, y: np.ndarray, grid: Sequence[float], k: int, balanced: bool
) -> list[Trial]:
    trials = []
    for strength, one in zip(grid, scores, strict=True):
        right = one.argmax(1) == y
        accuracy = np.mean([right[y == c].mean() for c in np.unique(y)]) if balanced else right.mean()
        loss = log_loss(y, softmax(one / fit_temperature(one, y)))
        trials.append(Trial(representation, float(strength), float(accuracy), loss, k))
    return trials


def _ranked(trials: Sequence[Trial], n: int) -> list[Trial]:
    """The best first. What lies within one standard error of the best accuracy counts as equal, and log-loss decides."""
    top = max(trial.accuracy for trial in trials)
    error = float(np.sqrt(top * (1 - top) / n))
    return sorted(trials, key=lambda t: (t.accuracy < top - error, t.log_loss if t.accuracy >= top - error else -t.accuracy))


def _features(
    representation: Representation, pooled: np.ndarray, widths: Sequence[int], head: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Normalised on the images at hand (no labels are used), and turned to their principal axes where that saves time."""
    features = representation.take(pooled, widths)
    x = Normaliser.fit(features, representation.norm).apply(features)
    if head in ("logistic", "svm") or x.shape[1] > len(x):
        return principal_axes(x)
    return x, None


def _workers() -> int:
    """Threads for independent fits: a few, for each holds a copy of the features."""
    return min(8, processors())


def _sample(y: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Positions of at most ``most`` images, with every class in its share and at least ten of each."""
    return sample_by_class(y, most, seed, least=10)
