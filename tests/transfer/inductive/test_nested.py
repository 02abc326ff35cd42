"""The nested cross-validation: its numbers, and that nothing is chosen on what it is measured on."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from greffon.datasets import folds
from greffon.errors import OptionError
from greffon.heads import Representation
from greffon.progress import Silent
from greffon.transfer.inductive import fit_probe, predict_out_of_fold

WIDTHS = (5, 7)


def records(seed: int, n: int, classes: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Pooled records, (n, 24), and the class of each."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    centre = np.random.default_rng(99).normal(size=(classes, 24))
    return np.abs(centre[y] + noise * rng.normal(size=(n, 24)) + 1).astype(np.float32), y.astype(np.int64)


@pytest.mark.parametrize("strength", [0.3, 10.0])
def test_it_predicts_what_scikit_learn_predicts_in_the_same_folds(strength: float) -> None:
    x, y = records(0, 150, 3)
    groups = np.arange(150) // 2
    only = Representation("all", "mean", "standard")
    told = predict_out_of_fold(
        x, WIDTHS, y, 3, groups=groups, k=4, representations=(only,), strength=strength, balanced=False, seed=3, progress=Silent()
    )
    # The means stand first in each stage's part of the record; every feature has variance 1 / d after the norm.
    means = np.concatenate([x[:, :5], x[:, 10:17]], 1).astype(np.float64)
    theirs = make_pipeline(
        StandardScaler(), FunctionTransformer(lambda z: z / np.sqrt(12)), LogisticRegression(C=strength, tol=1e-8, max_iter=5000)
    )
    expected = np.asarray(cross_val_predict(theirs, means, y, cv=folds(y, groups, 4, 3)))
    assert (told.predicted == expected).mean() > 0.99
    assert np.mean(told.predicted == y) == pytest.approx(np.mean(expected == y), abs=0.01)
    assert 0.5 < np.mean(expected == y) < 0.99, "a set in which nothing can go wrong shows nothing"
    assert told.chosen == ((only, strength),) * 4
    for number, (_, test) in enumerate(folds(y, groups, 4, 3)):
        assert (told.folds[test] == number).all()
        assert len(set(told.folds[test])) == 1


def test_each_fold_chooses_as_fit_probe_does_on_its_training_images_alone() -> None:
    x, y = records(1, 90, 3)
    told = predict_out_of_fold(x, WIDTHS, y, 3, k=3, seed=1, progress=Silent())
    for number, (train, test) in enumerate(folds(y, None, 3, 1)):
        # Whatever stands in the held-out rows, the probe cannot know it.
        probe = fit_probe(x[train], WIDTHS, y[train], 3, groups=train, seed=1, progress=Silent())
        assert told.chosen[number] == (probe.representation, probe.strength)
        assert np.array_equal(told.predicted[test], probe.probabilities(x[test], WIDTHS).argmax(1))


def test_choosing_among_much_does_not_flatter_noise() -> None:
    right = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x, y = rng.exponential(size=(60, 24)).astype(np.float32), np.arange(60) % 2
        right.append((predict_out_of_fold(x, WIDTHS, y, 2, k=3, seed=seed, progress=Silent()).predicted == y).mean())
    assert np.mean(right) == pytest.approx(0.5, abs=0.1)


def test_copies_stay_in_one_fold() -> None:
    rng = np.random.default_rng(5)
    x = np.repeat(rng.exponential(size=(40, 24)), 5, axis=0).astype(np.float32)
    y, groups = np.repeat(np.arange(40) % 2, 5), np.arange(200) // 5
    told = predict_out_of_fold(x, WIDTHS, y, 2, groups=groups, head="knn", representations=[Representation()], progress=Silent())
    assert all(len(set(told.folds[groups == g])) == 1 for g in range(40))
    assert (told.predicted == y).mean() < 0.75
    apart = predict_out_of_fold(x, WIDTHS, y, 2, head="knn", representations=[Representation()], progress=Silent())
    assert (apart.predicted == y).mean() > 0.95, "else the copies would prove nothing"


def test_faults_of_the_caller_are_named() -> None:
    x, y = records(2, 30, 3)
    with pytest.raises(OptionError, match="at least 2"):
        predict_out_of_fold(x, WIDTHS, y, 3, k=1, progress=Silent())
    with pytest.raises(OptionError, match="two folds"):
        predict_out_of_fold(x, WIDTHS, y, 3, groups=np.zeros(30, np.int64), progress=Silent())
    with pytest.raises(OptionError, match="head"):
        predict_out_of_fold(x, WIDTHS, y, 3, head="forest", progress=Silent())
