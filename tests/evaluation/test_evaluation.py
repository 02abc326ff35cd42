"""The figures of a test split."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.metrics as reference

from greffon.errors import DataError
from greffon.evaluation import evaluate_probabilities
from greffon.metrics import calibration_error
from test_metrics import drawn

NAMES = ("a", "b", "c", "d", "e", "f", "g")


def test_the_figures_are_scikit_learns() -> None:
    truth, probabilities = drawn(0)
    predicted = probabilities.argmax(1)
    found = evaluate_probabilities(truth, probabilities, NAMES)
    assert found.accuracy == pytest.approx(reference.accuracy_score(truth, predicted))
    assert found.balanced_accuracy == pytest.approx(reference.balanced_accuracy_score(truth, predicted))
    assert found.log_loss == pytest.approx(reference.log_loss(truth, probabilities, labels=range(7)))
    assert found.top5_accuracy == pytest.approx(float(reference.top_k_accuracy_score(truth, probabilities, k=5, labels=range(7))))
    assert found.n == 300
    low, high = found.accuracy_interval
    assert 0 < low < found.accuracy < high < 1
    report = reference.classification_report(truth, predicted, labels=range(7), target_names=NAMES, output_dict=True)
    assert isinstance(report, dict)
    for one in found.classes:
        assert (one.precision, one.recall, one.f1, one.count) == pytest.approx(
            tuple(report[one.name][key] for key in ("precision", "recall", "f1-score", "support"))
        )
    assert np.array_equal(found.confusion, reference.confusion_matrix(truth, predicted))


def test_classes_without_test_images_do_not_count_as_wrong() -> None:
    truth = np.array([0, 0, 1, 1])
    probabilities = np.eye(3)[[0, 0, 1, 2]]
    found = evaluate_probabilities(truth, probabilities, ("a", "b", "c"))
    assert found.balanced_accuracy == pytest.approx(0.75)
    figures = found.to_dict()
    assert figures["classes"][2] == {"name": "c", "count": 0, "precision": 0.0, "recall": None, "recall_interval": [0.0, 1.0],
                                     "f1": 0.0}  # fmt: skip


def test_metrics_json_keeps_its_keys_and_is_json() -> None:
    truth, probabilities = drawn(1)
    figures = evaluate_probabilities(truth, probabilities, NAMES).to_dict()
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert {"accuracy", "accuracy_interval", "n", "balanced_accuracy", "top5_accuracy", "log_loss", "expected_calibration_error",
            "expected_calibration_error_uncalibrated", "expected_calibration_error_by_chance", "reliability",
            "classes", "confusion"} == set(figures)  # fmt: skip


def test_top_five_only_where_there_are_more_than_five_classes() -> None:
    truth, probabilities = drawn(2, classes=5)
    found = evaluate_probabilities(truth, probabilities, NAMES[:5])
    assert found.top5_accuracy is None
    assert "top5_accuracy" not in found.to_dict()
    assert evaluate_probabilities(*drawn(2, classes=6), NAMES[:6]).top5_accuracy is not None


@pytest.mark.parametrize(
    ("truth", "probabilities"),
    [
        (np.zeros(0, np.int64), np.zeros((0, 2))),
        (np.array([-1]), np.array([[0.5, 0.5]])),
        (np.array([2]), np.array([[0.5, 0.5]])),
        (np.array([0]), np.array([[np.nan, np.nan]])),
        (np.array([0]), np.array([[0.2, 0.3, 0.5]])),
    ],
)
def test_what_cannot_be_evaluated_is_an_error(truth: np.ndarray, probabilities: np.ndarray) -> None:
    with pytest.raises(DataError):
        evaluate_probabilities(truth, probabilities, ("a", "b"))


def test_the_error_before_the_temperature_is_that_of_the_scores() -> None:
    rng = np.random.default_rng(7)
    scores, truth = rng.normal(size=(300, 4)) * 3, rng.integers(0, 4, 300)

    def shares(x: np.ndarray) -> np.ndarray:
        e = np.exp(x)
        return e / e.sum(1, keepdims=True)

    found = evaluate_probabilities(truth, shares(scores / 2.5), NAMES[:4], temperature=2.5)
    assert found.uncalibrated_error == pytest.approx(calibration_error(truth, shares(scores)))
    assert found.calibration_error == pytest.approx(calibration_error(truth, shares(scores / 2.5)))
    assert sum(one.count for one in found.reliability) == 300
    assert all(one.interval[0] <= one.accuracy <= one.interval[1] for one in found.reliability)
    assert evaluate_probabilities(truth, shares(scores), NAMES[:4]).uncalibrated_error is None
