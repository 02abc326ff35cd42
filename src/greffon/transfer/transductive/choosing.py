"""Which adaptation, if any: decided without a label of the target, with the evidence."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from threadpoolctl import threadpool_limits

from greffon.datasets import sample_by_class
from greffon.errors import OptionError
from greffon.heads import LinearHead, Normaliser, Representation, fit_head, fit_temperature, softmax
from greffon.progress import Progress
from greffon.settings import processors
from greffon.transfer.transductive.adapting import FeatureMethod, learn_and_tell
from greffon.transfer.transductive.agreeing import consensus
from greffon.transfer.transductive.aligning import per_domain
from greffon.transfer.transductive.graphs import a_distance
from greffon.transfer.transductive.methods import METHODS, Domains, look_at
from greffon.transfer.transductive.transport import has_pot
from greffon.transfer.transductive.validating import (
    density_ratio,
    information_maximisation,
    soft_neighbourhood_density,
    weighted_validation,
)

__all__ = ["VOTERS", "Adapted", "Evidence", "adapt_features", "temperature_for"]

#: Whose guesses ``auto`` joins: five ways to follow the target's own structure, which err differently.
VOTERS = ("optimal-transport", "self-training", "meda", "spl")

#: Share of votes for the winner below which the structure of the target tells nothing, and alignment alone is used.
_AGREEMENT = 0.5
#: The two domains cannot be told apart below this proxy A-distance, of at most 2.
_APART = 0.3
#: Images of the target below which nothing is learned from it.
_FEW = 10
#: Images of each domain that methods learn from, at most; the head that is kept answers for all others.
_MOST = 4000


@final
@dataclass(frozen=True, slots=True)
class Evidence:
    """What can be said of one way without a label of the target. Of all but ``entropy`` higher is better.

    Parameters
    ----------
    name
        Of the method, or ``"consensus"``.
    reverse
        Reverse validation: balanced accuracy on the source of a head that learned the method's guesses in the target alone
        (Zhong et al. 2010, ECML).
    weighted
        The same, weighted towards what is like the target (deep embedded validation).
    information, density
        Information maximisation and soft neighbourhood density of that head's probabilities in the target.
    agreement
        Share of target images on which it agrees with the consensus.
    even
        Entropy of the guessed proportions over that of even ones: 1, all classes alike often.
    seconds
        That it took.
    """

    name: str
    reverse: float
    weighted: float
    information: float
    density: float
    agreement: float
    even: float
    seconds: float


@final
@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """A head for the target, and why it is this one.

    Parameters
    ----------
    method
        Whose guesses the head learned: a name of ``METHODS`` or ``"consensus"``.
    adapted
        Whether anything was adapted: else the head is the source's.
    why
        One sentence.
    probabilities, source_only
        float64 (m, c): of the target, by this head and by the source's own.
    agreement
        The mean share of votes for the winning class. About so many images are named rightly, if the methods err
        independently; the temperature of the head is set by it.
    distance
        Proxy A-distance of the domains: 0, they cannot be told apart; 2, always.
    proportions
        float64 (c,): of the classes in the target, as estimated.
    """

    method: str
    adapted: bool
    why: str
    representation: Representation
    normaliser: Normaliser
    head: LinearHead
    probabilities: np.ndarray
    source_only: np.ndarray
    evidence: tuple[Evidence, ...]
    agreement: float
    distance: float
    proportions: np.ndarray


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Guess:
    """Of one method: a vote and a reverse validation for each setting and representation, and all of them as one."""

    votes: tuple[np.ndarray, ...]
    reverse: tuple[float, ...]
    joined: np.ndarray  # float64 (m, c)
    seconds: float


def adapt_features(
    source: np.ndarray,
    labels: np.ndarray,
    classes: int,
    target: np.ndarray,
    widths: Sequence[int],
    *,
    method: str = "auto",
    seed: int = 0,
    progress: Progress,
) -> Adapted:
    """Adapt a head from a labelled domain to one without labels, on pooled records of the frozen part.

    ``auto`` joins the guesses of ``VOTERS``, each on every one of ``LOOKS``, to a consensus, and learns it. If another
    mixture of the classes explains the target better, that is used. If the voters do not agree, the target's structure tells
    nothing, and correlation alignment alone is used. If the domains cannot be told apart, or nothing would change, the
    source's own head is kept.

    Parameters
    ----------
    source, target
        float32 (n, d) and (m, d): records with the pooled outputs of stages of ``widths`` channels.
    labels
        int64 (n,).
    classes
        How many there are.
    method
        ``"auto"`` or a name of ``METHODS``.

    Raises
    ------
    OptionError
        The method is not known, or fewer than two classes have images in the source.
    """
    if method != "auto" and method not in METHODS:
        raise OptionError(f"--method must be auto or one of {', '.join(METHODS)}, got {method!r}")
    present = np.unique(labels)
    if len(present) < 2:
        raise OptionError("adapt: the source needs images of at least two classes")
    # One thread for each product, and the methods side by side: the same result however many processors there are.
    with threadpool_limits(1, user_api="blas"):
        return _adapted(source, labels, classes, target, widths, method, seed, progress)


def _adapted(
    source: np.ndarray,
    labels: np.ndarray,
    classes: int,
    target: np.ndarray,
    widths: Sequence[int],
    method: str,
    seed: int,
    progress: Progress,
) -> Adapted:
    mine, theirs = _some(labels, len(labels), seed), _some(None, len(target), seed)
    looks = look_at(source[mine], labels[mine], classes, target[theirs], widths)
    whole = looks[-1]
    distance = a_distance(whole.source.features, whole.target.features, seed)
    names = _names(method, progress)
    progress.begin("Adapting", sum(len(METHODS[name]) for name in names) * len(looks))
    aligned = per_domain(whole.source.features, whole.target.features)
    with ThreadPoolExecutor(_workers()) as pool:
        begun = {
            name: [pool.submit(_one, setting, look, aligned, seed) for look in looks for setting in METHODS[name]]
            for name in names
        }
        guesses = {name: _joined(begun[name], progress) for name in names}
    progress.end()
    if method == "auto":
        belief, agreement = _vote([guesses[name] for name in names if name in VOTERS], classes)
        chosen, adapted, why = _decide(guesses, belief, agreement, distance)
        joined = belief if chosen == "consensus" else guesses[chosen].joined
    else:
        belief, agreement = _vote([guesses[method]], classes)
        joined, chosen, adapted = guesses[method].joined, method, method != "source-only"
        why = "as --method asks"
    shown = {
        **{name: one.joined for name, one in guesses.items()},
        **({"consensus": belief} if method == "auto" else {}),
    }
    seconds = {name: one.seconds for name, one in guesses.items()}
    evidence = _evidence(shown, seconds, belief, whole, aligned, seed)
    representation = whole.representation
    own = representation.take(source, widths)
    source_normaliser, source_head = _source_head(own, labels, classes, representation, seed)
    other = representation.take(target, widths)
    source_only = source_head.probabilities(source_normaliser.apply(other))
    if not adapted:
        return Adapted(chosen, False, why, representation, source_normaliser, source_head, source_only, source_only,
                       evidence, agreement, distance, source_only.mean(0))  # fmt: skip
    normaliser = Normaliser.fit(other[theirs], representation.norm)
    head = _target_head(normaliser.apply(other[theirs]), joined, classes, agreement)
    probabilities = head.probabilities(normaliser.apply(other))
    return Adapted(chosen, True, why, representation, normaliser, head, probabilities, source_only, evidence, agreement,
                   distance, probabilities.mean(0))  # fmt: skip


def _names(method: str, progress: Progress) -> list[str]:
    if method != "auto":
        return list(dict.fromkeys(("source-only", method)))
    names = ["source-only", "coral", "mixture", *VOTERS]
    if not has_pot():
        progress.warn('POT is not installed, so optimal transport has no vote (pip install "greffon[adapt]")')
        names.remove("optimal-transport")
    return names


def _one(
    setting: FeatureMethod, look: Domains, aligned: tuple[np.ndarray, np.ndarray], seed: int
) -> tuple[np.ndarray, float, float]:
    """What a method says of the target, its reverse validation, and the seconds that it took."""
    began = time.perf_counter()
    told = setting.probabilities(look.source, look.target, seed)
    back = _reverse(told.argmax(1), look.source.labels, look.source.classes, aligned)
    return told, back, time.perf_counter() - began


def _joined(begun: Sequence[Future[tuple[np.ndarray, float, float]]], progress: Progress) -> _Guess:
    """Every setting and representation of one method as they are done."""
    found = []
    for one in begun:
        found.append(one.result())
        progress.advance()
    told, reverse, seconds = zip(*found, strict=True)
    return _Guess(tuple(one.argmax(1) for one in told), reverse, np.mean(told, axis=0), sum(seconds))


def _workers() -> int:
    """Threads for independent fits: a few, for each holds a copy of the features."""
    return min(8, processors())


def _reverse(guess: np.ndarray, labels: np.ndarray, classes: int, aligned: tuple[np.ndarray, np.ndarray]) -> float:
    """Balanced accuracy on the source of what the target's guesses teach."""
    right = learn_and_tell(aligned[1], guess, classes, aligned[0]).argmax(1) == labels
    return float(np.mean([right[labels == c].mean() for c in np.unique(labels)]))


