"""The choice by cross-validation: what it chooses, on what, and that it repeats itself."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

import greffon.transfer.inductive.probing as probing
from greffon.datasets import folds
from greffon.errors import OptionError
from greffon.heads import HEADS, NORMS, Normaliser, Representation
from greffon.progress import Silent
from greffon.transfer.inductive import CANDIDATES, Probe, cross_validate, fit_probe, representations, should_balance

WIDTHS = (6, 8, 10)


def records(
    seed: int, n: int, classes: int, widths: tuple[int, ...] = WIDTHS, where: str = "all", noise: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Pooled records, (n, sum of 2 c) and at least 0 as after a ReLU; the classes differ in all stages or in the first alone."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    d = 2 * sum(widths)
    centre = np.random.default_rng(99).normal(size=(classes, d))
    if where == "first":
        centre[:, 2 * widths[0] :] = 0
    return np.abs(centre[y] + noise * rng.normal(size=(n, d)) + 1).astype(np.float32), y.astype(np.int64)


def digest(probe: Probe) -> str:
    parts = [*probe.head.arrays().values(), probe.normaliser.mean, probe.normaliser.scale, np.array(probe.head.temperature)]
    return hashlib.sha256(b"".join(array.tobytes() for array in parts) + repr(probe.trials).encode()).hexdigest()


@pytest.mark.parametrize("head", HEADS)
def test_a_probe_learns_and_repeats_itself_to_the_byte(head: str) -> None:
    x, y = records(0, 150, 4)
    other, truth = records(1, 300, 4)
    probe = fit_probe(x, WIDTHS, y, 4, head=head, progress=Silent())
    with threadpool_limits(1):
        again = fit_probe(x, WIDTHS, y, 4, head=head, progress=Silent())
    assert digest(probe) == digest(again)
    assert digest(probe) != digest(fit_probe(x, WIDTHS, y, 4, head=head, progress=Silent(), seed=1))
    probabilities = probe.probabilities(other, WIDTHS)
    assert probabilities.shape == (300, 4)
    assert probabilities.sum(1) == pytest.approx(np.ones(300))
    assert (probabilities.argmax(1) == truth).mean() > 0.85
    best = [t for t in probe.trials if (t.representation, t.strength, t.folds) == (probe.representation, probe.strength, 5)]
    assert len(best) == 1
    assert best[0].accuracy > 0.85


def test_the_threads_of_the_products_are_as_before() -> None:
    before = [library["num_threads"] for library in threadpool_info()]
    fit_probe(*_swap(records(0, 40, 2)), 2, progress=Silent())
    assert [library["num_threads"] for library in threadpool_info()] == before


def _swap(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, tuple[int, ...], np.ndarray]:
    return pair[0], WIDTHS, pair[1]


def test_what_differs_in_low_stages_alone_takes_all_stages() -> None:
    x, y = records(2, 240, 4, where="first", noise=0.5)
    assert fit_probe(x, WIDTHS, y, 4, progress=Silent()).representation.stages == "all"


@pytest.mark.parametrize("n", [30, 200])
def test_the_fitted_head_is_scikit_learns_on_the_chosen_features(n: int) -> None:
    x, y = records(3, n, 3)
    only = Representation("all", "mean+max", "standard")
    probe = fit_probe(x, WIDTHS, y, 3, representations=[only], strength=10.0, balanced=False, progress=Silent())
    features = Normaliser.fit(only.take(x, WIDTHS), "standard").apply(only.take(x, WIDTHS)).astype(np.float64)
    theirs = LogisticRegression(C=10.0, tol=1e-9, max_iter=10000).fit(features, y)
    assert probe.head.scores(features.astype(np.float32)) - probe.head.scores(features.astype(np.float32)).mean(1, keepdims=True) == (
        pytest.approx(theirs.decision_function(features), abs=5e-3)
    )
    # The choice on a part of the images, the fit on all of them.
    sampled = fit_probe(x, WIDTHS, y, 3, representations=[only], strength=10.0, balanced=False, most=20, progress=Silent())
    assert sampled.head.arrays()["weight"] == pytest.approx(probe.head.arrays()["weight"], abs=5e-3)


def test_scores_out_of_fold_are_scikit_learns() -> None:
    x, y = records(4, 90, 3)
    x = Normaliser.fit(x, "standard").apply(x)
    groups = np.arange(90) // 2
    scores = cross_validate("logistic", x, y, groups, 3, (1.0, 10.0), k=3, seed=5)
    assert scores.shape == (2, 90, 3)
    for i, strength in enumerate((1.0, 10.0)):
        for train, test in folds(y, groups, 3, 5):
            assert not set(groups[train]) & set(groups[test])
            theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=10000).fit(x[train].astype(np.float64), y[train])
            mine = scores[i, test] - scores[i, test].mean(1, keepdims=True)
            assert mine == pytest.approx(theirs.decision_function(x[test].astype(np.float64)), abs=0.02)


@pytest.mark.parametrize("head", HEADS)
def test_copies_do_not_help_where_groups_keep_them_together(head: str) -> None:
    # Pure noise, each image ten times: only a leak between the folds could be right more often than chance.
    rng = np.random.default_rng(6)
    x = np.repeat(rng.normal(size=(40, 30)), 10, axis=0).astype(np.float32)
    y = np.repeat(np.arange(40) % 2, 10)
    strength = 1.0
    right = [(cross_validate(head, x, y, g, 2, (strength,), k=5)[0].argmax(1) == y).mean() for g in (np.arange(400) // 10, np.arange(400))]
    assert right[0] < 0.75
    if head == "knn":
        assert right[1] == 1.0


def test_one_image_of_a_class_leaves_the_probabilities_of_the_others_alone() -> None:
    x, y = records(7, 120, 3)
    only = CANDIDATES[-1:]
    probe = fit_probe(x, WIDTHS, y, 3, balanced=False, representations=only, strength=3.0, progress=Silent())
    lone = np.abs(np.random.default_rng(0).normal(size=(1, x.shape[1])) * 3).astype(np.float32)
    joined = np.concatenate([x, lone])
    more = fit_probe(joined, WIDTHS, np.append(y, 3), 4, balanced=False, representations=only, strength=3.0, progress=Silent())
    # Its own score out of fold, by heads that have never seen its class, would ask for a temperature of 54.
    assert more.head.temperature == pytest.approx(probe.head.temperature, rel=0.35)
    assert more.probabilities(lone, WIDTHS).argmax() == 3


def test_the_least_that_can_be_learned_from() -> None:
    x, _ = records(8, 2, 2)
    for head in HEADS:
        probe = fit_probe(x, WIDTHS, np.array([0, 1]), 2, head=head, progress=Silent())
        assert np.isfinite(probe.probabilities(x, WIDTHS)).all()
        assert probe.probabilities(x, WIDTHS).argmax(1).tolist() == [0, 1]


def test_flattened_maps_in_bfloat16() -> None:
    rng = np.random.default_rng(9)
    y = np.arange(40) % 2
    maps = (rng.normal(size=(40, 6, 4, 4)) + y[:, None, None, None]).astype(np.float32)
    bits = (maps.view(np.uint32) >> 16).astype(np.uint16)
    probe = fit_probe(bits, (6,), y, 2, representations=representations("flatten", "auto", "standard"), progress=Silent())
    assert (probe.probabilities(bits, (6,)).argmax(1) == y).all()


def test_balance_lifts_the_rare_class() -> None:
    assert should_balance(np.array([0, 0, 1]))
    assert not should_balance(np.array([0, 0, 0, 1, 1]))
    x, y = records(10, 400, 2, noise=4.0)
    kept = np.flatnonzero((y == 0) | (np.arange(400) % 8 == 0))
    x, y = x[kept], y[kept]
    other, truth = records(11, 600, 2, noise=4.0)
    found = {}
    for even in (False, True, None):
        probe = fit_probe(x, WIDTHS, y, 2, balanced=even, strength=1.0, representations=CANDIDATES[-1:], progress=Silent())
        assert probe.balanced == (even is not False)
        found[even] = (probe.probabilities(other, WIDTHS).argmax(1) == 1)[truth == 1].mean()
    assert found[True] > found[False] + 0.1
    assert found[None] == found[True]


def test_candidates_follow_what_the_user_has_fixed() -> None:
    assert representations("auto", "auto", "auto") == CANDIDATES
    assert representations("max", "last", "l2") == (Representation("last", "max", "l2"),)
    assert representations("flatten", "auto", "standard") == (Representation("last", "flatten", "standard"),)
    assert {r.norm for r in representations("mean", "last", "auto")} == set(NORMS)
    for words in (("min", "auto", "auto"), ("auto", "first", "auto"), ("auto", "auto", "l1"), ("flatten", "all", "l2")):
        with pytest.raises(OptionError):
            representations(*words)


def test_faults_of_the_caller_are_named() -> None:
    x, y = records(12, 20, 2)
    with pytest.raises(OptionError, match="two classes"):
        fit_probe(x, WIDTHS, np.zeros(20, np.int64), 2, progress=Silent())
    with pytest.raises(OptionError, match="head"):
        fit_probe(x, WIDTHS, y, 2, head="forest", progress=Silent())
    with pytest.raises(OptionError, match="representation"):
        fit_probe(x, WIDTHS, y, 2, representations=(), progress=Silent())
    with pytest.raises(OptionError, match="strength"):
        fit_probe(x, WIDTHS, y, 2, strength=-1.0, progress=Silent())


def test_sampling_keeps_every_class() -> None:
    y = np.repeat([0, 1, 2], [5000, 500, 4])
    some = probing._sample(y, 1000, 0)
    assert np.array_equal(some, np.unique(some))
    assert np.bincount(y[some]).tolist() == [round(5000 * 1000 / 5504), round(500 * 1000 / 5504), 4]
    assert np.array_equal(some, probing._sample(y, 1000, 0))


@pytest.mark.slow
def test_the_choice_on_a_record_of_vgg16_takes_seconds() -> None:
    widths = (64, 128, 256, 512, 512)
    x, y = records(13, 1800, 6, widths, noise=3.0)
    started = time.process_time()
    fit_probe(x, widths, y, 6, progress=Silent())
    assert time.process_time() - started < 40  # 12 on one core of the machine it was written on
