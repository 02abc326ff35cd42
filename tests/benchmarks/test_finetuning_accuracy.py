# pyright: reportMissingImports=false
"""The cross-validation of fine-tuning on small drawn photos: the same folds, interrupted or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crossvalidation import Finished, Fold
from drawn import encode, photo, write_classes
from finetuning_accuracy import STRATEGIES, Study, compared, cross_validated, studied
from greffon.activations import Store
from greffon.backbones import load_backbone
from greffon.jobs.train import FineTuning
from greffon.training import Recipe

WISHES = FineTuning(views=2, recipe=Recipe(learning_rate=0.0, head_learning_rate=0.0, epochs=1))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    data = write_classes(tmp_path_factory.mktemp("photos"), {"a": 14, "b": 14}, (40, 40))
    for number in range(3):
        (data / "a" / f"same{number}.jpg").write_bytes(encode(photo(99), "JPEG", quality=80 + 5 * number))
    store = Store(tmp_path_factory.mktemp("store"))
    return studied(data, load_backbone("vgg16", size=32), "block5", WISHES, "float32", store)


@pytest.fixture(scope="module")
def whole(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    finished = Finished(tmp_path_factory.mktemp("folds") / "folds.jsonl")
    cross_validated(study, finished, 1, 0)
    return finished


def without_seconds(folds: list[Fold]) -> list[Fold]:
    return [replace(fold, seconds=0.0) for fold in folds]


def test_every_photo_is_tested_once_by_both_on_the_same_folds(study: Study, whole: Finished) -> None:
    frozen, tuned = (whole.of(study.name(), strategy) for strategy in STRATEGIES)
    assert len(frozen) == len(tuned) == 5
    assert [fold.positions for fold in frozen] == [fold.positions for fold in tuned]
    assert sorted(i for fold in tuned for i in fold.positions) == list(range(31))
    assert all(fold.train + len(fold.positions) == 31 for fold in tuned)
    same = {i for i, path in enumerate(study.looked.dataset.paths) if path.name.startswith("same")}
    assert sorted(len(same & set(fold.positions)) for fold in tuned) == [0, 0, 0, 0, 3]
    assert frozen[0].true_probability != tuned[0].true_probability


def test_an_interrupted_run_goes_on_to_the_same_end(study: Study, whole: Finished, tmp_path: Path) -> None:
    lines = whole.path.read_bytes().splitlines(keepends=True)
    file = tmp_path / "folds.jsonl"
    file.write_bytes(b"".join(lines[:8]) + lines[8][:50])
    finished = Finished(file)
    results = cross_validated(study, finished, 1, 0)
    assert file.read_bytes().startswith(b"".join(lines[:8]))  # nothing is done twice
    assert len(file.read_bytes().splitlines()) == len(lines) == 10
    for strategy in STRATEGIES:
        assert without_seconds(results[strategy]) == without_seconds(whole.of(study.name(), strategy))


def test_other_settings_are_another_study(study: Study) -> None:
    names = {study.name()}
    names.add(replace(study, wishes=replace(WISHES, views=3)).name())
    names.add(replace(study, wishes=replace(WISHES, recipe=replace(WISHES.recipe, epochs=2))).name())
    names.add(replace(study, unfreeze="block4").name())
    assert len(names) == 4


def test_the_comparison_is_paired() -> None:
    def fold(strategy: str, number: int, right: list[int], probability: float) -> Fold:
        positions = list(range(4 * number, 4 * number + 4))
        return Fold(study="s", strategy=strategy, repeat=0, fold=number, train=4, positions=positions, right=right,
                    true_probability=[probability] * 4, seconds=2.0 + number)  # fmt: skip

    frozen = [fold(STRATEGIES[0], 0, [1, 0, 0, 1], 0.5), fold(STRATEGIES[0], 1, [1, 1, 1, 0], 0.5)]
    tuned = [fold(STRATEGIES[1], 0, [1, 1, 1, 1], 0.8), fold(STRATEGIES[1], 1, [1, 1, 1, 0], 0.8)]
    told = compared({STRATEGIES[0]: frozen, STRATEGIES[1]: tuned}, 8)
    assert told[STRATEGIES[0]]["accuracy"] == 0.625
    assert told[STRATEGIES[1]]["accuracy"] == 0.875
    assert told[STRATEGIES[1]]["log_loss"] == round(-np.log(0.8), 4)
    assert told[STRATEGIES[1]]["seconds_a_fold"] == 2.5
    # Differences of 0.5 and 0: mean 0.25, variance 0.125; (1/2 + 4/4) * 0.125 = 0.1875; Student's t with one degree of
    # freedom has its 97.5 % point at 12.7062.
    assert told["gain_points"] == told["gain_first_repeat_points"] == 25.0
    half = 12.7062 * np.sqrt(0.1875)
    assert told["gain_interval_points"] == pytest.approx([100 * (0.25 - half), 100 * (0.25 + half)], abs=0.01)
    low, high = told["gain_first_repeat_interval_points"]
    assert low < 0 < 25 < high