def _vote(guesses: Sequence[_Guess], classes: int) -> tuple[np.ndarray, float]:
    """The consensus, (m, c), and the mean share of votes that it has."""
    votes = [vote for one in guesses for vote in one.votes]
    reverse = np.array([value for one in guesses for value in one.reverse])
    belief = consensus(votes, classes, trust=np.sqrt(np.maximum(reverse, 0.01)))
    winner = belief.argmax(1)
    return belief, float(np.mean([(vote == winner).mean() for vote in votes]))


def _decide(
    guesses: Mapping[str, _Guess], belief: np.ndarray, agreement: float, distance: float
) -> tuple[str, bool, str]:
    """The name of the way to go, whether it adapts anything, and why."""
    base, mixed, winner = (one.argmax(1) for one in (guesses["source-only"].joined, guesses["mixture"].joined, belief))
    changed = float((winner != base).mean())
    if len(winner) < _FEW:
        return (
            "source-only",
            False,
            f"{len(winner)} images say too little of their domain: the source-only model is kept",
        )
    if distance < _APART:
        return "source-only", False, (
            f"the two domains can hardly be told apart (A-distance {distance:.2f} of 2): no gain expected, and the"
            " source-only model is kept"
        )  # fmt: skip
    if changed < 0.005:
        return "source-only", False, "adapting would change nothing: the source-only model is kept"
    moved = float(np.abs(guesses["mixture"].joined.mean(0) - 1 / belief.shape[1]).sum() / 2)
    with_mixture, with_consensus = float((mixed == base).mean()), 1 - changed
    if moved > 0.25 and with_mixture > with_consensus + 0.05 and with_mixture > 0.5:
        return "mixture", True, (
            f"the classes of the target seem to be mixed otherwise than the source's: with its own proportions"
            f" {100 * with_mixture:.0f} % of the images keep the class that the source-only model gives them, with the"
            f" consensus {100 * with_consensus:.0f} %"
        )  # fmt: skip
    if agreement < _AGREEMENT:
        return "coral", True, (
            f"the methods agree on too little ({100 * agreement:.0f} % of the votes are for the winner): the statistics are"
            " aligned, and nothing more"
        )  # fmt: skip
    return "consensus", True, (
        f"the methods agree ({100 * agreement:.0f} % of the votes are for the winner) and rename {100 * changed:.0f} % of"
        " the target"
    )  # fmt: skip


