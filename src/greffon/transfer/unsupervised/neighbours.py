"""What lies next to what: nearest neighbours by cosine, near-duplicates, outliers. No labels, and no torch, here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from greffon.datasets import Facts
from greffon.datasets.scanning import blurred
from greffon.errors import OptionError
from greffon.progress import Progress

__all__ = ["Duplicates", "Neighbours", "Outliers", "SmallPictures", "near_duplicates", "nearest", "outliers"]

#: Pairs whose small pictures are compared at once: some 100 MiB.
_PAIRS = 16384
#: Up to so many photos, small pictures are compared each with each, which takes some ten seconds then; and how many are taken of each.
_EACH, _LIKE = 20_000, 6
#: Pixels below which photos are small.
_SMALL = 48
#: Below this spread, in cosine, distances differ by what a stored vector is rounded by.
_ROUNDING = 1e-3


@final
@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Of each of m images its k nearest, the nearest first.

    Parameters
    ----------
    rows
        int64 (m, k): positions among the images that were searched; -1 where there are fewer.
    similarity
        float32 (m, k): the cosine; -1 where there are fewer.
    """

    rows: np.ndarray
    similarity: np.ndarray


@final
@dataclass(frozen=True, slots=True, eq=False)
class SmallPictures:
    """What is compared where features say that two photos are alike.

    Parameters
    ----------
    grey
        uint8 (n, 16, 16): each photo shrunk by area averages.
    colour
        uint8 (n, 4, 4, 3).
    side
        int64 (n,): the shorter side of each photo, in pixels.
    """

    grey: np.ndarray
    colour: np.ndarray
    side: np.ndarray

    @classmethod
    def of(cls, facts: Sequence[Facts]) -> SmallPictures:
        """From what ``scan`` found of each photo."""
        grey = np.frombuffer(b"".join(one.grey for one in facts), np.uint8).reshape(len(facts), 16, 16)
        colour = np.frombuffer(b"".join(one.colour for one in facts), np.uint8).reshape(len(facts), 4, 4, 3)
        return cls(grey, colour, np.array([min(one.height, one.width) for one in facts], np.int64))

    def __len__(self) -> int:
        return len(self.side)

    def take(self, rows: np.ndarray) -> SmallPictures:
        """Those at these positions."""
        return SmallPictures(self.grey[rows], self.colour[rows], self.side[rows])


@final
@dataclass(frozen=True, slots=True, eq=False)
class Duplicates:
    """Photos that are the same but for recompression, resizing or mirroring.

    Parameters
    ----------
    pairs
        int64 (p, 2): positions, the smaller one first, in their order.
    similarity
        float32 (p,): the cosine of the features; NaN where the two are not among the nearest of each other.
    likeness
        float32 (p,): the correlation of the small grey pictures, in the better of both orientations.
    mirrored
        bool (p,): whether that is the mirrored one.
    groups
        int64 (n,): the position of the first photo of each one's group; pairs are joined to groups.
    """

    pairs: np.ndarray
    similarity: np.ndarray
    likeness: np.ndarray
    mirrored: np.ndarray
    groups: np.ndarray

    def sets(self) -> list[np.ndarray]:
        """The groups of two or more, each int64 (size,) in order, the largest first."""
        order = np.argsort(self.groups, kind="stable")
        _, first, counts = np.unique(self.groups[order], return_index=True, return_counts=True)
        found = [order[start : start + count] for start, count in zip(first, counts, strict=True) if count > 1]
        return sorted(found, key=lambda rows: (-len(rows), int(rows[0])))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Outliers:
    """How far each photo lies from those that are nearest to it.

    Parameters
    ----------
    distance
        float64 (n,): 1 minus the mean cosine to its neighbours (Angiulli and Pizzuti 2002, there the sum); 0 without any.
    score
        float64 (n,): 0.6745 (distance - median) / MAD, the modified z-score of Iglewicz and Hoaglin (1993).
    order
        int64 (n,): positions, the strangest first.
    """

    distance: np.ndarray
    score: np.ndarray
    order: np.ndarray

    def suspects(self, least: float = 3.5) -> np.ndarray:
        """int64 (s,): those above this score, the strangest first; 3.5 is what Iglewicz and Hoaglin recommend."""
        return self.order[self.score[self.order] > least]


