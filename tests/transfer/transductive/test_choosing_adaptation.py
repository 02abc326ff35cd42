"""Which adaptation, if any: on drawn records where the answer is known, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from clouds import logistic
from greffon.errors import OptionError
from greffon.heads import LinearHead
from greffon.progress import Silent
from greffon.transfer.transductive import (
    LOOKS,
    METHODS,
    VOTERS,
    Adapted,
    a_distance,
    adapt_features,
    choosing,
    density_ratio,
    has_pot,
    look_at,
    per_domain,
    soft_neighbourhood_density,
    weighted_validation,
)

WIDTHS = (4, 16)


def records(
    n: int = 120, m: int = 100, classes: int = 4, *, move: float = 0.0, turn: float = 0.0, noise: float = 0.35,
    mixed: Sequence[float] | None = None, apart: float = 1.0, seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Pooled records of stages of 4 and 16 channels, float32 (n, 40), as after a ReLU: source, its labels, target, truth."""
    rng = np.random.default_rng(seed)
    d = WIDTHS[-1]
    centres = rng.normal(size=(classes, d)) * apart
    y = rng.permutation(np.arange(n) % classes)
    share = np.full(classes, 1 / classes) if mixed is None else np.asarray(mixed)
    truth = rng.permutation(np.searchsorted(np.cumsum(share)[:-1] * m, np.arange(m) + 0.5))
    mixing, offset = np.eye(d) + rng.normal(size=(d, d)) * turn / np.sqrt(d), rng.normal(size=d) * move

    def pooled(labels: np.ndarray, *, there: bool) -> np.ndarray:
        z = centres[labels] + rng.normal(size=(len(labels), d)) * noise
        means = np.log1p(np.exp(z @ mixing + offset if there else z))
        largest = means * (1.5 + 0.1 * np.abs(rng.normal(size=means.shape)))
        return np.concatenate([rng.random((len(labels), 8)), means, largest], 1).astype(np.float32)

    return pooled(y, there=False), y, pooled(truth, there=True), truth


SHIFTED = records(move=1.5, turn=0.6, noise=0.7)


def adapted(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], method: str = "auto", classes: int = 4, seed: int = 0,
    progress: Silent | None = None,
) -> Adapted:  # fmt: skip
    source, y, target, _ = drawn
    return adapt_features(source, y, classes, target, WIDTHS, method=method, seed=seed, progress=progress or Silent())


def accuracy(probabilities: np.ndarray, truth: np.ndarray) -> float:
    return float((probabilities.argmax(1) == truth).mean())


def check(found: Adapted, target: np.ndarray, classes: int) -> None:
    """What holds of every answer."""
    for told in (found.probabilities, found.source_only):
        assert told.shape == (len(target), classes)
        np.testing.assert_allclose(told.sum(1), 1, atol=1e-9)
    features = found.representation.take(target, WIDTHS)
    np.testing.assert_allclose(
        found.head.probabilities(found.normaliser.apply(features)), found.probabilities, atol=1e-9
    )
    assert found.proportions.shape == (classes,)
    assert found.proportions.sum() == pytest.approx(1)
    assert 0 <= found.agreement <= 1
    assert 0 <= found.distance <= 2
    for row in found.evidence:
        values = (row.reverse, row.weighted, row.information, row.density, row.agreement, row.even, row.seconds)
        assert np.isfinite(values).all()
        assert min(row.reverse, row.weighted, row.agreement, row.even) >= 0


# --- what auto chooses ------------------------------------------------------------------------------------------------


def test_a_shift_is_adapted_to_by_consensus() -> None:
    found = adapted(SHIFTED)
    assert (found.method, found.adapted) == ("consensus", True)
    assert "the methods agree" in found.why
    assert accuracy(found.probabilities, SHIFTED[3]) > accuracy(found.source_only, SHIFTED[3]) + 0.03
    assert accuracy(found.probabilities, SHIFTED[3]) > 0.97
    check(found, SHIFTED[2], 4)
    voters = [name for name in VOTERS if name != "optimal-transport" or has_pot()]
    assert [row.name for row in found.evidence] == ["source-only", "coral", "mixture", *voters, "consensus"]
    assert found.evidence[-1].agreement == 1
    assert found.distance > 1


def test_the_same_again() -> None:
    first, second = adapted(SHIFTED, seed=3), adapted(SHIFTED, seed=3)
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert isinstance(first.head, LinearHead)
    assert first.head.temperature == second.head.temperature
    assert [(row.name, row.reverse, row.weighted, row.density) for row in first.evidence] == [
        (row.name, row.reverse, row.weighted, row.density) for row in second.evidence
    ]


def test_nothing_is_adapted_where_the_domains_are_alike() -> None:
    drawn = records(160, 160, noise=0.7)
    found = adapted(drawn)
    assert (found.method, found.adapted) == ("source-only", False)
    assert "no gain expected" in found.why
    np.testing.assert_array_equal(found.probabilities, found.source_only)
    check(found, drawn[2], 4)
    same = adapted((drawn[0], drawn[1], drawn[0], drawn[1]))
    assert not same.adapted


