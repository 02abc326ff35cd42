"""An index of vectors: all of them where they are few, and where they are many only the cells that lie next to a query.

The cells are FAISS's inverted file (Douze et al. 2024, arXiv:2401.08281, section 5.2): k-means cuts the vectors into cells, and a
query is compared with the vectors of the nearest few. All that it consists of are plain arrays, which can be checked
before they are used; FAISS's own files cannot.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from greffon.errors import OptionError
from greffon.progress import Progress
from greffon.transfer.unsupervised.neighbours import Neighbours, nearest

if TYPE_CHECKING:
    import faiss

__all__ = ["KINDS", "Searcher", "VectorIndex", "build_index", "has_faiss", "searcher"]

KINDS = ("auto", "exact", "cells")

#: From so many vectors on, ``auto`` takes cells: comparing with all of them takes 20 ms there.
_MANY = 50_000
#: Rows that k-means sees for each cell, its rounds, and how many queries tell how many cells must be looked into.
_SEEN, _ROUNDS, _TRIED = 40, 8, 256
#: Of the ten nearest, this share must be found in the trial; new photos lie farther off than those of the index, and find fewer.
_RECALL = 0.98
_BLOCK = 65536


@final
@dataclass(frozen=True, slots=True, eq=False)
class VectorIndex:
    """Vectors of length one (or of zeros), and the cells that they lie in.

    Parameters
    ----------
    vectors
        (n, d): float32, or float16 where there are cells; those of a cell beside each other.
    centres
        float32 (c, d): of the cells; (0, d) where every query is compared with every vector.
    ends
        int64 (c,): where each cell ends among the vectors.
    probes
        Cells that a query looks into; 0 without cells.
    recall
        The share of the ten nearest that was found for vectors of the index itself, each without itself; 1 without cells.
    """

    vectors: np.ndarray
    centres: np.ndarray
    ends: np.ndarray
    probes: int
    recall: float

    @property
    def kind(self) -> str:
        """``"exact"`` or ``"cells"``."""
        return "cells" if len(self.centres) else "exact"

    def __len__(self) -> int:
        return len(self.vectors)


def has_faiss() -> bool:
    """Whether the extra ``search`` is installed."""
    return importlib.util.find_spec("faiss") is not None


def build_index(
    vectors: np.ndarray, *, kind: str = "auto", seed: int = 0, progress: Progress
) -> tuple[VectorIndex, np.ndarray]:
    """Make vectors fit to be searched.

    Parameters
    ----------
    vectors
        float (n, d), rows of length one.
    kind
        ``"exact"``: as they are. ``"cells"``: with FAISS; about 4 √n cells, and as many of them are looked into as it takes to find 98 %
        of the ten nearest, measured on some of the vectors. ``"auto"``: cells from 50,000 vectors on, where FAISS is installed.
    seed
        Of k-means and of the trial.

    Returns
    -------
    The index, and int64 (n,): the position in ``vectors`` of each of its rows.

    Raises
    ------
    OptionError
        No such kind, or FAISS is not installed.
    """
    if kind not in KINDS:
        raise OptionError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    n = len(vectors)
    if kind == "cells" and not has_faiss():
        raise OptionError("kind cells needs FAISS, which is not installed", hint='pip install "greffon[search]"')
    if kind == "auto" and n >= _MANY and not has_faiss():
        progress.warn(f"{n:,} photos: a search compares with each of them; FAISS would be quicker: pip install \"greffon[search]\"")
    if n < 2 or kind == "exact" or (kind == "auto" and (n < _MANY or not has_faiss())):
        none = np.zeros((0, vectors.shape[1]), np.float32)
        return VectorIndex(np.asarray(vectors, np.float32), none, np.zeros(0, np.int64), 0, 1.0), np.arange(n)
    rng = np.random.default_rng(seed)
    cells = max(1, min(n // 39, round(4 * np.sqrt(n))))  # below 39 rows a cell, FAISS finds that too few
    centres = _centres(vectors, cells, rng, seed, progress)
    cell = _cell_of(vectors, centres, progress)
    order = np.argsort(cell, kind="stable")
    ends = np.cumsum(np.bincount(cell, minlength=len(centres))).astype(np.int64)
    kept = np.empty(vectors.shape, np.float16)
    for start in range(0, n, _BLOCK):
        kept[start : start + _BLOCK] = vectors[order[start : start + _BLOCK]]
    return _with_probes(VectorIndex(kept, centres, ends, 1, 0.0), rng, progress), order


def _centres(vectors: np.ndarray, cells: int, rng: np.random.Generator, seed: int, progress: Progress) -> np.ndarray:
    """Spherical k-means on some of the vectors: float32 (c, d)."""
    import faiss

    some = np.sort(rng.permutation(len(vectors))[: _SEEN * cells])
    progress.say(f"k-means: {cells:,} cells from {len(some):,} vectors")
    means = faiss.Kmeans(vectors.shape[1], cells, niter=_ROUNDS, spherical=True, seed=seed, max_points_per_centroid=_SEEN)
    means.train(np.ascontiguousarray(vectors[some], np.float32))
    return np.array(means.centroids, np.float32)


def _cell_of(vectors: np.ndarray, centres: np.ndarray, progress: Progress) -> np.ndarray:
    """int64 (n,): the nearest centre of each."""
    import faiss

    coarse = faiss.IndexFlatIP(centres.shape[1])
    coarse.add(centres)
    found = np.empty(len(vectors), np.int64)
    progress.begin("Sorting into cells", len(vectors))
    for start in range(0, len(vectors), _BLOCK):
        part = np.ascontiguousarray(vectors[start : start + _BLOCK], np.float32)
        found[start : start + len(part)] = coarse.search(part, 1)[1][:, 0]
        progress.advance(len(part))
    progress.end()
    return found


def _with_probes(index: VectorIndex, rng: np.random.Generator, progress: Progress) -> VectorIndex:
    """The same, with as many probes as find enough of the ten nearest of some of its own vectors."""
    n, cells = len(index), len(index.centres)
    asked = np.sort(rng.permutation(n)[:_TRIED])
    queries = np.asarray(index.vectors[asked], np.float32)
    k = min(11, n)
    truth = nearest(index.vectors, k, queries=queries)
    # Each is nearest to itself or to a copy of itself: what counts is whether the others that are as near were found.
    least = truth.similarity[:, -1:] - 1e-6
    search = searcher(index)
    probes = min(4, cells)
    while True:
        found = search.search(queries, k, probes=probes)
        recall = float(((found.similarity >= least).sum(1) - 1).clip(0, k - 1).mean() / max(k - 1, 1))
        if recall >= _RECALL or probes == cells:
            progress.say(f"{probes} of {cells:,} cells are looked into: {100 * recall:.1f} % of the ten nearest are found")
            return VectorIndex(index.vectors, index.centres, index.ends, probes, recall)
        probes = min(cells, max(probes + 1, probes * 5 // 4))


@final
class Searcher:
    """An index made ready in memory; see ``searcher``."""

    def __init__(self, index: VectorIndex, cells: faiss.IndexIVFScalarQuantizer | None) -> None:
        self._index = index
        self._cells = cells

    def search(self, queries: np.ndarray, k: int, *, probes: int = 0, progress: Progress | None = None) -> Neighbours:
        """The k nearest of each query; all of an index that holds fewer.

        Parameters
        ----------
        queries
            float32 (m, d), rows of length one.
        probes
            Cells to look into; 0: as many as the index says, and more for a k that is large.

        Raises
        ------
        OptionError
            ``k`` is below 1.
        """
        if k < 1:
            raise OptionError(f"k must be at least 1, got {k}")
        n, cells = len(self._index), len(self._index.centres)
        if self._cells is None or 4 * k > n:
            return nearest(self._index.vectors, k, queries=queries, progress=progress)
        self._cells.nprobe = probes or min(cells, max(self._index.probes, -(-4 * k * cells // n)))
        rows, best = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        if progress is not None:
            progress.begin("Comparing", len(queries))
        for start in range(0, len(queries), 1024):
            part = np.ascontiguousarray(queries[start : start + 1024], np.float32)
            best[start : start + 1024], rows[start : start + 1024] = self._cells.search(part, k)
            if progress is not None:
                progress.advance(len(part))
        if progress is not None:
            progress.end()
        best = np.where(rows < 0, np.float32(-1), best)
        order = np.lexsort((np.where(rows < 0, n, rows), -best), axis=1)
        return Neighbours(np.take_along_axis(rows, order, 1), np.take_along_axis(best, order, 1))

    def among_themselves(self, k: int, *, progress: Progress | None = None) -> Neighbours:
        """Of each vector of the index its k nearest others."""
        vectors = self._index.vectors
        if self._cells is None or 4 * (k + 1) > len(vectors):
            return nearest(vectors, k, progress=progress)
        found = self.search(vectors, k + 1, progress=progress)
        own = found.rows == np.arange(len(vectors))[:, None]
        own[~own.any(1), -1] = True  # among more than k copies of itself
        keep = ~own
        return Neighbours(found.rows[keep].reshape(-1, k), found.similarity[keep].reshape(-1, k))


def searcher(index: VectorIndex) -> Searcher:
    """Make an index ready. With cells and FAISS this copies the vectors, a second for each million; without FAISS every
    query is compared with every vector.
    """
    if not len(index.centres) or not has_faiss():
        return Searcher(index, None)
    import faiss

    count, d = index.centres.shape
    coarse = faiss.IndexFlatIP(d)
    coarse.add(np.ascontiguousarray(index.centres))
    cells: Any = faiss.IndexIVFScalarQuantizer(
        coarse, d, count, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    # FAISS is not to free what Python holds.
    cells.referenced_objects = (coarse,)
    cells.is_trained = True
    rows = np.arange(len(index), dtype=np.int64)
    codes = np.ascontiguousarray(index.vectors, np.float16).view(np.uint8)
    start = 0
    for cell, end in enumerate(index.ends.tolist()):
        if end > start:
            cells.invlists.add_entries(cell, end - start, faiss.swig_ptr(rows[start:end]), faiss.swig_ptr(codes[start:end]))
        start = end
    cells.ntotal = len(index)
    return Searcher(index, cells)
