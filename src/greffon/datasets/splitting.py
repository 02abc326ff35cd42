"""Train, val and test; and the folds of a cross-validation. What belongs together stays together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from greffon.datasets.value import SPLITS, Dataset
from greffon.errors import DataError, OptionError

__all__ = ["apportion", "folds", "split"]


def apportion(
    labels: np.ndarray, groups: np.ndarray, fractions: Sequence[float], seed: int, *, spread: bool = False
) -> np.ndarray:
    """Deal images out to parts, stratified by class, never parting a group.

    Groups go, the largest first and otherwise in random order, to the part that lacks the most of their classes.

    Parameters
    ----------
    labels
        int64 (n,), each ≥ 0.
    groups
        int64 (n,): images with one number stay in one part.
    fractions
        The share of each part; they sum to one.
    seed
        Of the order in which images are dealt.
    spread
        Whether a class of few groups is first given to the parts one by one: the first part, then the last,
        then those between. So a class of two images is learned from one and tested on the other.

    Returns
    -------
    int64 (n,): the number of each image's part.
    """
    share = np.asarray(fractions, np.float64)
    if len(share) < 1 or (share < 0).any() or abs(share.sum() - 1) > 1e-9:
        raise OptionError(f"apportion: fractions must be at least 0 and sum to 1, got {list(fractions)}")
    classes, class_of = np.unique(labels, return_inverse=True)
    _, group_of = np.unique(groups, return_inverse=True)
    content = np.zeros((group_of.max() + 1, len(classes)))
    np.add.at(content, (group_of, class_of), 1)
    total = content.sum(0)
    lack = np.outer(share, total)  # (parts, classes): how many images each part still wants
    order = np.random.default_rng(seed).permutation(len(content))
    order = order[np.argsort(-content[order].sum(1), kind="stable")]
    part = np.full(len(content), -1)

    def give(group: int, to: int) -> None:
        part[group] = to
        lack[to] -= content[group]

    if spread:
        wanting = [p for p in (0, len(share) - 1, *range(1, len(share) - 1)) if share[p] > 0]
        for kind in np.argsort(total, kind="stable"):
            mine = [g for g in order if content[g, kind]]
            # Small groups first, so that a cluster of near-duplicates is not spent as the one test image.
            free = [g for g in reversed(mine) if part[g] < 0]
            for to in wanting[: len(mine)]:
                if free and not any(part[g] == to for g in mine):
                    give(free.pop(0), to)
    for group in order:
        if part[group] < 0:
            weight = content[group] / total
            room = lack @ weight + 1e-9 * lack.sum(1)
            room[share == 0] = -np.inf
            give(group, int(np.argmax(room)))
    return part[group_of]


def folds(labels: np.ndarray, groups: np.ndarray | None, k: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """k pairs (train positions, test positions), stratified, with groups kept together. Folds without images are left out."""
    if k < 2:
        raise OptionError(f"folds: k must be at least 2, got {k}")
    own = np.arange(len(labels)) if groups is None else groups
    part = apportion(labels, own, [1 / k] * k, seed)
    return [(np.flatnonzero(part != i), np.flatnonzero(part == i)) for i in range(k) if 0 < (part == i).sum() < len(part)]


def split(dataset: Dataset, groups: np.ndarray, *, fractions: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0) -> Dataset:
    """Give every image a role. Roles that the data set came with are kept; a missing test split is drawn from the rest.

    Parameters
    ----------
    dataset
        With labels.
    groups
        int64 (n,): near-duplicates, as ``Scan.groups`` has them.
    fractions
        Of train, val and test, where the data set has no roles of its own.
    seed
        The same seed gives the same roles to the same images.

    Raises
    ------
    DataError
        Fewer than two classes, or nothing left to learn from or to test on.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise OptionError(f"split: expected three fractions that sum to 1, got {list(fractions)}")
    present = len(set(dataset.labels.tolist()))
    if present < 2:
        only = dataset.classes[int(dataset.labels[0])] if len(dataset) else "none"
        raise DataError(f"{dataset.root}: a classifier needs at least two classes, found {present} ({only})",
                        hint="Put the images of each class into a folder of its own.")  # fmt: skip
    roles = list(dataset.splits)
    free = [i for i, role in enumerate(roles) if not role]
    if free:
        part = apportion(dataset.labels[free], groups[free], fractions, seed, spread=True)
        for i, p in zip(free, part, strict=True):
            roles[i] = SPLITS[p]
    elif "test" not in roles and fractions[2] > 0:
        pool = [i for i, role in enumerate(roles) if role == "train"]
        share = fractions[2] / (fractions[0] + fractions[2])
        part = apportion(dataset.labels[pool], groups[pool], (1 - share, share), seed, spread=True)
        for i, p in zip(pool, part, strict=True):
            roles[i] = "test" if p else "train"
    trained = {int(dataset.labels[i]) for i, role in enumerate(roles) if role == "train"}
    if len(trained) < 2:
        raise DataError(f"{dataset.root}: the training split has images of {len(trained)} classes, and needs two or more")
    return replace(dataset, splits=tuple(roles))