def test_nothing_is_adapted_where_nothing_would_change() -> None:
    drawn = records(move=0.4, noise=0.1)
    found = adapted(drawn)
    assert (found.method, found.adapted) == ("source-only", False)
    assert "would change nothing" in found.why
    assert found.distance > 0.3


def test_other_proportions_are_taken_for_what_they_are() -> None:
    drawn = records(160, 140, move=0.4, noise=0.5, mixed=(0.85, 0.05, 0.05, 0.05))
    found = adapted(drawn)
    assert (found.method, found.adapted) == ("mixture", True)
    assert "mixed otherwise" in found.why
    assert accuracy(found.probabilities, drawn[3]) > 0.95
    np.testing.assert_allclose(np.bincount(found.probabilities.argmax(1)) / 140, (0.85, 0.05, 0.05, 0.05), atol=0.05)


def test_alignment_alone_where_the_methods_do_not_agree() -> None:
    """Noise on both sides, another on each look."""
    rng = np.random.default_rng(0)
    source, target = rng.random((160, 40)).astype(np.float32), (rng.random((140, 40)) ** 2).astype(np.float32)
    found = adapted((source, np.arange(160) % 12, target, np.arange(140)), classes=12)
    assert (found.method, found.adapted) == ("coral", True)
    assert "agree on too little" in found.why
    assert found.agreement < 0.5
    check(found, target, 12)


# --- a method that is asked for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_every_method_may_be_asked_for(name: str) -> None:
    if name == "optimal-transport" and not has_pot():
        pytest.skip("POT is not installed")
    found = adapted(SHIFTED, name)
    assert found.method == name
    assert found.adapted == (name != "source-only")
    assert found.why == "as --method asks"
    assert [row.name for row in found.evidence] == list(dict.fromkeys(["source-only", name]))
    assert accuracy(found.probabilities, SHIFTED[3]) >= accuracy(found.source_only, SHIFTED[3]) - 0.02
    check(found, SHIFTED[2], 4)


def test_an_unknown_method_is_said_with_those_that_are_known() -> None:
    with pytest.raises(OptionError, match="must be auto or one of") as caught:
        adapted(SHIFTED, "deep-magic")
    assert all(name in str(caught.value) for name in METHODS)
    assert "'deep-magic'" in str(caught.value)


def test_one_class_is_not_enough() -> None:
    source, y, target, truth = SHIFTED
    with pytest.raises(OptionError, match="at least two classes"):
        adapted((source, np.zeros_like(y), target, truth))


def test_without_pot_it_is_said_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "has_pot", lambda: False)
    progress = Silent()
    found = adapted(SHIFTED, progress=progress)
    assert len(progress.warnings) == 1
    assert "POT is not installed" in progress.warnings[0]
    assert found.method == "consensus"
    assert "optimal-transport" not in [row.name for row in found.evidence]
    assert accuracy(found.probabilities, SHIFTED[3]) > 0.97


# --- the head ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["auto", "self-training", "coral"])
def test_mean_confidence_is_the_agreement(name: str) -> None:
    found = adapted(records(move=1.0, turn=0.8, noise=1.3, seed=1), name)
    assert found.adapted
    wanted = np.clip(found.agreement, 1.2 / 4, 0.995)
    assert found.probabilities.max(1).mean() == pytest.approx(wanted, abs=1e-3)
    assert found.agreement < 0.99
    np.testing.assert_allclose(found.proportions, found.probabilities.mean(0))


def test_the_source_only_head_is_scikit_learns_with_a_temperature() -> None:
    """On the last look, each image's vector of length one; the temperature does not rename."""
    source, y, target, _ = SHIFTED
    found = adapted(SHIFTED, "source-only")
    look = look_at(source, y, 4, target, WIDTHS)[-1]
    centre = look.source.features.mean(0)
    length = np.sqrt(look.source.features.var(0).sum())
    own, other = ((x - centre) / length for x in (look.source.features, look.target.features))
    assert isinstance(found.head, LinearHead)
    theirs = np.log(logistic(own, y, other))
    theirs = np.exp(theirs / found.head.temperature)
    np.testing.assert_allclose(found.source_only, theirs / theirs.sum(1, keepdims=True), atol=1e-3)
    assert found.representation == LOOKS[-1]


