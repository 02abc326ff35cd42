"""Every figure against scikit-learn, SciPy, or a loop written out."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as reference
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, norm
from sklearn.exceptions import UndefinedMetricWarning

from greffon.metrics import (
    auroc,
    calibration_error,
    calibration_error_by_chance,
    confusion,
    log_loss,
    mcnemar,
    paired_difference,
    per_class,
    reliability,
    top_k_accuracy,
    wilson_interval,
)


def drawn(seed: int, n: int = 300, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """True classes and probabilities that have something to do with them."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    scores = rng.normal(size=(n, classes)) + 1.5 * (np.arange(classes) == truth[:, None])
    e = np.exp(scores)
    return truth, e / e.sum(1, keepdims=True)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (1, 1), (3, 7), (81, 263), (15, 148), (0, 20), (1, 29), (999, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson_is_scipys(right: int, n: int, confidence: float) -> None:
    expected = binomtest(right, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(right, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_has_the_published_values(right: int, n: int, low: float, high: float) -> None:
    # Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3.
    assert wilson_interval(right, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_without_images_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 5)[0] == 0.0
    assert wilson_interval(5, 5)[1] == 1.0


def pairs(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Two vectors of 0 and 1 with so many pairs of each kind, in a drawn order."""
    kinds = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, first, second, neither], axis=0)
    mixed = np.random.default_rng(0).permutation(kinds)
    return mixed[:, 0], mixed[:, 1]


@pytest.mark.parametrize(
    ("table", "confidence", "low", "high", "digits"),
    [
        # Fagerland, Lydersen and Laake (2014), Statistics in Medicine 33, 2850-2875: airway hyper-responsiveness.
        ((1, 1, 7, 12), 0.95, -0.517, -0.026, 3),
        # R's contingencytables 3.0, its own test of Tango_asymptotic_score_CI_paired_2x2(cavo_2012).
        ((59, 6, 16, 80), 0.95, -0.1240, -0.0054, 4),
        # R's PropCIs, scoreci.mp(25, 28, 618, 0.90), whose sign is that of the second minus the first.
        ((300, 28, 25, 265), 0.90, -0.0148, 0.0247, 4),
    ],
)
def test_paired_difference_has_the_published_values(
    table: tuple[int, int, int, int], confidence: float, low: float, high: float, digits: int
) -> None:
    difference, interval = paired_difference(*pairs(*table), confidence)
    assert difference == pytest.approx((table[1] - table[2]) / sum(table), abs=1e-15)
    assert interval == pytest.approx((low, high), abs=0.5 * 10**-digits)
    first, second = pairs(*table)
    other, turned = paired_difference(second, first, confidence)
    assert (other, *turned) == pytest.approx((-difference, -interval[1], -interval[0]), abs=1e-15)


def naive_score(table: tuple[int, int, int, int], delta: float) -> float:
    """The score statistic for one true difference, its nuisance share found by trying, not by Tango's formula."""
    first, second, n = table[1], table[2], sum(table)
    low, high = max(0.0, -delta), (1 - delta) / 2

    def unlikely(share: float) -> float:
        logs = [(first, share + delta), (second, share), (n - first - second, 1 - 2 * share - delta)]
        return -sum(count * math.log(max(p, 1e-300)) for count, p in logs if count)

    found = minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-10})
    share = float(found.x)  # type: ignore[attr-defined]  # scipy's result has it
    return (first - second - n * delta) / math.sqrt(n * (2 * share + delta - delta**2))


@pytest.mark.parametrize("table", [(1, 1, 7, 12), (59, 6, 16, 80), (30, 0, 4, 6), (80, 9, 9, 2), (5, 12, 1, 0)])
def test_paired_difference_ends_where_the_score_test_rejects(table: tuple[int, int, int, int]) -> None:
    _, (low, high) = paired_difference(*pairs(*table))
    z = norm.ppf(0.975)
    assert naive_score(table, low) == pytest.approx(z, abs=2e-3)
    assert naive_score(table, high) == pytest.approx(-z, abs=2e-3)


def test_paired_difference_excludes_0_just_where_mcnemar_does() -> None:
    for first in range(12):
        for second in range(12):
            _, (low, high) = paired_difference(*pairs(20, first, second, 5))
            rejects = first != second and (first - second) ** 2 / (first + second) > norm.ppf(0.975) ** 2
            assert (low > 0 or high < 0) == rejects, (first, second)


def test_paired_difference_of_two_that_always_agree_is_not_certain() -> None:
    # As Wilson's interval of none in twenty; and one is wrong where the other is right, always.
    difference, interval = paired_difference(*pairs(12, 0, 0, 8))
    assert (difference, *interval) == pytest.approx((0.0, -0.1611, 0.1611), abs=5e-5)
    difference, (low, high) = paired_difference(*pairs(0, 5, 0, 0))
    assert (difference, high) == (1.0, 1.0)
    assert 0 < low < 1
    assert paired_difference(np.zeros(0, bool), np.zeros(0, bool)) == (0.0, (-1.0, 1.0))


@pytest.mark.parametrize("seed", range(3))
def test_confusion_and_its_figures_are_scikit_learns(seed: int) -> None:
    truth, probabilities = drawn(seed)
    predicted = probabilities.argmax(1)
    table = confusion(truth, predicted, 7)
    assert table.dtype == np.int64
    assert np.array_equal(table, reference.confusion_matrix(truth, predicted, labels=range(7)))
    precision, recall, f1, count = reference.precision_recall_fscore_support(truth, predicted, labels=range(7))
    got = per_class(table)
    assert got["precision"] == pytest.approx(np.asarray(precision))
    assert got["recall"] == pytest.approx(np.asarray(recall))
    assert got["f1"] == pytest.approx(np.asarray(f1))
    assert np.array_equal(got["count"], np.asarray(count))


def test_what_is_not_defined_is_nan() -> None:
    # Class 1 is never predicted, class 2 has no image, class 3 has neither.
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 0, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = per_class(confusion(truth, predicted, 4))
    options = {"labels": range(4), "zero_division": np.nan}
    precision, recall, f1, count = reference.precision_recall_fscore_support(truth, predicted, **options)
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        assert np.array_equal(got[name], np.asarray(expected), equal_nan=True), name
    assert np.array_equal(got["count"], np.asarray(count))


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_top_k_is_scikit_learns(k: int) -> None:
    truth, probabilities = drawn(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # k is all classes
        expected = reference.top_k_accuracy_score(truth, probabilities, k=k, labels=range(7))
    assert top_k_accuracy(truth, probabilities, k) == pytest.approx(float(expected))


def test_log_loss_is_scikit_learns() -> None:
    truth, probabilities = drawn(5)
    assert log_loss(truth, probabilities) == pytest.approx(reference.log_loss(truth, probabilities, labels=range(7)), rel=1e-12)


def test_log_loss_of_an_impossible_class_is_finite() -> None:
    assert log_loss(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(-math.log(1e-15))


def naive_calibration_error(truth: np.ndarray, probabilities: np.ndarray, bins: int) -> float:
    """Equation 3 of Guo et al. (2017), as it stands there: bin m is ((m - 1) / M, m / M]."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [i for i in range(len(truth)) if (m - 1) / bins < max(probabilities[i]) <= m / bins]
        if inside:
            accuracy = sum(int(np.argmax(probabilities[i]) == truth[i]) for i in inside) / len(inside)
            confidence = sum(max(probabilities[i]) for i in inside) / len(inside)
            total += len(inside) / len(truth) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("bins", [1, 7, 10, 15])
def test_calibration_error_is_the_papers(bins: int) -> None:
    truth, probabilities = drawn(6)
    assert calibration_error(truth, probabilities, bins) == pytest.approx(naive_calibration_error(truth, probabilities, bins), abs=1e-12)


def test_calibration_error_on_the_edges_of_bins() -> None:
    # 0.6 * 15 is 9 exactly, 0.8 * 15 is 12; 9 / 15 * 15 and the like are not always.
    for bins in (10, 15):
        edges = np.arange(bins // 2 + 1, bins + 1) / bins
        probabilities = np.stack([edges, 1 - edges], 1)
        truth = np.arange(len(edges)) % 2
        expected = naive_calibration_error(truth, probabilities, bins)
        assert calibration_error(truth, probabilities, bins) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_by_hand() -> None:
    # Four images with confidence 0.9, three of them right; two with 0.6, none right: (4 * 0.15 + 2 * 0.6) / 6.
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]] * 2)
    assert calibration_error(np.array([0, 0, 0, 1, 1, 1]), probabilities) == pytest.approx(0.3)


def test_reliability_counts_bin_by_bin() -> None:
    """Against a loop over images and bins, edges included; and the calibration error is its weighted mean."""
    rng = np.random.default_rng(5)
    p = rng.dirichlet([0.7] * 4, 200)
    p[:2] = [[0.6, 0.4, 0, 0], [0.4, 0.6, 0, 0]]  # on an edge of 15 bins: it belongs to the bin below
    truth = rng.integers(0, 4, 200)
    expected = []
    for b in range(15):
        own = [i for i in range(200) if b / 15 < p[i].max() <= (b + 1) / 15]
        if own:
            expected.append((len(own), float(np.mean([p[i].max() for i in own])), float(np.mean([p[i].argmax() == truth[i] for i in own]))))
    found = reliability(truth, p)
    np.testing.assert_allclose(found, expected)
    error = sum(n / 200 * abs(sure - right) for n, sure, right in expected)
    assert calibration_error(truth, p) == pytest.approx(error)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 7), (10, 10), (0, 6), (30, 12)])
def test_mcnemar_is_a_sum_of_binomial_probabilities(first: int, second: int) -> None:
    n = first + second
    tail = sum(math.comb(n, i) for i in range(min(first, second) + 1)) / 2**n
    assert mcnemar(*pairs(5, first, second, 3)) == pytest.approx(min(1.0, 2 * tail), abs=1e-12)


def test_mcnemar_has_the_published_value() -> None:
    # Fagerland, Lydersen and Laake (2013), BMC Medical Research Methodology 13:91, table 7: airway hyper-responsiveness.
    assert mcnemar(*pairs(1, 1, 7, 12)) == pytest.approx(0.070, abs=5e-4)


@pytest.mark.parametrize("seed", range(3))
def test_auroc_is_scikit_learns_with_delongs_variance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = np.round(rng.normal(size=40), 1), np.round(rng.normal(0.8, 1.2, size=25), 1)  # rounded: there are ties
    area, interval = auroc(low, high)
    truth = np.repeat([0, 1], [40, 25])
    assert area == pytest.approx(float(reference.roc_auc_score(truth, np.concatenate([low, high]))), abs=1e-12)
    wins = np.array([[1.0 if b > a else 0.5 if b == a else 0.0 for b in high] for a in low])
    variance = wins.mean(1).var(ddof=1) / 40 + wins.mean(0).var(ddof=1) / 25
    half = norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area))
    middle = math.log(area / (1 - area))
    assert interval == pytest.approx(tuple(1 / (1 + math.exp(-end)) for end in (middle - half, middle + half)), abs=1e-9)


def test_auroc_of_sets_that_do_not_overlap() -> None:
    area, interval = auroc(np.arange(20.0), np.arange(30.0, 60.0))
    assert (area, interval) == (1.0, wilson_interval(20, 20))
    assert auroc(np.ones(1), np.zeros(1)) == (0.0, wilson_interval(0, 1))
    area, (low, high) = auroc(np.ones(5), np.ones(5))
    assert area == 0.5
    assert low < 0.5 < high


@pytest.mark.parametrize("n", [40, 300])
def test_chance_is_what_a_perfectly_calibrated_model_has(n: int) -> None:
    """Labels are drawn from the probabilities themselves, so that nothing but chance is left."""
    rng = np.random.default_rng(n)
    probabilities = rng.dirichlet([0.4] * 3, size=n)
    errors = []
    for _ in range(300):
        truth = (rng.random((n, 1)) > probabilities.cumsum(1)).sum(1).clip(0, 2)
        errors.append(calibration_error(truth, probabilities))
    standard = np.std(errors) / math.sqrt(300) + 0.05 * np.mean(errors) / math.sqrt(200)
    assert calibration_error_by_chance(probabilities) == pytest.approx(np.mean(errors), abs=5 * float(standard))
    assert calibration_error_by_chance(np.eye(3)[[0, 1, 1]]) == 0, "who is always right has no luck"
