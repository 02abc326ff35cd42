"""Spreading and self-training together: on clouds whose classes are known, and against a loop written out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from greffon.datasets import folds
from greffon.errors import DataError, OptionError
from greffon.heads import Normaliser, fit_temperature, softmax
from greffon.progress import Silent
from greffon.transfer.transductive import (
    Labelled,
    Labelling,
    Spreading,
    Unlabelled,
    class_mass_normalised,
    label_by_spreading,
    neighbour_graph,
    spread,
)


def moons(each: int = 60, shots: int = 5, seed: int = 0, noise: float = 0.05) -> tuple[Labelled, Unlabelled, np.ndarray]:
    """Three arcs on a sphere that no straight line parts well from few images: labelled, unlabelled, the truth of these."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 1.6, (3, each)) + np.arange(3)[:, None] * 2.1
    height = 0.5 * np.sin(3 * angle) + 0.05 * rng.normal(size=(3, each))
    x = np.stack([np.cos(angle), np.sin(angle), height], 2).reshape(-1, 3)
    x = np.concatenate([x, noise * rng.normal(size=(3 * each, 5))], 1).astype(np.float32)
    y = np.repeat(np.arange(3), each)
    few = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:shots] for c in range(3)])
    others = np.setdiff1d(np.arange(len(y)), few)
    order = np.concatenate([few, others])
    x = Normaliser.fit(x, "l2").apply(x)
    return Labelled(x[few], y[few], 3), Unlabelled(x[others]), y[order][len(few) :]


def run(labelled: Labelled, unlabelled: Unlabelled, **options: object) -> Labelling:
    return label_by_spreading(labelled, unlabelled, progress=Silent(), **options)  # type: ignore[arg-type]


def test_it_labels_what_the_few_alone_do_not() -> None:
    gains = []
    for seed in range(5):
        labelled, unlabelled, truth = moons(shots=2, seed=seed)
        found = run(labelled, unlabelled)
        alone = LogisticRegression(C=10).fit(labelled.features, labelled.labels).predict(unlabelled.features)
        right = found.probabilities.argmax(1) == truth
        assert right[found.decided].mean() >= right.mean()
        gains.append(right.mean() - (alone == truth).mean())
    assert np.mean(gains) > 0.02, gains