def _evidence(
    shown: Mapping[str, np.ndarray],
    seconds: Mapping[str, float],
    belief: np.ndarray,
    whole: Domains,
    aligned: tuple[np.ndarray, np.ndarray],
    seed: int,
) -> tuple[Evidence, ...]:
    """Every way by the same yardstick: a head of one kind that learned its guesses."""
    labels, classes = whole.source.labels, whole.source.classes
    ratio = density_ratio(whole.source.features, whole.target.features, seed=seed)
    rows = []
    for name, told in shown.items():
        guess = told.argmax(1)
        both = learn_and_tell(aligned[1], guess, classes, np.concatenate(aligned))
        right, own = both[: len(labels)].argmax(1) == labels, both[len(labels) :]
        share = np.bincount(guess, minlength=classes) / len(guess)
        rows.append(
            Evidence(
                name=name,
                reverse=float(np.mean([right[labels == c].mean() for c in np.unique(labels)])),
                weighted=weighted_validation(right, ratio),
                information=information_maximisation(own),
                density=soft_neighbourhood_density(own),
                agreement=float((guess == belief.argmax(1)).mean()),
                even=float(-(share[share > 0] * np.log(share[share > 0])).sum() / np.log(max(classes, 2))),
                seconds=round(seconds.get(name, 0.0), 2),
            )
        )
    return tuple(rows)


