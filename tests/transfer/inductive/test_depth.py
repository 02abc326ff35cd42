"""Accuracy by depth, against scikit-learn in the same folds; and the rule of the cut, case by case."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from greffon.datasets import folds
from greffon.errors import OptionError
from greffon.metrics import paired_difference, wilson_interval
from greffon.progress import Silent
from greffon.transfer.inductive import ALL_STAGES, Depth, depth_figures, suggest_cut

WIDTHS = (6, 8, 10)
NAMES = ("low", "middle", "top")
STARTS = (0, 12, 28)


def records(seed: int, n: int, classes: int, telling: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Pooled records, (n, 48); each stage tells as much of the classes as its number says."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes).astype(np.int64)
    much = np.repeat(telling, [2 * width for width in WIDTHS])
    centre = np.random.default_rng(99).normal(size=(classes, 48)) * much
    return np.abs(centre[y] + rng.normal(size=(n, 48)) + 1).astype(np.float32), y


def columns(stage: int, pool: str) -> np.ndarray:
    start, width = STARTS[stage], WIDTHS[stage]
    return np.arange(start, start + (2 if pool == "mean+max" else 1) * width) + (width if pool == "max" else 0)


@pytest.mark.parametrize("pool", ["mean", "max", "mean+max"])
def test_every_depth_is_scikit_learns_accuracy_in_the_same_folds(pool: str) -> None:
    x, y = records(0, 160, 4, (0.3, 0.6, 0.8))
    groups = np.arange(160) // 2
    found = depth_figures(x, WIDTHS, NAMES, y, 4, groups=groups, k=4, pool=pool, strength=3.0, seed=2, progress=Silent())
    parts = folds(y, groups, 4, 2)
    sizes = [len(test) for _, test in parts]

    def theirs(chosen: np.ndarray) -> float:
        scale = FunctionTransformer(lambda z: z / np.sqrt(len(chosen)))
        model = make_pipeline(StandardScaler(), scale, LogisticRegression(C=3.0, tol=1e-8, max_iter=5000))
        return float(np.average(cross_val_score(model, x[:, chosen].astype(np.float64), y, cv=parts), weights=sizes))

    for i, one in enumerate(found.stages):
        assert (one.stage, one.features, one.n) == (NAMES[i], len(columns(i, pool)), 160)
        assert one.accuracy == pytest.approx(theirs(columns(i, pool)), abs=1.01 / 160)
        assert one.strengths == (3.0,) * 4
    every = np.concatenate([columns(i, pool) for i in range(3)])
    assert found.together.stage == ALL_STAGES
    assert found.together.features == len(every)
    assert found.together.accuracy == pytest.approx(theirs(every), abs=1.01 / 160)
    assert found.folds == 4


def test_differences_and_intervals_are_those_of_the_images() -> None:
    x, y = records(1, 150, 3, (1.5, 0.3, 0.5))
    found = depth_figures(x, WIDTHS, NAMES, y, 3, progress=Silent())
    assert found.right.shape == (4, 150)
    assert found.best == "low"
    for i, one in enumerate((*found.stages, found.together)):
        right = int(found.right[i].sum())
        assert one.accuracy == right / 150
        assert one.interval == wilson_interval(right, 150)
        if i != 0:
            assert (one.to_best, one.to_best_interval) == paired_difference(found.right[i], found.right[0])
        if i in (1, 2):
            assert (one.gain, one.gain_interval) == paired_difference(found.right[i], found.right[i - 1])
    assert (found.stages[0].to_best, found.stages[0].to_best_interval, found.stages[0].gain) == (0.0, (0.0, 0.0), None)
    assert found.together.gain is None
    assert found.largest_class == pytest.approx(50 / 150)
    kept = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [one["stage"] for one in kept["stages"]] == list(NAMES)
    assert kept["stages"][0]["as_good_as_best"] is True
    assert (kept["n"], kept["folds"], kept["best"], kept["cut"]) == (150, 5, "low", found.suggestion.cut)


@pytest.mark.parametrize(
    ("telling", "best", "cut"),
    [((2.0, 0.0, 0.0), "low", "middle"), ((0.5, 2.0, 0.2), "middle", "top"), ((0.1, 0.4, 0.8), "top", "none")],
)
def test_the_cut_stands_where_the_classes_separate(telling: tuple[float, float, float], best: str, cut: str) -> None:
    x, y = records(3, 300, 4, telling)
    found = depth_figures(x, WIDTHS, NAMES, y, 4, progress=Silent())
    assert (found.best, found.suggestion.cut) == (best, cut)


def test_the_same_seed_gives_the_same_figures() -> None:
    x, y = records(4, 100, 3, (0.4, 0.4, 0.4))
    first, again, other = (depth_figures(x, WIDTHS, NAMES, y, 3, seed=seed, progress=Silent()) for seed in (7, 7, 8))
    assert first.to_dict() == again.to_dict()
    assert np.array_equal(first.right, again.right)
    assert first.to_dict() != other.to_dict()


# --- the rule of the cut -------------------------------------------------------------------------------------------


def drawn(rights: list[float], n: int) -> list[Depth]:
    """Depths of stages s1, s2, ... with these accuracies on n images; the better one is right wherever the other is."""
    rows = np.array([np.arange(n) < round(share * n) for share in rights])
    best = int(np.argmax(rows.sum(1)))
    depths = []
    for i, row in enumerate(rows):
        gain: Any = paired_difference(row, rows[i - 1]) if i else (None, None)
        to_best: Any = paired_difference(row, rows[best]) if i != best else (0.0, (0.0, 0.0))
        depths.append(
            Depth(f"s{i + 1}", 8, float(row.mean()), wilson_interval(int(row.sum()), n), n, to_best[0], to_best[1], gain[0], gain[1])
        )
    return depths


@pytest.mark.parametrize(
    ("rights", "n", "cut", "word"),
    [
        # Rising to the end beyond noise: 3 of 100 more are within it, 5 are not (McNemar: 3, 5 against 3.84).
        ([0.50, 0.60, 0.70, 0.80], 100, "none", "every stage helps"),
        ([0.50, 0.60, 0.75, 0.80], 100, "none", "every stage helps"),
        ([0.50, 0.60, 0.77, 0.80], 100, "s4", "not better than s3"),
        ([0.50, 0.60, 0.80, 0.80], 100, "s4", "not better than s3"),
        # A little lower at the end, within noise: the last stage alone.
        ([0.50, 0.60, 0.80, 0.78], 100, "s4", "not better than s3"),
        # Falling beyond noise: from the stage after the peak.
        ([0.50, 0.60, 0.80, 0.70], 100, "s4", "separate best at s3"),
        ([0.50, 0.80, 0.70, 0.60], 100, "s3", "retrain s3 to s4"),
        ([0.80, 0.70, 0.60, 0.50], 100, "s2", "retrain s2 to s4"),
        # The peak is as high as noise lets it be: s3 is as good as s2.
        ([0.50, 0.80, 0.78, 0.60], 100, "s4", "as well as anywhere at s3"),
        # The same shares in a tenth of the images: noise, so no more than the last stage.
        ([0.50, 0.80, 0.70, 0.60], 20, "s4", "s4"),
        ([0.60, 0.60, 0.60, 0.60], 100, "s4", "not better than s3"),
        # Nothing is left to gain.
        ([0.50, 0.97, 0.97, 0.97], 100, "none", "all but 3 of 100"),
        ([0.50, 0.96, 0.96, 0.96], 100, "s4", "not better than s3"),
        ([1.00, 1.00], 50, "none", "all but 0 of 50"),
        # A network of one stage.
        ([0.70], 100, "none", "every stage helps"),
    ],
)
def test_the_rule_of_the_cut(rights: list[float], n: int, cut: str, word: str) -> None:
    suggestion = suggest_cut(drawn(rights, n))
    assert suggestion.cut == cut
    assert word in suggestion.reason


def test_is_as_good_and_gains_are_beyond_noise() -> None:
    low, high = drawn([0.50, 0.53], 100)
    assert (low.is_as_good, high.is_as_good, high.gains) == (True, True, False)
    low, high = drawn([0.50, 0.54], 100)
    assert (low.is_as_good, high.is_as_good, high.gains) == (False, True, True)
    assert low.gains, "the lowest stage has none below it"


def test_faults_of_the_caller_are_named() -> None:
    x, y = records(5, 40, 2, (1, 1, 1))
    with pytest.raises(OptionError, match="none"):
        suggest_cut([])
    with pytest.raises(OptionError, match=r"\(n, 48\) of 3 stages"):
        depth_figures(x[:, :-1], WIDTHS, NAMES, y, 2, progress=Silent())
    with pytest.raises(OptionError, match="of 2 stages"):
        depth_figures(x, WIDTHS, NAMES[:2], y, 2, progress=Silent())
    with pytest.raises(OptionError, match="flatten"):
        depth_figures(x, WIDTHS, NAMES, y, 2, pool="flatten", progress=Silent())
    with pytest.raises(OptionError, match="median"):
        depth_figures(x, WIDTHS, NAMES, y, 2, pool="median", progress=Silent())
