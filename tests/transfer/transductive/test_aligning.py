"""Alignment of two clouds: against the papers' formulas on n x n matrices, SciPy's matrix roots and scikit-learn's PCA."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh, fractional_matrix_power, sqrtm
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from clouds import drawn
from greffon.transfer.transductive import coral, per_domain, subspace_alignment, transfer_components
from greffon.transfer.transductive.aligning import components

CLOUDS = drawn(50, 40, 7, move=3, turn=0.5, stretch=1.7)
SOURCE, TARGET = CLOUDS.source.features.astype(np.float64), CLOUDS.target.features.astype(np.float64)


def same_columns(ours: np.ndarray, theirs: np.ndarray, atol: float = 1e-6) -> None:
    """Equal but for each column's length and sign."""
    assert ours.shape == theirs.shape
    a, b = (x / np.linalg.norm(x, axis=0) for x in (ours, theirs))
    np.testing.assert_allclose(np.abs((a * b).sum(0)), 1, atol=atol)


# --- per domain -------------------------------------------------------------------------------------------------------


def test_each_domain_has_its_own_statistics() -> None:
    for ours, x in zip(per_domain(SOURCE, TARGET), (SOURCE, TARGET), strict=True):
        np.testing.assert_allclose(ours, StandardScaler().fit_transform(x) / np.sqrt(7), atol=1e-10)


def test_a_feature_that_never_moves_becomes_nothing() -> None:
    x = SOURCE.astype(np.float32)
    x[:, 2] = 0.1  # its float32 mean is not quite 0.1
    assert np.abs(per_domain(x, x)[0][:, 2]).max() == 0
    assert (per_domain(np.ones((4, 3)), np.ones((1, 3)))[0] == 0).all()


# --- CORAL ------------------------------------------------------------------------------------------------------------


