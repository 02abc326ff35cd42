"""Train, val and test; and the folds of a cross-validation. What belongs together stays together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from greffon.datasets.value import SPLITS, Dataset
from greffon.errors import DataError, OptionError

__all__ = ["apportion", "folds", "must_have_two_classes", "sample_by_class", "split"]


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
    if len(share) < 1 or not ((share >= 0).all() and abs(share.sum() - 1) <= 1e-6):
        raise OptionError(f"apportion: fractions must be at least 0 and sum to 1, got {list(fractions)}")
    if len(labels) == 0:
        return np.zeros(0, np.int64)
    share = share / share.sum()
    _, class_of = np.unique(labels, return_inverse=True)
    _, group_of = np.unique(groups, return_inverse=True)
    n_classes, n_groups = int(class_of.max()) + 1, int(group_of.max()) + 1
    # (group, class) pairs with their counts, by group: most groups are one image, and there may be a million of them.
    pairs, counts = np.unique(group_of.astype(np.int64) * n_classes + class_of, return_counts=True)
    pair_group, pair_class = np.divmod(pairs, n_classes)
    first = np.searchsorted(pair_group, np.arange(n_groups + 1))
    size = np.bincount(group_of, minlength=n_groups)
    total = np.bincount(class_of, minlength=n_classes)
    lack = np.outer(share, total)  # (parts, classes): how many images each part still wants
    lack_of_all = share * len(labels)
    order = np.random.default_rng(seed).permutation(n_groups)
    order = order[np.argsort(-size[order], kind="stable")]
    part = np.full(n_groups, -1, np.int64)

    def give(group: int, to: int) -> None:
        own = slice(first[group], first[group + 1])
        part[group] = to
        lack[to, pair_class[own]] -= counts[own]
        lack_of_all[to] -= size[group]

    if spread:
        place = np.empty(n_groups, np.int64)
        place[order] = np.arange(n_groups)
        by_class = np.lexsort((place[pair_group], pair_class))
        edge = np.searchsorted(pair_class[by_class], np.arange(n_classes + 1))
        wanting = [p for p in (0, len(share) - 1, *range(1, len(share) - 1)) if share[p] > 0]
        wanting = list(dict.fromkeys(wanting))
        for kind in np.argsort(total, kind="stable"):
            mine = pair_group[by_class[edge[kind] : edge[kind + 1]]]
            # Small groups first, so that a cluster of near-duplicates is not spent as the one test image.
            free = [int(g) for g in mine[part[mine] < 0][: -len(wanting) - 1 : -1]]
            for to in wanting[: len(mine)]:
                if free and not (part[mine] == to).any():
                    give(free.pop(0), to)
    for group in order:
        if part[group] < 0:
            own = slice(first[group], first[group + 1])
            weight = counts[own] / total[pair_class[own]]
            room = (lack[:, pair_class[own]] * weight).sum(1) + 1e-9 / len(labels) * lack_of_all
            room[share == 0] = -np.inf
            give(int(group), int(np.argmax(room)))
    return part[group_of]


def folds(labels: np.ndarray, groups: np.ndarray | None, k: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """k pairs (train, test) of positions, stratified, groups kept together. Folds without images are left out."""
    if k < 2:
        raise OptionError(f"folds: k must be at least 2, got {k}")
    own = np.arange(len(labels)) if groups is None else groups
    part = apportion(labels, own, [1 / k] * k, seed)
    return [
        (np.flatnonzero(part != i), np.flatnonzero(part == i)) for i in range(k) if 0 < (part == i).sum() < len(part)
    ]


def split(
    dataset: Dataset, groups: np.ndarray, *, fractions: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0
) -> Dataset:
    """Give every image a role. Roles that the data set came with are kept; a missing test split is drawn from the rest.

    An image without a role that nearly repeats one with a role gets the same one, and what nearly repeats a val image
    is not drawn for the test. Classes that the test does not see are named in the notes.

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
    if len(fractions) != 3 or not (min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6):
        raise OptionError(f"split: expected three fractions that sum to 1, got {list(fractions)}")
    must_have_two_classes(dataset)
    roles = list(dataset.splits)
    if not all(roles):
        _settle_by_groups(roles, groups, ("train", "val", "test"))
        free = [i for i, role in enumerate(roles) if not role]
        part = apportion(dataset.labels[free], groups[free], fractions, seed, spread=True)
        for i, p in zip(free, part, strict=True):
            roles[i] = SPLITS[p]
    elif "test" not in roles and fractions[2] > 0:
        held = set(groups[[i for i, role in enumerate(roles) if role == "val"]].tolist())
        pool = [i for i, role in enumerate(roles) if role == "train" and int(groups[i]) not in held]
        share = fractions[2] / (fractions[0] + fractions[2])
        part = apportion(dataset.labels[pool], groups[pool], (1 - share, share), seed, spread=True)
        for i, p in zip(pool, part, strict=True):
            roles[i] = "test" if p else "train"
    trained = {int(dataset.labels[i]) for i, role in enumerate(roles) if role == "train"}
    if len(trained) < 2:
        raise DataError(f"{dataset.root}: the training split has {len(trained)} classes, and needs two or more")
    return replace(dataset, splits=tuple(roles), notes=(*dataset.notes, *_untested(dataset, roles)))


def must_have_two_classes(dataset: Dataset) -> None:
    """Raises DataError where there are images of fewer than two classes."""
    present = len(set(dataset.labels.tolist()))
    if present < 2:
        only = dataset.classes[int(dataset.labels[0])] if len(dataset) else "none"
        raise DataError(f"{dataset.root}: a classifier needs at least two classes, found {present} ({only})",
                        hint="Put the images of each class into a folder of its own.")  # fmt: skip


def _settle_by_groups(roles: list[str], groups: np.ndarray, strongest_first: Sequence[str]) -> None:
    """Give the members of a group that have no role the role of those that have one; ``roles`` is changed in place."""
    settled: dict[int, str] = {}
    for role in reversed(strongest_first):
        settled |= {int(groups[i]): role for i, own in enumerate(roles) if own == role}
    for i, own in enumerate(roles):
        roles[i] = own or settled.get(int(groups[i]), "")


def _untested(dataset: Dataset, roles: Sequence[str]) -> list[str]:
    """Notes on classes with images, none of which is tested, or none of which is learned from."""
    notes = []
    seen = {role: {int(dataset.labels[i]) for i, own in enumerate(roles) if own == role} for role in ("train", "test")}
    present = np.bincount(dataset.labels[dataset.labels >= 0], minlength=len(dataset.classes))
    for role, what in (("test", "no image in the test split"), ("train", "no image to learn from")):
        missing = [c for c in np.flatnonzero(present) if int(c) not in seen[role]]
        if missing and seen[role]:
            some = ", ".join(f"{dataset.classes[c]!r} ({present[c]} in all)" for c in missing[:5])
            notes.append(f"{len(missing)} classes have {what}: {some}{' and others' if len(missing) > 5 else ''}")
    return notes


def sample_by_class(labels: np.ndarray, most: int, seed: int, least: int) -> np.ndarray:
    """Positions of about ``most`` images, sorted: each class in its share, and ``least`` of it or all that it has; int64 (k,)."""
    if len(labels) <= most:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    mine = [rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    return np.sort(np.concatenate([one[: max(least, round(len(one) * most / len(labels)))] for one in mine]))
