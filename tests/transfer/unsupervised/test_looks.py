"""Looks: what is taken out of pooled records, against the same by hand and scikit-learn's PCA."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from greffon.errors import DataError, OptionError
from greffon.transfer.unsupervised import LOOKS, Look, Unlabelled, on_axes, unit_rows

WIDTHS = (3, 5)


def records(n: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2, size=(n, 2 * sum(WIDTHS))).astype(np.float32)


def distances(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return np.sqrt(np.maximum(((x[:, None] - x[None]) ** 2).sum(2), 0))


def test_the_columns_are_those_of_the_stage() -> None:
    assert Look(stage=1, pool="mean").columns(WIDTHS) == (slice(6, 11),)
    assert Look(stage=1, pool="max").columns(WIDTHS) == (slice(11, 16),)
    assert Look(stage=1, pool="mean+max").columns(WIDTHS) == (slice(6, 11), slice(11, 16))
    assert Look(stage=2, pool="mean").columns(WIDTHS) == (slice(0, 3),)
    with pytest.raises(OptionError, match="stage 3 from the top of 2"):
        Look(stage=3).columns(WIDTHS)


def test_both_pools_count_alike() -> None:
    pooled = records()
    pooled[:, 11:] *= 1000  # maxima are larger than means
    found = Look(pool="mean+max", norm="l2", axes=0).of(pooled, WIDTHS).features
    mean, maximum = (unit_rows(pooled[:, part]) for part in (slice(6, 11), slice(11, 16)))
    wanted = (distances(mean) ** 2 + distances(maximum) ** 2) / 2
    np.testing.assert_allclose(distances(found) ** 2, wanted, atol=1e-5)


def test_the_square_root_is_signed() -> None:
    pooled = records() - 2
    found = Look(axes=0).of(pooled, WIDTHS).features
    x = pooled[:, 6:11]
    rows = np.sign(x) * np.sqrt(np.abs(x))
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(distances(found), distances(rows), atol=1e-5)


@pytest.mark.parametrize(("n", "d"), [(60, 8), (8, 60)])
@pytest.mark.parametrize("whiten", [False, True])
def test_axes_are_those_of_scikit_learn(n: int, d: int, whiten: bool) -> None:
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(n, d)) * np.linspace(3, 0.5, d) + 5).astype(np.float32)
    found = on_axes(x, 4, whiten=whiten)
    wanted = PCA(4, whiten=whiten, svd_solver="full").fit_transform(x.astype(np.float64))
    if whiten:
        wanted *= np.sqrt(n / (n - 1))  # ours divides by n
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=2e-4)
    assert found.dtype == np.float32
    place = np.abs(found).argmax(0)
    assert (found[place, np.arange(4)] > 0).all()


def test_where_nothing_varies_there_is_one_axis_of_nothing() -> None:
    same = np.full((5, 7), 0.3, np.float32)
    np.testing.assert_array_equal(on_axes(same), np.zeros((5, 1)))
    np.testing.assert_array_equal(on_axes(same[:1]), np.zeros((1, 1)))
    for look in LOOKS:
        assert (look.of(np.repeat(records(1), 6, 0), WIDTHS).features == 0).all()
        assert np.isfinite(look.of(np.zeros((4, 16), np.float32), WIDTHS).features).all()


def test_features_have_no_labels_and_must_be_numbers() -> None:
    assert Unlabelled.__slots__ == ("features",)
    for wrong in (np.zeros(3, np.float32), np.zeros((0, 3), np.float32), np.full((2, 2), np.nan, np.float32)):
        with pytest.raises(DataError, match="features must be"):
            Unlabelled(wrong)
    with pytest.raises(OptionError, match="unknown"):
        Look(pool="median")  # type: ignore[arg-type]