def test_corals_source_has_the_targets_covariance() -> None:
    own, other = coral(SOURCE, TARGET, regularisation=0)
    np.testing.assert_allclose(np.cov(own, rowvar=False), np.cov(TARGET, rowvar=False), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(np.cov(other, rowvar=False), np.cov(TARGET, rowvar=False), atol=1e-12)
    for x in (own, other):
        np.testing.assert_allclose(x.mean(0), 0, atol=1e-10)


@pytest.mark.parametrize("regularisation", [0.3, 1.0])
def test_coral_is_algorithm_1(regularisation: float) -> None:
    """C = cov(D) + eye, D_S C_S^-1/2 C_T^1/2; the 1 is in units of the mean variance."""
    c = []
    for x in (SOURCE, TARGET):
        covariance = np.cov(x, rowvar=False)
        c.append(covariance + regularisation * np.diag(covariance).mean() * np.eye(7))
    theirs = (SOURCE - SOURCE.mean(0)) @ fractional_matrix_power(c[0], -0.5) @ sqrtm(c[1])
    np.testing.assert_allclose(coral(SOURCE, TARGET, regularisation=regularisation)[0], theirs, atol=1e-8)


def test_coral_of_fewer_images_than_features() -> None:
    own, other = coral(SOURCE[:4], TARGET[:3])
    assert own.shape == (4, 7)
    assert other.shape == (3, 7)
    assert np.isfinite(own).all()


@pytest.mark.parametrize("regularisation", [0.0, 1.0])
def test_coral_of_clouds_in_which_nothing_moves(regularisation: float) -> None:
    for a, b in ((SOURCE, np.ones((5, 7))), (np.ones((5, 7)), TARGET), (np.ones((1, 7)), np.ones((1, 7)))):
        assert np.isfinite(coral(a, b, regularisation=regularisation)[0]).all()


# --- subspace alignment -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 7])
def test_subspace_alignment_is_the_closed_form(k: int) -> None:
    own, other = subspace_alignment(SOURCE, TARGET, dimensions=k)
    axes = [np.asarray(PCA(k, svd_solver="full").fit(x).components_).T for x in (SOURCE, TARGET)]
    turned = (SOURCE - SOURCE.mean(0)) @ axes[0] @ (axes[0].T @ axes[1])
    straight = (TARGET - TARGET.mean(0)) @ axes[1]
    signs = np.sign((other * straight).sum(0))
    np.testing.assert_allclose(own, turned * signs, atol=1e-8)
    np.testing.assert_allclose(other, straight * signs, atol=1e-8)


def test_subspaces_have_no_more_axes_than_the_smaller_cloud() -> None:
    assert [x.shape for x in subspace_alignment(SOURCE, TARGET[:4])] == [(50, 3), (4, 3)]
    assert [x.shape for x in subspace_alignment(SOURCE, TARGET[:1])] == [(50, 1), (1, 1)]
    flat = TARGET.copy()
    flat[:, 1:] = 5
    assert [x.shape for x in subspace_alignment(SOURCE, flat)] == [(50, 1), (40, 1)]
    assert all(np.isfinite(x).all() for x in subspace_alignment(np.ones((3, 2)), np.ones((3, 2))))


# --- transfer components ----------------------------------------------------------------------------------------------


def mean_difference(n: int, m: int) -> np.ndarray:
    """L of Pan et al., (n + m, n + m), element by element: 1 / n², 1 / m² or -1 / (n m)."""
    found = np.empty((n + m, n + m))
    for i in range(n + m):
        for j in range(n + m):
            found[i, j] = 1 / n**2 if max(i, j) < n else 1 / m**2 if min(i, j) >= n else -1 / (n * m)
    return found


def dual_components(x: np.ndarray, apart: np.ndarray, k: int, mu: float) -> np.ndarray:
    """K W of the n + m unknowns W: the largest of K H K against K L K + mu K, where K = X X'.

    ``mu K`` stands for the paper's ``mu I``: with K = X X' and V = X' W, W' K W is |V|², the length of the direction in
    the space of features. K has not full rank, so the problem is solved within its range.
    """
    kernel, count = x @ x.T, len(x)
    values, vectors = np.linalg.eigh(kernel)
    rank = vectors[:, values > 1e-9 * values[-1]]
    centring = np.eye(count) - 1 / count
    above, below = kernel @ centring @ kernel, kernel @ apart @ kernel + mu * kernel
    _, found = eigh(rank.T @ above @ rank, rank.T @ below @ rank)
    return kernel @ rank @ found[:, ::-1][:, :k]


@pytest.mark.parametrize(("regularisation", "k"), [(1.0, 7), (0.05, 3)])
def test_transfer_components_are_those_of_the_kernel_matrix(regularisation: float, k: int) -> None:
    every = np.concatenate([SOURCE, TARGET])
    mu = regularisation * every.var(0).mean()
    theirs = dual_components(every, mean_difference(50, 40), k, mu)
    ours = transfer_components(SOURCE, TARGET, dimensions=k, regularisation=regularisation)
    same_columns(np.concatenate(ours), theirs)


def test_little_regularisation_leaves_the_means_alike() -> None:
    own, other = transfer_components(SOURCE, TARGET, dimensions=6, regularisation=1e-9)
    assert np.abs(own.mean(0) - other.mean(0)).max() < 1e-3 * np.concatenate([own, other]).std(0).min()


def test_components_have_the_scale_and_order_of_the_eigenproblem() -> None:
    """W' (M + r I) W = 1, and W' X H X' W falls."""
    rng = np.random.default_rng(1)
    differences = [(rng.normal(size=7), weight) for weight in (1.0, 0.3)]
    w = components(differences, SOURCE, 5, 0.7)
    below = 0.7 * SOURCE.var(0).mean() * np.eye(7)
    for difference, weight in differences:
        below += weight * np.outer(difference, difference)
    np.testing.assert_allclose(w.T @ below @ w, np.eye(5), atol=1e-9)
    kept = w.T @ np.cov(SOURCE, rowvar=False) @ w
    np.testing.assert_allclose(kept, np.diag(np.diag(kept)), atol=1e-9)
    assert (np.diff(np.diag(kept)) < 0).all()
    assert components([], SOURCE, 99, 1.0).shape == (7, 7)
