"""Features (n, d) laid out flat, so that what is alike lies together. No labels, and no torch, here."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.errors import OptionError

__all__ = ["MAPS", "FlatMap", "has_umap", "lay_flat"]

MAPS = ("tsne", "pca", "umap")

#: Fewer points than this have no neighbourhoods to keep: t-SNE and UMAP make way for the two principal axes.
_FEW = 10
#: Principal axes that t-SNE and UMAP see, as van der Maaten and Hinton (2008) have it in their experiments.
_AXES = 50
#: Below this, all features are the same but for rounding.
_NOTHING = 1e-12


@final
@dataclass(frozen=True, slots=True, eq=False)
class FlatMap:
    """Points of a map.

    Parameters
    ----------
    points
        float64 (n, 2).
    method
        How they were laid out: ``"t-SNE"``, ``"PCA"`` or ``"UMAP"``.
    kept
        Of PCA the share of the variance that the two axes keep; NaN otherwise.
    """

    points: np.ndarray
    method: str
    kept: float


def has_umap() -> bool:
    """Whether the extra ``maps`` is installed."""
    return importlib.util.find_spec("umap") is not None


def lay_flat(
    features: np.ndarray, method: str = "tsne", *, seed: int = 0, start: np.ndarray | None = None, steps: int = 1000
) -> FlatMap:
    """Lay features out on a plane.

    Parameters
    ----------
    features
        float (n, d).
    method
        ``"pca"``: the two principal axes. ``"tsne"`` (van der Maaten 2014): neighbours stay together, and distances between groups
        say nothing. ``"umap"`` (McInnes et al. 2018, arXiv:1802.03426), where it is installed: much the same, quicker where there
        are many. Below ten points both are PCA.
    seed
        The same gives the same map on the same machine.
    start
        float (n, 2): where t-SNE begins; None: with the principal axes.
    steps
        Of t-SNE.

    Raises
    ------
    OptionError
        No such method, or it is not installed.
    """
    if method not in MAPS:
        raise OptionError(f"method must be one of {', '.join(MAPS)}, got {method!r}")
    if method == "umap" and not has_umap():
        raise OptionError("method umap needs umap-learn, which is not installed", hint='pip install "greffon[maps]", or take tsne.')
    x = features.astype(np.float64)
    x = np.nan_to_num(x - x.mean(0)) if len(x) else x
    spread = float(np.abs(x).max(initial=0))
    if spread < _NOTHING:
        return FlatMap(np.zeros((len(x), 2)), "PCA", 1.0)
    if method == "pca" or len(x) < _FEW:
        return _axes(x / spread, seed)
    from sklearn.decomposition import PCA

    x = PCA(min(_AXES, *x.shape), random_state=seed).fit_transform(x / spread)
    if start is None or not start[:, 0].std() > 0:
        start = np.pad(x, ((0, 0), (0, 2)))[:, :2]
    return _tsne(x, start, seed, steps) if method == "tsne" else _umap(x, seed)


def _axes(x: np.ndarray, seed: int) -> FlatMap:
    from sklearn.decomposition import PCA

    flat = PCA(min(2, *x.shape), random_state=seed)
    points = flat.fit_transform(x)
    return FlatMap(np.pad(points, ((0, 0), (0, 2 - points.shape[1]))), "PCA", float(flat.explained_variance_ratio_.sum()))


def _tsne(x: np.ndarray, start: np.ndarray, seed: int, steps: int) -> FlatMap:
    from sklearn.manifold import TSNE
    from threadpoolctl import ThreadpoolController

    # A small start, as scikit-learn has it for init="pca": distances grow while neighbours find each other.
    begin = (start / start[:, 0].std() * 1e-4).astype(np.float32)
    flat = TSNE(perplexity=min(30, (len(x) - 1) / 3), init=begin, max_iter=steps, random_state=seed)
    # It adds up what its threads found in the order in which they end; of two, any order gives the same sum.
    pools = ThreadpoolController().select(user_api="openmp")
    with pools.limit(limits=min([2, *(one["num_threads"] for one in pools.info())])):
        return FlatMap(flat.fit_transform(x).astype(np.float64), "t-SNE", float("nan"))


def _umap(x: np.ndarray, seed: int) -> FlatMap:
    with warnings.catch_warnings():  # that TensorFlow is absent, and that a seed means one thread
        warnings.simplefilter("ignore")
        from umap import UMAP

        points = UMAP(n_neighbors=min(15, len(x) - 1), min_dist=0.1, random_state=seed, n_jobs=1).fit_transform(x)
    return FlatMap(np.asarray(points, np.float64), "UMAP", float("nan"))
