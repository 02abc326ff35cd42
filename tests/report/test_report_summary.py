"""The sentences that sum a report up, against figures counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from greffon.auditing import Finding
from greffon.evaluation import Growth, GrowthPoint, evaluate_probabilities
from greffon.metrics import wilson_interval
from greffon.report import RunReport
from greffon.report.run.saying import speaker
from greffon.report.run.summary import confusions, summarise, weakest_class
from reported import report_of

EN = speaker("en")


def told(report: RunReport, labels: list[int], said: list[int], sure: float = 0.6) -> RunReport:
    """The same report with other labels and what is said of them, all equally sure."""
    classes = report.tested.classes
    probabilities = np.full((len(labels), len(classes)), (1 - sure) / (len(classes) - 1))
    probabilities[np.arange(len(labels)), said] = sure
    truth = np.array(labels, np.int64)
    photos = report.tested.take(np.zeros(len(labels), int))
    return replace(
        report,
        tested=replace(photos, labels=truth),
        probabilities=probabilities,
        evaluation=evaluate_probabilities(truth, probabilities, classes),
    )


@pytest.fixture
def report(tmp_path: Path) -> RunReport:
    return report_of(tmp_path, n=3)


def test_confusions_are_counted_and_in_order() -> None:
    table = np.array([[5, 2, 0], [7, 1, 2], [0, 0, 3]])
    found = [(one.true, one.predicted, one.count) for one in confusions(table, 10)]
    assert found == [(1, 0, 7), (0, 1, 2), (1, 2, 2)]
    assert len(confusions(table, 1)) == 1 and confusions(np.eye(3, dtype=int), 5) == ()


def test_the_weakest_class_is_the_one_that_is_surely_weak(report: RunReport) -> None:
    # 0 of 1 is lower than 10 of 40, but says less: its interval reaches up to 79 %.
    labels = [0] * 40 + [1] + [2] * 20
    said = [0] * 10 + [2] * 30 + [0] + [2] * 20
    one = told(report, labels, said)
    assert one.evaluation is not None
    assert weakest_class(one.evaluation) == 0
    text = " ".join(summarise(one, EN).failing)
    low, high = wilson_interval(10, 40)
    assert f"Weakest is “cat”: of 40 images 10 were named rightly (25.0\u00a0%; 95 %: {100 * low:.1f} to {100 * high:.1f}\u00a0%)." in text
    assert "“cat” taken for “fish”, 30 times." in text


def test_nothing_wrong(report: RunReport) -> None:
    one = told(report, [0, 1, 2] * 40, [0, 1, 2] * 40)
    assert one.evaluation is not None and weakest_class(one.evaluation) is None
    assert summarise(one, EN).failing == ("No test image was named wrongly.",)


@pytest.mark.parametrize(
    ("sure", "right", "sentence"),
    [(0.8, 160, "On the whole it is as often right as it says"), (0.99, 160, "It is surer than it should be"),
     (0.6, 160, "It is more often right than it says")],
    ids=["calibrated", "too sure", "too unsure"],
)  # fmt: skip
def test_whether_its_percentages_can_be_believed(report: RunReport, sure: float, right: int, sentence: str) -> None:
    labels = [i % 3 for i in range(200)]
    said = [label if i < right else (label + 1) % 3 for i, label in enumerate(labels)]
    text = " ".join(summarise(told(report, labels, said, sure), EN).trust)
    assert f"{sentence}: mean confidence {100 * sure:.1f}\u00a0%, accuracy 80.0\u00a0%." in text
    assert ("sure by 90 % or more of 200 images, and was right for 80.0\u00a0%" in text) == (sure > 0.9)


def test_few_images_are_called_few(report: RunReport) -> None:
    one = told(report, [0, 1, 2, 0], [0, 1, 2, 1])
    found = summarise(one, EN)
    assert "They are few: the interval is wide." in found.lead
    assert "cannot be said from so few images" in " ".join(found.trust)
    assert "Test on more images: with 4" in " ".join(found.advice)


def test_no_better_than_the_most_frequent_class(report: RunReport) -> None:
    one = told(report, [0] * 90 + [1] * 30, [0] * 120)
    text = " ".join(summarise(one, EN).trust)
    assert "most frequent class would be right for 75.0\u00a0%" in text
    assert "not shown that the model has learned anything" in text
    better = " ".join(summarise(told(report, [0] * 90 + [1] * 30, [0] * 90 + [1] * 30), EN).trust)
    assert "learned anything" not in better
    alone = " ".join(summarise(told(report, [0] * 30, [0] * 30), EN).trust)
    assert "most frequent class" not in alone, "of one class there is no other to guess"


def test_advice_follows_what_was_found(report: RunReport) -> None:
    photo = report.tested.paths[0]
    findings = tuple(Finding("label-error", photo, "cat", "dog", 0.9, "", exclude) for exclude in (True, True, False))
    leak = Finding("near-duplicate-across-splits", photo, "cat", "", 1.0, "", True)
    one = replace(told(report, [0, 1, 2] * 60, [0, 1, 2] * 60), findings=(*findings, leak))
    advice = summarise(one, EN).advice
    assert advice == ("Look at the 2 labels that are probably wrong, the first ones first.",
                      "Take 1 file out of the training that stands in the test as well: the figures flatter.")  # fmt: skip
    assert summarise(replace(one, findings=()), EN).advice == ("Nothing stands out. Try the model on new photos.",)


@pytest.mark.parametrize(
    ("interval", "sentence"),
    [((0.01, 0.05), "Take more photos: twice as many would bring +3.0 points (+1.0 to +5.0)"),
     ((-0.01, 0.005), "More photos of the same kind would hardly help"), ((-0.01, 0.06), "Whether more photos would help is not sure")],
    ids=["yes", "hardly", "unsure"],
)  # fmt: skip
def test_advice_on_more_photos_is_the_curves(report: RunReport, interval: tuple[float, float], sentence: str) -> None:
    growth = Growth((GrowthPoint(40, 0.7, (0.6, 0.8)),), 60, 1, 5, None, 0.7, 0.73, 0.03, interval, None)
    one = replace(told(report, [0, 1, 2] * 60, [0, 1, 2] * 60), growth=growth)
    assert summarise(one, EN).advice[0].startswith(sentence)


def test_images_that_may_have_been_learned(report: RunReport) -> None:
    assert "had no part in the training" in " ".join(summarise(report, EN).lead)
    text = " ".join(summarise(replace(report, held_out=False), EN).lead)
    assert "had no part" not in text and "is not known here" in text and "test image" not in text
