# pyright: reportMissingImports=false
"""Finished folds through an interruption, and the interval against numbers worked out by hand."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crossvalidation import Finished, Fold, corrected_interval, fold_differences, right_by_image
from greffon.errors import DataError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def fold(number: int, right: list[int], *, strategy: str = "a", repeat: int = 0, start: int = 0) -> Fold:
    positions = list(range(start, start + len(right)))
    return Fold(study="s", strategy=strategy, repeat=repeat, fold=number, train=8, positions=positions, right=right,
                true_probability=[0.5] * len(right), seconds=1.0)  # fmt: skip


def test_the_interval_is_nadeaus_and_bengios() -> None:
    # Mean 0.03, sample variance 0.00025; J = 5, n_test/n_train = 1/4: (0.2 + 0.25) * 0.00025 = 0.0001125, whose root is
    # 0.0106066. The tables have 2.776445 as the 97.5 % point of Student's t with four degrees of freedom.
    low, high = corrected_interval(np.array([0.01, 0.02, 0.03, 0.04, 0.05]), 0.25)
    half = 2.776445 * math.sqrt(0.0001125)
    assert low == pytest.approx(0.03 - half, abs=1e-7)
    assert high == pytest.approx(0.03 + half, abs=1e-7)


def test_the_interval_is_wider_than_that_of_independent_folds() -> None:
    from scipy.stats import ttest_1samp

    differences = np.random.default_rng(0).normal(0.02, 0.01, 10)
    plain = ttest_1samp(differences, 0.0).confidence_interval(0.95)
    assert corrected_interval(differences, 0.0) == pytest.approx((plain.low, plain.high))  # nothing to correct
    low, high = corrected_interval(differences, 0.25)
    # The variance is 0.1 + 0.25 instead of 0.1 of the sample's.
    assert (high - low) / (plain.high - plain.low) == pytest.approx(math.sqrt(3.5))


def test_the_interval_covers_the_truth_when_folds_share_what_they_share() -> None:
    # Differences whose correlation is n_test / (n_test + n_train), for which the correction was derived.
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(2000):
        shared, own = rng.normal(0, math.sqrt(0.2)), rng.normal(0, math.sqrt(0.8), 5)
        low, high = corrected_interval(shared + own, 0.25)
        covered += low <= 0 <= high
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_one_fold_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two folds are needed at least, got 1"):
        corrected_interval(np.array([0.1]), 0.25)


def test_differences_are_of_the_same_folds() -> None:
    first = [fold(0, [1, 1, 0, 1]), fold(1, [1, 0], start=4)]
    second = [fold(0, [1, 0, 0, 0], strategy="b"), fold(1, [1, 1], strategy="b", start=4)]
    assert fold_differences(first, second).tolist() == [0.5, -0.5]
    with pytest.raises(ValueError, match="the same folds"):
        fold_differences(first, second[::-1])
    with pytest.raises(ValueError, match="the same folds"):
        fold_differences(first, [fold(0, [1, 0, 0, 0], start=1), second[1]])


def test_images_are_averaged_over_repeats() -> None:
    own = [fold(0, [1, 0]), fold(1, [1], start=2), fold(0, [1, 1], repeat=1)]
    told = right_by_image(own, 4)
    assert told[:3].tolist() == [1.0, 0.5, 1.0]
    assert math.isnan(told[3])


def test_finished_folds_are_found_again(tmp_path: Path) -> None:
    file = tmp_path / "folds.jsonl"
    finished = Finished(file)
    finished.add(fold(1, [1, 0]))
    finished.add(fold(0, [0, 1, 1]))
    again = Finished(file)
    assert again.get("s", "a", 0, 1) == fold(1, [1, 0])
    assert again.get("s", "a", 0, 2) is None
    assert again.get("another study", "a", 0, 1) is None
    assert [one.fold for one in again.of("s", "a")] == [0, 1]


def test_a_line_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    file = tmp_path / "folds.jsonl"
    Finished(file).add(fold(0, [1, 0]))
    whole = file.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole + whole[:cut])
        again = Finished(file)
        assert len(again.of("s", "a")) == 1
        again.add(fold(1, [1]))
        assert file.read_bytes().startswith(whole)
        assert [one.fold for one in Finished(file).of("s", "a")] == [0, 1]
    file.write_bytes(whole[:-1])  # the first line itself
    assert Finished(file).of("s", "a") == []
    assert file.read_bytes() == b""


def test_a_damaged_line_is_told_and_nothing_is_thrown_away(tmp_path: Path) -> None:
    file = tmp_path / "folds.jsonl"
    file.write_text('{"study": "s"}\n{"fold": 1}\n')
    with pytest.raises(DataError, match=r"folds.jsonl, line 1: not a finished fold"):
        Finished(file)
    assert file.read_text() == '{"study": "s"}\n{"fold": 1}\n'


def test_a_process_that_is_killed_leaves_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "folds.jsonl"
    program = (
        "import os, signal, sys; from pathlib import Path; from crossvalidation import Finished, Fold\n"
        f"finished = Finished(Path({str(file)!r}))\n"
        "for number in range(3):\n"
        "    finished.add(Fold(study='s', strategy='a', repeat=0, fold=number, train=8, positions=[0], right=[1],"
        " true_probability=[0.5], seconds=1.0))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join([str(BENCHMARKS), *sys.path])
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == -9
    assert [one.fold for one in Finished(file).of("s", "a")] == [0, 1, 2]