def _source_head(
    features: np.ndarray, labels: np.ndarray, classes: int, representation: Representation, seed: int
) -> tuple[Normaliser, LinearHead]:
    """The source-only model: logistic regression, its temperature from images that it has not learned."""
    normaliser = Normaliser.fit(features, representation.norm)
    x = normaliser.apply(features)
    head = fit_head("logistic", x, labels, classes, 1.0)
    assert isinstance(head, LinearHead)
    part = np.random.default_rng(seed).permutation(len(x)) % 2
    scores = np.full((len(x), classes), -np.inf)
    for number in (0, 1):
        present = np.unique(labels[part != number])
        if len(present) > 1:
            half = fit_head("logistic", x[part != number], labels[part != number], classes, 1.0)
            ask = np.flatnonzero(part == number)
            scores[np.ix_(ask, present)] = half.scores(x[ask])[:, present]
    known = np.isfinite(scores).any(1)
    return normaliser, replace(head, temperature=fit_temperature(scores[known], labels[known]) if known.any() else 1.0)


def _target_head(x: np.ndarray, joined: np.ndarray, classes: int, agreement: float) -> LinearHead:
    """Logistic regression on the guesses. Its temperature makes the mean confidence what the voters' agreement is."""
    guess = joined.argmax(1)
    present = np.unique(guess)
    if len(present) < 2:  # one class is all that is seen there
        bias = np.full(classes, -1e6, np.float32)
        bias[present] = 0
        return LinearHead("logistic", np.zeros((classes, x.shape[1]), np.float32), bias)
    head = fit_head("logistic", x, guess, classes, 1.0)
    assert isinstance(head, LinearHead)
    return replace(head, temperature=temperature_for(head.scores(x), agreement))


def temperature_for(scores: np.ndarray, confidence: float) -> float:
    """The divisor of scores, (n, c), that makes the mean of the largest probability as asked for.

    There is no label to calibrate on: what stands in for the accuracy is a guess of it. Between a little more than that
    of c equal classes and 0.995.
    """
    wanted = float(np.clip(confidence, min(1.2 / max(scores.shape[1], 2), 0.99), 0.995))
    low, high = np.log(1e-3), np.log(1e6)
    for _ in range(60):
        middle = (low + high) / 2
        sure = float(softmax(scores / np.exp(middle)).max(1).mean())
        low, high = (middle, high) if sure > wanted else (low, middle)
    return float(np.exp((low + high) / 2))


def _some(labels: np.ndarray | None, count: int, seed: int) -> np.ndarray:
    """At most ``_MOST`` positions, sorted: every class in its share, where labels are known, and two of it at least."""
    if labels is not None:
        return sample_by_class(labels, _MOST, seed, least=2)
    return np.sort(np.random.default_rng(seed).permutation(count)[:_MOST]) if count > _MOST else np.arange(count)
