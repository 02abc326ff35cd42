"""Shares, groups, seeds, and roles that the data came with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from greffon.datasets import Dataset, apportion, folds, split
from greffon.errors import DataError, OptionError

SHARES = (0.7, 0.15, 0.15)


def dataset(labels: list[int] | np.ndarray, splits: tuple[str, ...] | None = None) -> Dataset:
    values = np.asarray(labels, np.int64)
    n = len(values)
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: int(values.max(initial=-1)) + 1])
    return Dataset(Path("d"), tuple(Path(f"{i}.png") for i in range(n)), values, names, splits or ("",) * n, ("",) * n)


def alone(data: Dataset) -> np.ndarray:
    return np.arange(len(data))


def counts(data: Dataset, label: int) -> list[int]:
    return [int((data.labels[data.where(role)] == label).sum()) for role in ("train", "val", "test")]


@pytest.mark.parametrize("seed", range(10))
def test_every_class_has_its_share_within_one_image(seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(4, 90, 12)
    done = split(dataset(np.repeat(np.arange(12), sizes)), np.arange(sizes.sum()), seed=seed)
    for label, size in enumerate(sizes):
        assert np.abs(np.array(counts(done, label)) - np.array(SHARES) * size).max() < 1
    assert "" not in done.splits


@pytest.mark.parametrize(("size", "expected"), [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1])])
def test_small_classes(size: int, expected: list[int]) -> None:
    data = dataset([0] * 50 + [1] * size)
    done = split(data, alone(data))
    assert counts(done, 1) == expected
    missing = [note for note in done.notes if "no image in the test split" in note]
    assert len(missing) == (size == 1)
    if missing:
        assert "'b' (1 in all)" in missing[0]


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_never_parted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 4, 300), rng.integers(0, 120, 300)
    for part in (apportion(labels, groups, SHARES, seed, spread=True), apportion(labels, groups, [0.5, 0.5], seed)):
        for group in np.unique(groups):
            assert len(set(part[groups == group])) == 1
    part = apportion(labels, groups, SHARES, seed)
    for label in range(4):
        assert np.abs(np.bincount(part[labels == label], minlength=3) / (labels == label).sum() - SHARES).max() < 0.12


def test_one_large_group_does_not_become_the_test() -> None:
    labels = np.array([0] * 30 + [1] * 30)
    groups = np.concatenate([np.zeros(20, int), np.arange(1, 41)])
    part = apportion(labels, groups, SHARES, 0, spread=True)
    assert set(part[:20]) == {0}
    assert set(part) == {0, 1, 2}


def test_seeds() -> None:
    data = dataset(np.arange(200) % 5)
    one, again, other = (split(data, alone(data), seed=seed).splits for seed in (7, 7, 8))
    assert one == again != other


def test_a_known_split() -> None:
    # The figures of a run, so that a later version that deals differently, and spoils old results, is noticed.
    labels = np.arange(20) % 2
    part = apportion(labels, np.arange(20), SHARES, 0, spread=True)
    assert "".join(map(str, part)) == "12000000010010000220"


def naive(labels: np.ndarray, groups: np.ndarray, shares: tuple[float, ...], seed: int) -> np.ndarray:
    """``apportion`` without ``spread``, by its definition."""
    names = np.unique(groups)
    order = np.random.default_rng(seed).permutation(len(names))
    order = sorted(order, key=lambda g: -(groups == names[g]).sum())
    part = np.full(len(labels), -1)
    for g in order:
        mine = groups == names[g]
        room = []
        for p, share in enumerate(shares):
            lack = [share * (labels == c).sum() - ((labels == c) & (part == p)).sum() for c in labels[mine]]
            totals = [(labels == c).sum() for c in labels[mine]]
            all_lack = share * len(labels) - (part == p).sum()
            room.append(sum(a / b for a, b in zip(lack, totals, strict=True)) + 1e-9 * all_lack / len(labels))
        part[mine] = int(np.argmax(np.round(room, 13)))
    return part


@pytest.mark.parametrize("seed", range(10))
def test_apportion_against_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 3, 60), rng.integers(0, 40, 60)
    shares = (0.61, 0.22, 0.17)  # no ties
    assert apportion(labels, groups, shares, seed).tolist() == naive(labels, groups, shares, seed).tolist()


def test_many_classes_and_groups_are_quick() -> None:
    labels = np.random.default_rng(0).integers(0, 1000, 40_000)
    part = apportion(
        labels, np.arange(40_000), SHARES, 0, spread=True
    )  # dense, this would be 40 million numbers a pass
    for label in range(0, 1000, 50):
        size = (labels == label).sum()
        assert np.abs(np.bincount(part[labels == label], minlength=3) - np.array(SHARES) * size).max() < 1


def test_roles_that_came_with_the_data_are_kept() -> None:
    splits = ("train",) * 6 + ("val",) * 2 + ("test",) * 2
    data = dataset([0, 1] * 5, splits)
    assert split(data, alone(data)).splits == splits


def test_a_missing_test_split_is_drawn_from_train() -> None:
    data = dataset([0, 1] * 50, ("train",) * 80 + ("val",) * 20)
    done = split(data, alone(data))
    assert done.splits[80:] == ("val",) * 20
    assert abs(len(done.where("test")) - 80 * 0.15 / 0.85) <= 1
    groups = alone(data)
    groups[:20] = np.arange(80, 100)  # the first twenty nearly repeat the val images: they are not drawn
    assert set(split(data, groups).splits[:20]) == {"train"}
    assert len(split(data, groups).where("test")) > 5


def test_what_repeats_an_image_with_a_role_gets_that_role() -> None:
    data = dataset([0, 1] * 20, ("train",) * 4 + ("test",) * 4 + ("val",) * 4 + ("",) * 28)
    groups = alone(data)
    groups[12:16], groups[16:20], groups[20:24] = np.arange(4), np.arange(4, 8), np.arange(8, 12)
    done = split(data, groups)
    assert (
        done.splits[:24]
        == ("train",) * 4 + ("test",) * 4 + ("val",) * 4 + ("train",) * 4 + ("test",) * 4 + ("val",) * 4
    )


def test_folds() -> None:
    labels = np.arange(103) % 4
    pairs = folds(labels, None, 5, 0)
    assert len(pairs) == 5
    assert sorted(np.concatenate([test for _, test in pairs]).tolist()) == list(range(103))
    for train, test in pairs:
        assert not set(train) & set(test) and len(train) + len(test) == 103
        assert 19 <= len(test) <= 22
        assert np.abs(np.bincount(labels[test], minlength=4) - np.bincount(labels) / 5).max() < 1
    assert len(folds(np.array([0, 1]), None, 5, 0)) == 2
    groups = np.arange(103) // 3
    assert all(not set(groups[train]) & set(groups[test]) for train, test in folds(labels, groups, 4, 1))
    with pytest.raises(OptionError, match="k must be"):
        folds(labels, None, 1, 0)


@pytest.mark.parametrize("labels", [[], [0, 0, 0]])
def test_fewer_than_two_classes(labels: list[int]) -> None:
    data = dataset(labels)
    with pytest.raises(DataError, match="at least two classes"):
        split(data, alone(data))


def test_nothing_to_learn_from() -> None:
    for splits in (("test",) * 4, ("val",) * 4, ("train", "test", "train", "test")):
        data = dataset([0, 1, 0, 1], splits)
        with pytest.raises(DataError, match="training split"):
            split(data, alone(data))


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.6, -0.1), (0.5, 0.5, 0.5), (float("nan"), 0.5, 0.5), ()])
def test_bad_fractions(fractions: tuple[float, ...]) -> None:
    data = dataset([0, 1])
    with pytest.raises(OptionError, match="sum to 1"):
        split(data, alone(data), fractions=fractions)
    if len(fractions) != 2:
        with pytest.raises(OptionError, match="sum to 1"):
            apportion(data.labels, alone(data), fractions, 0)


def test_fractions_that_nearly_sum_to_one_and_parts_that_want_nothing() -> None:
    data = dataset([0, 1] * 10)
    assert len(split(data, alone(data), fractions=(0.7, 0.15, 0.1500005))) == 20
    assert "val" not in split(data, alone(data), fractions=(0.8, 0, 0.2)).splits
    assert apportion(np.zeros(0, int), np.zeros(0, int), SHARES, 0).shape == (0,)