def nearest(
    features: np.ndarray,
    k: int,
    *,
    queries: np.ndarray | None = None,
    block: int = 8192,
    progress: Progress | None = None,
) -> Neighbours:
    """The k nearest by cosine, exactly: every query is compared with every image.

    Parameters
    ----------
    features
        float (n, d), rows of length one (or of zeros, which are like nothing); float16 is enough.
    k
        Of fewer images all are neighbours.
    queries
        float (m, d), rows of length one. None: the images themselves, none of which is its own neighbour.
    block
        So many images, and an eighth as many queries, are compared at once: what takes memory.

    Raises
    ------
    OptionError
        ``k`` is below 1.
    """
    if k < 1:
        raise OptionError(f"k must be at least 1, got {k}")
    own = queries is None
    asked = features if queries is None else queries
    n, m = len(features), len(asked)
    k = min(k, n - own) if n else 0
    rows, best = np.full((m, k), -1, np.int64), np.full((m, k), -np.inf, np.float32)
    if not k or not m:
        return Neighbours(rows, best)
    step = max(1, block // 8)
    if progress is not None:
        progress.begin("Comparing", m)
    for start in range(0, m, step):
        mine = slice(start, min(start + step, m))
        some = np.asarray(asked[mine], np.float32)
        for left in range(0, n, block):
            part = some @ np.asarray(features[left : left + block], np.float32).T
            if own:
                i = np.arange(max(start, left), min(mine.stop, left + part.shape[1]))
                part[i - start, i - left] = -np.inf
            number, value = _largest(part, k)
            joined = np.concatenate([best[mine], value], 1), np.concatenate([rows[mine], number + left], 1)
            which, best[mine] = _largest(joined[0], k)
            rows[mine] = np.take_along_axis(joined[1], which, 1)
        if progress is not None:
            progress.advance(len(some))
    if progress is not None:
        progress.end()
    order = np.lexsort((rows, -best), axis=1)
    return Neighbours(np.take_along_axis(rows, order, 1), np.take_along_axis(best, order, 1))


def _largest(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and values of the k largest of each row, in any order; all of a row that is shorter."""
    if values.shape[1] <= k:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape), values
    which = np.argpartition(values, -k, axis=1)[:, -k:]
    return which, np.take_along_axis(values, which, 1)


def near_duplicates(
    near: Neighbours,
    pictures: SmallPictures,
    *,
    similarity: float = 0.7,
    likeness: float = 0.97,
    detail: float = 0.86,
    colour: float = 6.0,
) -> Duplicates:
    """Pairs of photos that are the same but for recompression, resizing or mirroring, and the groups that they join to.

    Features propose: each photo with its nearest. Pooled features of a CNN are nearly blind to mirroring, and to things that merely
    look alike as well; so the small pictures decide, in both orientations. Up to 20,000 photos they propose, too: among
    photos of one kind a copy that is shrunk, mirrored and compressed is not always among the nearest by features.

    Parameters
    ----------
    near
        Of each of n photos its nearest others; ten are enough, since groups are joined.
    pictures
        Of the n photos.
    similarity
        The least cosine of the features of a pair that they propose.
    likeness
        The least correlation of the grey pictures; of photos below 48 pixels, of which many are alike at this size, 0.995.
    detail
        The least correlation of what is left of them without the mean of the 3 × 3 around each pixel: it keeps apart different things
        before one and the same wall. Of photos below 48 pixels 0.97.
    colour
        How far the 4 × 4 colours may lie apart, in levels (root mean square).

    Raises
    ------
    OptionError
        Neighbours and pictures are not of the same photos.
    """
    n = len(pictures)
    if len(near.rows) != n:
        raise OptionError(f"near_duplicates: neighbours of {len(near.rows)} photos, and pictures of {n}")
    pairs, cosine = _candidates(near, similarity, pictures, likeness)
    i, j = pairs.T
    like, fine, apart = (np.zeros(len(pairs), np.float32) for _ in range(3))
    mirrored = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), _PAIRS):
        some = slice(start, start + _PAIRS)
        like[some], fine[some], apart[some], mirrored[some] = _compared(pictures, i[some], j[some])
    small = np.minimum(pictures.side[i], pictures.side[j]) < _SMALL
    least, finest = np.where(small, max(likeness, 0.995), likeness), np.where(small, max(detail, 0.97), detail)
    equal = (pictures.grey[i] == pictures.grey[j]).all((1, 2)) & (pictures.colour[i] == pictures.colour[j]).all((1, 2, 3))
    equal &= ~(cosine < 0.999)  # flat ones as well, whose greys do not correlate
    like[equal], mirrored[equal] = 1, False
    same = equal | (like >= least) & (fine >= finest) & (apart < colour)
    pairs, cosine, like, mirrored = pairs[same], cosine[same], like[same], mirrored[same]
    return Duplicates(pairs, cosine, like, mirrored, _joined(n, pairs))


def _candidates(near: Neighbours, least: float, pictures: SmallPictures, like: float) -> tuple[np.ndarray, np.ndarray]:
    """Each pair once, int64 (p, 2) with the smaller position first, and its cosine, NaN where features did not propose it."""
    n, k = near.rows.shape
    first, second, cosine = np.repeat(np.arange(n), k), near.rows.ravel(), near.similarity.ravel()
    good = (second >= 0) & (cosine >= least)
    found = [(first[good], second[good], cosine[good])]
    if 1 < n <= _EACH:
        grey = _unit(pictures.grey.astype(np.float32))
        for turned in (grey, grey[:, :, ::-1]):
            close = nearest(grey.reshape(n, -1), _LIKE, queries=turned.reshape(n, -1))
            i, at = np.nonzero((close.similarity >= like) & (close.rows != np.arange(n)[:, None]))
            found.append((i, close.rows[i, at], np.full(len(i), np.nan, np.float32)))
    first, second, cosine = (np.concatenate(parts) for parts in zip(*found, strict=True))
    low, high = np.minimum(first, second), np.maximum(first, second)
    _, where = np.unique(low * max(n, 1) + high, return_index=True)  # the first of each: that of the features
    return np.stack([low[where], high[where]], 1), cosine[where]


def _compared(
    pictures: SmallPictures, i: np.ndarray, j: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each pair how greys correlate in the better orientation, and details in that; how far colours are; if it is the mirrored one."""
    mine, theirs = (pictures.grey[some].astype(np.float32) for some in (i, j))
    one, other = _unit(mine), _unit(theirs)
    straight, turned = (np.einsum("phw,phw->p", one, every) for every in (other, other[:, :, ::-1]))
    mirrored = turned > straight
    theirs = np.where(mirrored[:, None, None], theirs[:, :, ::-1], theirs)
    one, other = (_unit(grey - blurred(grey), least=0.0) for grey in (mine, theirs))
    detail = np.einsum("phw,phw->p", one, other)
    colours, others = (pictures.colour[some].astype(np.float32) for some in (i, j))
    others = np.where(mirrored[:, None, None, None], others[:, :, ::-1], others)
    apart = np.sqrt(((colours - others) ** 2).mean((1, 2, 3)))
    return np.maximum(straight, turned), detail, apart, mirrored


def _unit(grey: np.ndarray, least: float = 3.0) -> np.ndarray:
    """float32 (p, 16, 16) to mean 0 and length one; what varies by less than 3 levels becomes zeros, which are like nothing."""
    moved = grey - grey.mean((1, 2), keepdims=True)
    length = np.sqrt((moved**2).sum((1, 2), keepdims=True))
    return np.where(length >= 16 * least, moved / np.maximum(length, 1e-6), 0)


def _joined(n: int, pairs: np.ndarray) -> np.ndarray:
    """int64 (n,): the first position of the connected component of each."""
    web = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, component = connected_components(web, directed=False)
    _, first = np.unique(component, return_index=True)
    return first[component].astype(np.int64)


def outliers(near: Neighbours) -> Outliers:
    """How strange each photo is among the others: the mean distance to its nearest, ten of them as a rule.

    A single copy of a strange photo does not hide it, as nine of ten neighbours are still far.
    """
    known = near.rows >= 0
    count = known.sum(1)
    total = np.where(known, 1 - near.similarity.astype(np.float64), 0).sum(1)
    distance = np.where(count > 0, total / np.maximum(count, 1), 0.0)
    middle = float(np.median(distance)) if len(distance) else 0.0
    spread = float(np.median(np.abs(distance - middle))) if len(distance) else 0.0
    score = 0.6745 * (distance - middle) / max(spread, _ROUNDING)
    return Outliers(distance, score, np.argsort(-distance, kind="stable"))
