"""The report in short: whether to trust the model, where it fails, and what could be done, in sentences with their figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.evaluation import Evaluation
from greffon.metrics import wilson_interval
from greffon.report.run.reading import Told
from greffon.report.run.saying import Speaker
from greffon.report.run.value import RunReport

__all__ = ["Confusion", "Summary", "confusions", "summarise", "weakest_class"]

#: Fewer images than this say little.
_FEW = 100
#: From this on the model is called sure.
_SURE = 0.9


@final
@dataclass(frozen=True, slots=True)
class Confusion:
    """How many images of one class were taken for another; both by number."""

    true: int
    predicted: int
    count: int


@final
@dataclass(frozen=True, slots=True)
class Summary:
    """Sentences under their headings. ``figure`` is the accuracy alone."""

    figure: str
    lead: tuple[str, ...]
    trust: tuple[str, ...]
    failing: tuple[str, ...]
    advice: tuple[str, ...]


def confusions(table: np.ndarray, most: int) -> tuple[Confusion, ...]:
    """The most frequent mistakes of a confusion matrix, int64 (c, c), the most frequent first."""
    wrong = table - np.diag(np.diag(table))
    rows, columns = np.nonzero(wrong)
    order = np.argsort(-wrong[rows, columns], kind="stable")[:most]
    return tuple(Confusion(int(rows[i]), int(columns[i]), int(wrong[rows[i], columns[i]])) for i in order)


def weakest_class(evaluation: Evaluation) -> int | None:
    """The class of which it is the surest that few of its images are named rightly: the lowest upper end of the interval.

    None where no image is named wrongly.
    """
    ends = [
        wilson_interval(int(evaluation.confusion[i, i]), one.count)[1] if one.count and evaluation.confusion[i, i] < one.count else math.inf
        for i, one in enumerate(evaluation.classes)
    ]
    best = int(np.argmin(ends)) if ends else 0
    return best if ends and math.isfinite(ends[best]) else None


def summarise(report: RunReport, speaker: Speaker) -> Summary:
    """The sentences of a report."""
    words, evaluation = speaker.words, report.evaluation
    if evaluation is None:
        return Summary("", (words.no_test,), (), (), tuple(_advice(report, speaker)))
    low, high = (speaker.percent(end) for end in evaluation.accuracy_interval)
    right = speaker.number(round(evaluation.accuracy * evaluation.n))
    lead = [
        speaker.count(evaluation.n, words.accuracy if report.held_out else words.accuracy_seen, right=right, low=low, high=high),
        words.held_out if report.held_out else words.perhaps_seen,
    ]
    if evaluation.n < _FEW:
        lead.append(words.few)
    return Summary(speaker.percent(evaluation.accuracy), tuple(lead), tuple(_trust(report, evaluation, speaker)),
                   tuple(_failing(report, evaluation, speaker)), tuple(_advice(report, speaker)))  # fmt: skip


def _trust(report: RunReport, evaluation: Evaluation, speaker: Speaker) -> Iterator[str]:
    words = speaker.words
    counts = [one.count for one in evaluation.classes]
    if sum(count > 0 for count in counts) > 1:
        frequent = max(counts) / evaluation.n
        yield speaker.say(words.baseline, share=speaker.percent(frequent))
        if evaluation.accuracy_interval[0] <= frequent:
            yield words.no_better
    confidence = report.probabilities.max(1)
    sure = confidence >= _SURE
    if n := int(sure.sum()):
        right = int((report.probabilities.argmax(1) == report.tested.labels)[sure].sum())
        yield speaker.count(n, words.sure, share=speaker.percent(right / n), interval=speaker.interval(wilson_interval(right, n)))
    if evaluation.n < _FEW:
        yield words.cannot_say
        return
    mean, (low, high) = float(confidence.mean()), evaluation.accuracy_interval
    sentence = words.too_sure if mean > high else words.too_unsure if mean < low else words.calibrated
    yield speaker.say(sentence, sure=speaker.percent(mean), right=speaker.percent(evaluation.accuracy))


def _failing(report: RunReport, evaluation: Evaluation, speaker: Speaker) -> Iterator[str]:
    words = speaker.words
    weak = weakest_class(evaluation)
    if weak is None:
        yield words.none_wrong
        return
    one, right = evaluation.classes[weak], int(evaluation.confusion[weak, weak])
    yield speaker.count(one.count, words.weakest, name=speaker.name(one.name), right=speaker.number(right),
                        share=speaker.percent(right / one.count), interval=speaker.interval(wilson_interval(right, one.count)))  # fmt: skip
    for most in confusions(evaluation.confusion, 1):
        names = report.tested.classes
        yield speaker.count(most.count, words.confused, true=speaker.name(names[most.true]), predicted=speaker.name(names[most.predicted]))


def _advice(report: RunReport, speaker: Speaker) -> Iterator[str]:
    """What the figures themselves suggest; where they suggest nothing, that is said."""
    words, evaluation = speaker.words, report.evaluation
    said = [*_advice_on_data(report, speaker), *_advice_on_learning(report, speaker)]
    if evaluation is not None:
        most = next(iter(confusions(evaluation.confusion, 1)), None)
        wrong = round(evaluation.n * (1 - evaluation.accuracy))
        if most is not None and most.count >= max(5, 0.2 * wrong):
            names = [speaker.name(report.tested.classes[i]) for i in (most.true, most.predicted)]
            said.append(speaker.say(words.advice_confused, true=names[0], predicted=names[1]))
        untried = report.model.cut == "none" and not report.model.training.get("automatic")
        if untried and evaluation.n >= _FEW and evaluation.accuracy_interval[1] < 0.98:
            said.append(words.advice_tune)
    yield from said or [words.advice_none]


def _advice_on_data(report: RunReport, speaker: Speaker) -> Iterator[str]:
    words, evaluation = speaker.words, report.evaluation
    sure = Counter(one.kind for one in report.findings if one.exclude)
    if sure["label-error"]:
        yield speaker.count(sure["label-error"], words.advice_labels)
    if leaks := sure["duplicate-across-splits"] + sure["near-duplicate-across-splits"]:
        yield speaker.count(leaks, words.advice_leaks)
    if evaluation is None:
        return
    if evaluation.n < _FEW:
        yield speaker.say(words.advice_test, n=speaker.number(evaluation.n))
    counts = Told(report.model.data).table("images_by_class").numbers()
    weak = weakest_class(evaluation)
    if weak is not None and (name := report.tested.classes[weak]) in counts and counts[name] <= float(np.median(list(counts.values()))):
        yield speaker.count(int(counts[name]), words.advice_class, name=speaker.name(name))


def _advice_on_learning(report: RunReport, speaker: Speaker) -> Iterator[str]:
    words, growth = speaker.words, report.growth
    if growth is None or growth.gain is None or growth.gain_interval is None:
        return
    sentence = {"yes": words.advice_more, "hardly": words.advice_enough, "unsure": words.advice_unsure}[growth.verdict]
    low, high = (speaker.signed(100 * end) for end in growth.gain_interval)
    yield speaker.say(sentence, gain=speaker.signed(100 * growth.gain), low=low, high=high)
