"""Which images are worth labelling first: those that stand for many others, and later those that the head is unsure of.

The images come as a value without a field for labels. What is labelled so far comes in a value of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from threadpoolctl import threadpool_limits

from greffon.errors import DataError, OptionError
from greffon.heads import fit_head
from greffon.progress import Progress

__all__ = ["Given", "Pool", "Suggestion", "greedy_cover", "suggest_images"]

#: C of the head whose doubts are asked for; features have mean squared length 1.
_STRENGTH = 10.0

#: How wide an image covers, as a part of the distance within which it has its share of the others. From 0.5 to 1 it changed the
#: gain over a random draw by about a point, on the mean of three sets of photos.
_NARROW = 0.7

#: What an image that the head is sure of weighs against one that it cannot place. With 0 cats and dogs lost 6 points to a random
#: draw, and flowers and litter were no better; with 1, where doubt does not count, paintings and litter lost 1 to 3 points.
_SURE = 0.5

#: Coverage is counted on so many images at most, drawn by the seed.
_MARKS = 4096

#: So many are chosen one after the other; more are then taken by what each would add alone.
_ONE_BY_ONE = 2000


@final
@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The images to choose among, and nothing else.

    Parameters
    ----------
    features
        float32 (n, d), of mean squared length about 1; see ``heads.Normaliser``.
    groups
        int64 (n,): of near-duplicates, which have one number, one is suggested at most.

    Raises
    ------
    DataError
        Shapes or values that do not fit.
    """

    features: np.ndarray
    groups: np.ndarray

    def __post_init__(self) -> None:
        _check("the images to choose among", self.features, self.groups)

    def __len__(self) -> int:
        return len(self.features)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What is labelled so far.

    Parameters
    ----------
    features
        float32 (l, d), normalised as the pool's are.
    groups
        int64 (l,), in one numbering with the pool's: near-duplicates of a labelled image are not suggested.
    labels
        int64 (l,), from 0 to ``classes`` - 1; -1 where an image is only not to be suggested again.
    classes
        How many there are.

    Raises
    ------
    DataError
        Shapes or values that do not fit.
    """

    features: np.ndarray
    groups: np.ndarray
    labels: np.ndarray
    classes: int

    def __post_init__(self) -> None:
        _check("the labelled images", self.features, self.groups)
        if self.labels.shape != (len(self.features),) or self.labels.dtype.kind not in "iu":
            raise DataError(f"labels must be whole numbers ({len(self.features)},), got {self.labels.dtype} {self.labels.shape}")
        if len(self.labels) and not -1 <= self.labels.min() <= self.labels.max() < self.classes:
            raise DataError(f"labels must be from -1 to {self.classes - 1}, got {self.labels.min()} to {self.labels.max()}")

    def __len__(self) -> int:
        return len(self.features)


@final
@dataclass(frozen=True, slots=True)
class Suggestion:
    """An image that is worth labelling.

    Parameters
    ----------
    position
        Among the pool.
    stands_for
        How many images of the pool, itself among them, have it as their nearest of all that are labelled or suggested.
    doubt
        From 0 to 1: how unsure the head is, or -1 where there is none yet.
    best, second
        Its two most probable classes, or -1.
    probable
        The probabilities of these two.
    """

    position: int
    stands_for: int
    doubt: float = -1.0
    best: int = -1
    second: int = -1
    probable: tuple[float, float] = (0.0, 0.0)


def suggest_images(
    pool: Pool, budget: int, *, given: Given | None = None, seed: int = 0, progress: Progress
) -> tuple[Suggestion, ...]:
    """Choose the images that are worth labelling first, the most useful one first.

    Each image of the pool weighs the same at first; once there are labels of two classes, one that a head is sure of weighs
    half as much as one between two classes. Chosen is, one after the other, what adds most to the weighted coverage; see ``greedy_cover``.

    Parameters
    ----------
    budget
        How many are wanted; fewer come where the pool has fewer that are not near-duplicates of each other or of a
        labelled one.
    given
        What is labelled so far, if anything.
    seed
        Draws the images on which coverage is counted, where there are very many.

    Raises
    ------
    OptionError
        The budget is below 1.
    DataError
        The two have other features.
    """
    if budget < 1:
        raise OptionError(f"the budget must be at least 1, got {budget}")
    known = pool.features[:0] if given is None else given.features
    if known.shape[1] != pool.features.shape[1]:
        raise DataError(f"the labelled images have {known.shape[1]} features, the others {pool.features.shape[1]}")
    with threadpool_limits(1, user_api="blas"):
        told = _told(pool, given)
        doubt = np.ones(len(pool)) if told is None else _doubt(told)
        weights = _SURE + (1 - _SURE) * doubt
        closed = np.zeros(len(pool), bool) if given is None else np.isin(pool.groups, given.groups)
        width = _NARROW * _reach(pool.features, budget + len(known), seed)
        chosen = greedy_cover(pool.features, weights, known, budget, width=width, groups=pool.groups, closed=closed, seed=seed,
                              progress=progress)  # fmt: skip
        counts = _stands_for(pool.features, known, chosen)
    if told is None:
        return tuple(Suggestion(int(i), int(count)) for i, count in zip(chosen, counts, strict=True))
    order = np.argsort(told[chosen], axis=1, kind="stable")[:, ::-1]
    return tuple(
        Suggestion(int(i), int(count), float(doubt[i]), int(two[0]), int(two[1]), (float(told[i, two[0]]), float(told[i, two[1]])))
        for i, count, two in zip(chosen, counts, order, strict=True)
    )


def greedy_cover(
    features: np.ndarray,
    weights: np.ndarray,
    known: np.ndarray,
    budget: int,
    *,
    width: float,
    groups: np.ndarray,
    closed: np.ndarray,
    seed: int,
    progress: Progress,
) -> np.ndarray:
    """Images that together cover the others best: the generalised coverage of Bae, Noh and Sutherland (2024,
    arXiv:2407.12212), weighted as in Bae, Oliveira and Sutherland (2025, arXiv:2412.20644).

    C(S) = Σ_x u(x) max over s in S of exp(-|x - s|² / 2σ²) is submodular, so taking always what adds most comes to
    1 - 1/e of the best at least, and what an image would have added before is a bound of what it adds now: only those
    with the highest bounds are looked at again (Minoux 1978).

    Parameters
    ----------
    features
        float32 (n, d).
    weights
        u, (n,), at least 0.
    known
        float32 (l, d): these cover already.
    width
        σ.
    groups
        int64 (n,); of each number one image is taken at most.
    closed
        bool (n,): not to be taken, though to be covered.

    Returns
    -------
    int64 (k,), k at most ``budget``, in the order in which they were taken.
    """
    likeness = _Likeness.among(features, weights, width, seed)
    covered = np.zeros(len(likeness.marks), np.float32)
    for start in range(0, len(known), 256):
        covered = np.maximum(covered, likeness.rows(known[start : start + 256]).max(0))
    is_open = ~closed
    bounds = np.full(len(features), -np.inf)
    progress.begin("Choosing", min(budget, len(np.unique(groups[is_open]))))
    for start in range(0, len(features), 256):
        bounds[start : start + 256] = likeness.gains(features[start : start + 256], covered)
    bounds[closed] = -np.inf
    looked = np.zeros(len(features), np.int64)  # in which round
    chosen: list[int] = []
    while len(chosen) < min(budget, _ONE_BY_ONE) and is_open.any():
        best = int(np.argmax(bounds))
        while looked[best] < len(chosen):
            high = np.flatnonzero(is_open)
            if len(high) > 64:
                high = high[np.argpartition(-bounds[high], 63)[:64]]
            high = high[looked[high] < len(chosen)]
            bounds[high] = likeness.gains(features[high], covered)
            looked[high] = len(chosen)
            best = int(np.argmax(bounds))
        covered = np.maximum(covered, likeness.rows(features[best : best + 1])[0])
        same = groups == groups[best]
        is_open[same], bounds[same] = False, -np.inf
        chosen.append(best)
        progress.advance()
    progress.end()
    rest = [int(i) for i in np.argsort(-bounds, kind="stable") if is_open[i]]
    for i in rest if len(chosen) < budget else []:
        if is_open[i] and len(chosen) < budget:
            chosen.append(i)
            is_open[groups == groups[i]] = False
    return np.array(chosen, np.int64)


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Likeness:
    """exp(-d² / 2σ²) to the images on which coverage is counted."""

    marks: np.ndarray  # float32 (m, d)
    weights: np.ndarray  # float32 (m,)
    width: float

    @classmethod
    def among(cls, features: np.ndarray, weights: np.ndarray, width: float, seed: int) -> _Likeness:
        some = np.arange(len(features))
        if len(some) > _MARKS:
            some = np.sort(np.random.default_rng(seed).permutation(len(some))[:_MARKS])
        return cls(features[some], weights[some].astype(np.float32), width)

    def rows(self, features: np.ndarray) -> np.ndarray:
        """(k, d) to float32 (k, m)."""
        return np.exp(-_squares(features, self.marks) / np.float32(2 * self.width**2))

    def gains(self, features: np.ndarray, covered: np.ndarray) -> np.ndarray:
        """What each would add to the coverage, (k,)."""
        return np.maximum(self.rows(features) - covered, 0) @ self.weights


def _reach(features: np.ndarray, count: int, seed: int, most: int = 1000) -> float:
    """The distance within which an image has its share of the others, n / count of them: the median over some images."""
    n = len(features)
    some = np.random.default_rng(seed).permutation(n)[:most]
    share = min(max(round(n / count), 1), n - 1)
    if share < 1:
        return 1.0
    parts = np.array_split(some, 1 + len(some) // 64)
    squares = [np.partition(_squares(features[part], features), share, axis=1)[:, share] for part in parts]
    return max(float(np.sqrt(np.median(np.concatenate(squares)))), 1e-3)


def _told(pool: Pool, given: Given | None) -> np.ndarray | None:
    """What a head that has learned from the labelled images says of the pool, float64 (n, c); None before two classes are known."""
    learned = np.zeros(0, np.int64) if given is None else np.flatnonzero(given.labels >= 0)
    if given is None or len(np.unique(given.labels[learned])) < 2:
        return None
    head = fit_head("logistic", given.features[learned], given.labels[learned], given.classes, _STRENGTH)
    return head.probabilities(pool.features)


def _doubt(told: np.ndarray) -> np.ndarray:
    """1 - (p₁ - p₂), (n,)."""
    two = np.sort(told, axis=1)[:, -2:]
    return 1 - (two[:, 1] - two[:, 0])


def _stands_for(features: np.ndarray, known: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """How many images have each of the chosen as their nearest of all that are known or chosen; int64 (k,)."""
    centres = np.concatenate([features[chosen], known])  # a tie goes to the chosen
    counts = np.zeros(len(centres), np.int64)
    for start in range(0, len(features), 1024):
        counts += np.bincount(_squares(features[start : start + 1024], centres).argmin(1), minlength=len(centres))
    return counts[: len(chosen)]


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances, float32 (n, m)."""
    own = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    return np.maximum(own - 2 * (a @ b.T), 0)


def _check(whose: str, features: np.ndarray, groups: np.ndarray) -> None:
    if features.ndim != 2 or groups.shape != (len(features),):
        raise DataError(f"{whose}: features must be (n, d) and groups (n,), got {features.shape} and {groups.shape}")
    if not np.isfinite(features).all():
        raise DataError(f"{whose}: features must be finite numbers")