def written_out(
    x: np.ndarray, known: np.ndarray, labels: np.ndarray, prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same from the parts, with scikit-learn: mean logarithms, (n, c); where both agree, (n,); the head's scores, (n, c)."""
    seeds = np.zeros((len(x), len(prior)))
    for i, c in zip(known, labels, strict=True):
        seeds[i, c] = 1
    scores = spread(neighbour_graph(x, 10), seeds, 0.9)
    spread_says = class_mass_normalised(scores, scores.sum(0), prior)
    both = spread_says
    head = None
    for share in (0.2, 0.4, 0.6, 0.8):
        train, names = list(known), list(labels)
        for c in range(len(prior)):
            mine = [i for i in range(len(x)) if i not in set(known.tolist()) and both[i].argmax() == c]
            mine.sort(key=lambda i: -(np.sort(both[i])[-1] - np.sort(both[i])[-2]))
            chosen = mine[: int(np.ceil(share * len(mine)))]
            train, names = train + chosen, names + [c] * len(chosen)
        head = LogisticRegression(C=10, class_weight="balanced", tol=1e-8, max_iter=10000).fit(x[train], names)
        both = np.sqrt(np.maximum(spread_says, 1e-9) * np.maximum(head.predict_proba(x), 1e-9))
        both /= both.sum(1, keepdims=True)
    assert head is not None
    return np.log(both), spread_says.argmax(1) == head.predict(x), head.decision_function(x)


@pytest.mark.parametrize("prior", [None, np.array([0.5, 0.3, 0.2])])
def test_it_is_the_loop_written_out(prior: np.ndarray | None) -> None:
    """On arcs so blurred that every step of the schedule, the margins and the balance of the classes count."""
    labelled, unlabelled, _ = moons(each=30, shots=4, seed=2, noise=0.5)
    own = [0, 1, 2, 4, 5, 8, 9, 10, 11]
    few = Labelled(labelled.features[own], labelled.labels[own], 3)
    x = np.concatenate([few.features, unlabelled.features])
    found = run(few, unlabelled, prior=prior, threshold=0.7)
    shares = np.array([4, 3, 5]) / 12 if prior is None else prior
    both, agree, _ = written_out(x, np.arange(9), few.labels, shares)
    # 9 are too few to learn a temperature.
    assert (found.calibrated, found.temperature) == (False, 2.0)
    np.testing.assert_allclose(found.probabilities, softmax(both[9:] / 2), atol=1e-3)
    assert (found.agree == agree[9:]).all()
    assert not agree[9:].all()
    assert (found.decided == (found.agree & (found.probabilities.max(1) >= 0.7))).all()


def test_the_temperature_is_of_folds_held_out() -> None:
    labelled, unlabelled, _ = moons(each=30, shots=4, seed=2, noise=0.5)
    x, y = np.concatenate([labelled.features, unlabelled.features]), labelled.labels
    found = run(labelled, unlabelled, seed=7)
    held, held_scores, sure = np.zeros((12, 3)), np.zeros((12, 3)), np.zeros(12, bool)
    for train, test in folds(y, None, 5, 7):
        both, agree, scores = written_out(x, train, y[train], np.full(3, 1 / 3))
        held[test], sure[test], held_scores[test] = both[test], agree[test], scores[test]
    temperature = fit_temperature(held, y)
    assert found.temperature == pytest.approx(temperature, rel=0.01)
    assert found.head.temperature == pytest.approx(fit_temperature(held_scores, y), rel=0.01)
    right = held.argmax(1) == y
    sure &= softmax(held / temperature).max(1) >= 0.6
    assert (found.tested, found.right) == (12, right.sum())
    assert (found.tested_decided, found.right_decided) == (sure.sum(), (right & sure).sum())
    assert sure.sum() == 11, "one is sure enough, but the two disagree"
    both, _, _ = written_out(x, np.arange(12), y, np.full(3, 1 / 3))
    np.testing.assert_allclose(found.probabilities, softmax(both[12:] / temperature), atol=2e-3)


def test_near_duplicates_are_not_tested_on_each_other() -> None:
    """Ten copies of one image in each class: who may learn from a copy is always right, here nobody may."""
    labelled, unlabelled, _ = moons(shots=1)
    many = Labelled(np.repeat(labelled.features, 10, 0), np.repeat(labelled.labels, 10), 3)
    assert run(many, unlabelled).right == 30
    assert run(many, unlabelled, groups=np.repeat(np.arange(3), 10)).tested == 0


def test_the_head_is_fitted_on_what_was_decided() -> None:
    labelled, unlabelled, _ = moons(shots=4)
    found = run(labelled, unlabelled)
    names = np.concatenate([labelled.labels, found.probabilities.argmax(1)[found.decided]])
    x = np.concatenate([labelled.features, unlabelled.features[found.decided]])
    theirs = LogisticRegression(C=10, class_weight="balanced", tol=1e-8, max_iter=10000).fit(x, names)
    np.testing.assert_allclose(
        softmax(found.head.scores(unlabelled.features)), theirs.predict_proba(unlabelled.features), atol=1e-3
    )


def test_the_same_seed_gives_the_same_and_a_threshold_of_one_gives_none() -> None:
    labelled, unlabelled, _ = moons()
    first, second = run(labelled, unlabelled, seed=1), run(labelled, unlabelled, seed=1)
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert not run(labelled, unlabelled, threshold=1.0).decided.any()
    assert (run(labelled, unlabelled, threshold=0.0).decided == first.agree).all()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_unlabelled_images_and_one_label_a_class(count: int) -> None:
    labelled, unlabelled, _ = moons(shots=1)
    found = run(labelled, Unlabelled(unlabelled.features[:count]), spreading=Spreading(500, 0.99))
    assert found.probabilities.shape == (count, 3)
    np.testing.assert_allclose(found.probabilities.sum(1), 1)
    assert not found.calibrated


def test_a_class_without_labelled_images_is_given_to_none() -> None:
    labelled, unlabelled, _ = moons()
    found = run(Labelled(labelled.features, labelled.labels, 4), unlabelled)
    assert (found.probabilities.argmax(1) < 3).all()
    assert found.probabilities[:, 3].max() < 0.02


def test_what_cannot_be_is_said() -> None:
    labelled, unlabelled, _ = moons()
    one = Labelled(labelled.features[:5], labelled.labels[:5] * 0, 3)
    with pytest.raises(DataError, match="two classes or more"):
        run(one, unlabelled)
    with pytest.raises(DataError, match="8 features, the unlabelled 7"):
        run(labelled, Unlabelled(unlabelled.features[:, :7]))
    for prior in (np.array([0.5, 0.5]), np.array([1.0, 0, 0]), np.array([0.5, 0.5, 0.5])):
        with pytest.raises(DataError, match="3 positive shares that sum to 1"):
            run(labelled, unlabelled, prior=prior)
    with pytest.raises(OptionError, match="threshold must be from 0 to 1, got 2"):
        run(labelled, unlabelled, threshold=2.0)