def test_of_many_images_some_are_learned_from_and_all_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = records(300, 260, move=1.0, turn=0.5, noise=0.7)
    monkeypatch.setattr(choosing, "_MOST", 90)
    seen: list[tuple[int, int]] = []
    real = choosing.look_at

    def watched(source: np.ndarray, labels: np.ndarray, classes: int, target: np.ndarray, widths: Sequence[int]):
        seen.append((len(source), len(target)))
        return real(source, labels, classes, target, widths)

    monkeypatch.setattr(choosing, "look_at", watched)
    found = adapted(drawn)
    assert len(seen) == 1
    assert abs(seen[0][0] - 90) <= 4
    assert seen[0][1] == 90
    assert len(found.probabilities) == 260
    assert accuracy(found.probabilities, drawn[3]) > 0.95
    check(found, drawn[2], 4)


def test_a_sample_has_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_MOST", 20)
    labels = np.repeat([0, 1, 2, 3], [900, 90, 9, 1])
    some = choosing._some(labels, 1000, 0)
    assert np.bincount(labels[some]).tolist() == [18, 2, 2, 1]
    assert (np.diff(some) > 0).all()
    assert len(choosing._some(None, 1000, 0)) == 20
    assert choosing._some(labels[:20], 20, 0).tolist() == list(range(20))


# --- the evidence -----------------------------------------------------------------------------------------------------


def test_evidence_by_hand() -> None:
    """Of CORAL: its guesses on the three looks joined, learned in the target, asked of the source."""
    source, y, target, _ = drawn = records(move=1.0, turn=0.8, noise=1.6, seed=1)
    found = adapted(drawn, "coral")
    looks = look_at(source, y, 4, target, WIDTHS)
    told = [METHODS["coral"][0].probabilities(one.source, one.target, 0) for one in looks]
    guess = np.mean(told, axis=0).argmax(1)
    own, other = per_domain(looks[-1].source.features, looks[-1].target.features)
    back = logistic(other, guess, own).argmax(1)
    row = found.evidence[1]
    assert row.name == "coral"
    assert row.reverse < 0.97, "else a head that was never asked back would look the same"
    assert row.weighted == pytest.approx(
        weighted_validation(back == y, density_ratio(looks[-1].source.features, looks[-1].target.features)), abs=1e-9
    )
    assert row.reverse == pytest.approx(np.mean([(back[y == c] == c).mean() for c in range(4)]), abs=1e-9)
    share = np.array([(guess == c).mean() for c in range(4)])
    assert row.even == pytest.approx(-(share * np.log(share)).sum() / np.log(4))
    assert row.density == pytest.approx(soft_neighbourhood_density(logistic(other, guess, other)), abs=1e-3)
    votes = np.stack([one.argmax(1) for one in told])
    assert found.agreement <= np.mean([np.bincount(column).max() / 3 for column in votes.T]) + 1e-9
    assert found.agreement > 0.7
    assert found.distance == a_distance(looks[-1].source.features, looks[-1].target.features, 0)


def test_every_setting_on_every_look_is_a_step() -> None:
    class Counting:
        def __init__(self) -> None:
            self.events: list[int | str] = []

        def begin(self, task: str, total: int) -> None:
            self.events.append(total)

        def advance(self, steps: int = 1) -> None:
            self.events.append("step")

        def end(self) -> None:
            self.events.append("end")

        def say(self, text: str) -> None:
            pass

        def warn(self, text: str) -> None:
            pass

    counting = Counting()
    source, y, target, _ = SHIFTED
    adapt_features(source, y, 4, target, WIDTHS, method="spl", progress=counting)
    assert counting.events == [9, *["step"] * 9, "end"]  # source-only and two settings, on three looks


# --- hard cases -------------------------------------------------------------------------------------------------------

SOURCE, Y, TARGET, TRUTH = SHIFTED


@pytest.mark.parametrize(
    ("source", "y", "target", "classes"),
    [
        pytest.param(SOURCE, Y, TARGET[:1], 4, id="a target of one"),
        pytest.param(SOURCE, Y, TARGET[:5], 4, id="a target of five"),
        pytest.param(SOURCE, Y, TARGET, 6, id="classes without images"),
        pytest.param(SOURCE, Y, TARGET[TRUTH == 2], 4, id="one class in the target"),
        pytest.param(SOURCE, Y, np.repeat(TARGET[:1], 30, 0), 4, id="one image many times"),
        pytest.param(SOURCE, Y, np.zeros_like(TARGET), 4, id="black images"),
        pytest.param(np.zeros_like(SOURCE), Y, np.zeros_like(TARGET), 4, id="nothing but black images"),
        pytest.param(SOURCE[:2], np.array([0, 3]), TARGET, 4, id="an image of each of two classes"),
        pytest.param(SOURCE[Y < 2], Y[Y < 2], TARGET[TRUTH < 2], 2, id="two classes"),
    ],
)
def test_whatever_is_given_there_is_an_answer(
    source: np.ndarray, y: np.ndarray, target: np.ndarray, classes: int
) -> None:
    found = adapted((source, y, target, y), classes=classes)
    check(found, target, classes)
    absent = np.setdiff1d(np.arange(classes), y)
    assert not np.isin(found.probabilities.argmax(1), absent).any()
