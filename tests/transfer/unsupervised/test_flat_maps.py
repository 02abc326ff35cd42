"""Flat maps: PCA against a singular value decomposition, t-SNE and UMAP by whether neighbours stay neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

import greffon.transfer.unsupervised.maps as maps
from greffon.errors import OptionError
from greffon.transfer.unsupervised import has_umap, lay_flat


def groups(n: int = 90, d: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    group = np.arange(n) % 3
    return rng.normal(size=(3, d))[group] * 3 + rng.normal(size=(n, d)), group


def test_pca_is_the_two_strongest_axes() -> None:
    x, _ = groups()
    flat = lay_flat(x, "pca")
    rows = np.linalg.svd(x - x.mean(0), full_matrices=False)
    wanted = (rows.U * rows.S)[:, :2]
    for axis in range(2):
        assert abs(np.corrcoef(flat.points[:, axis], wanted[:, axis])[0, 1]) == pytest.approx(1, abs=1e-9)
    assert flat.points[:, 1].std() / flat.points[:, 0].std() == pytest.approx(rows.S[1] / rows.S[0], abs=1e-9)
    assert flat.kept == pytest.approx((rows.S[:2] ** 2).sum() / (rows.S**2).sum())
    assert flat.method == "PCA"


@pytest.mark.parametrize("method", ["tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_neighbours_stay_neighbours_and_the_seed_decides(method: str) -> None:
    if method == "umap" and not has_umap():
        pytest.skip("umap-learn is not installed")
    x, _ = groups()
    flat = lay_flat(x, method, seed=3, steps=300)
    assert flat.points.shape == (90, 2) and np.isfinite(flat.points).all()
    assert flat.method == {"tsne": "t-SNE", "umap": "UMAP"}[method]
    assert trustworthiness(x, flat.points, n_neighbors=10) > 0.85
    assert (lay_flat(x, method, seed=3, steps=300).points == flat.points).all()


@pytest.mark.parametrize("method", ["tsne", "pca"])
@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_few_points_are_laid_by_their_axes(method: str, n: int) -> None:
    x = np.random.default_rng(1).normal(size=(n, 5))
    flat = lay_flat(x, method)
    assert flat.points.shape == (n, 2) and np.isfinite(flat.points).all() and flat.method == "PCA"


def test_identical_and_broken_features() -> None:
    assert (lay_flat(np.ones((40, 7))).points == 0).all()
    x, _ = groups(40)
    x[3, 4] = np.nan
    assert np.isfinite(lay_flat(x, steps=250).points).all()
    assert lay_flat(np.random.default_rng(0).normal(size=(30, 1)), "pca").points.shape == (30, 2)


def test_another_method_and_umap_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="tsne, pca, umap"):
        lay_flat(np.ones((5, 2)), "isomap")
    monkeypatch.setattr(maps, "has_umap", lambda: False)
    with pytest.raises(OptionError, match="umap-learn"):
        lay_flat(np.ones((5, 2)), "umap")
