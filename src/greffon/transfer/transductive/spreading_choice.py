"""How labels spread: the settings, and their choice by leaving labelled images out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from greffon.datasets import sample_by_class
from greffon.errors import OptionError
from greffon.metrics import paired_difference
from greffon.progress import Progress
from greffon.transfer.transductive.domains import Labelled, Unlabelled
from greffon.transfer.transductive.spreading import class_mass_normalised, influence, neighbour_graph

__all__ = ["FEW", "GRID", "Spreading", "choose_spreading", "class_prior"]

#: The least number of labelled images from which anything is chosen or learned that is not a label.
FEW = 10


@final
@dataclass(frozen=True, slots=True)
class Spreading:
    """How labels spread: to how many neighbours, and what share of an image's label comes from them.

    Of four sets of photos none was better served, on the whole, by others in ``GRID`` than by the defaults.
    """

    neighbours: int = 10
    alpha: float = 0.9

    def __post_init__(self) -> None:
        if self.neighbours < 1 or not 0 < self.alpha < 1:
            raise OptionError(
                f"Spreading: neighbours must be at least 1 and alpha above 0 and below 1, got {self.neighbours} and {self.alpha}"
            )


#: What ``choose_spreading`` tries, the default first.
GRID = (Spreading(), Spreading(5, 0.9), Spreading(20, 0.9), Spreading(10, 0.7), Spreading(10, 0.98))


def class_prior(labelled: Labelled) -> np.ndarray:
    """The share of each class among the labelled images, one more of each being thought of: float64 (c,)."""
    counts = np.bincount(labelled.labels, minlength=labelled.classes) + 1.0
    return counts / counts.sum()


def choose_spreading(
    looks: Sequence[tuple[Labelled, Unlabelled]],
    grid: Sequence[Spreading] = GRID,
    *,
    groups: np.ndarray | None = None,
    prior: np.ndarray | None = None,
    seed: int = 0,
    progress: Progress,
    most: int = 300,
) -> tuple[int, Spreading, tuple[tuple[int, Spreading, float], ...]]:
    """Choose among several features of the same images, and then a graph, by leaving each labelled image out in turn.

    The first of each is taken, unless another names more of the labelled images rightly, beyond noise (the 90 % interval
    of the paired difference lies above 0). With fewer than ten labelled images, or one of a class, nothing is tried.

    Parameters
    ----------
    looks
        The same images, in the same order, with other features in each.
    groups
        int64 (n,): labelled near-duplicates, which are left out together.
    most
        At most this many labelled images are left out in turn, drawn by class.

    Returns
    -------
    The position in ``looks``, the choice in ``grid``, and of each that was tried its accuracy.
    """
    if not looks or not grid:
        raise OptionError("choose_spreading: needs one look and one spreading or more, got none")
    labelled = looks[0][0]
    if len(labelled) < FEW or int(_counts(labelled).min()) < 2:
        return 0, grid[0], ()
    group = np.arange(len(labelled)) if groups is None else groups
    some = sample_by_class(labelled.labels, most, seed, least=2)
    share = class_prior(labelled) if prior is None else prior
    tried: list[tuple[int, Spreading, float]] = []
    progress.begin("Choosing the neighbours", len(looks) + len(grid) - 1)

    def right_of(look: int, spreading: Spreading) -> np.ndarray:
        known, others = looks[look]
        graph = neighbour_graph(np.concatenate([known.features, others.features]), spreading.neighbours)
        told = _left_out(graph, known, some, group[some], spreading.alpha, share)
        right = told.argmax(1) == known.labels[some]
        tried.append((look, spreading, float(right.mean())))
        progress.advance()
        return right

    with threadpool_limits(1, user_api="blas"):
        by_look = [right_of(i, grid[0]) for i in range(len(looks))]
        look = _beyond_noise(by_look)
        chosen = grid[_beyond_noise([by_look[look], *(right_of(look, spreading) for spreading in grid[1:])])]
    progress.end()
    return look, chosen, tuple(tried)


def _left_out(
    graph: sparse.csr_array, labelled: Labelled, some: np.ndarray, groups: np.ndarray, alpha: float, prior: np.ndarray
) -> np.ndarray:
    """What spreading says of each of some labelled images without it and its near-duplicates: float64 (len(some), c)."""
    told, mass = influence(graph, some, alpha)
    own = np.eye(labelled.classes)[labelled.labels[some]]
    apart = groups[:, None] != groups[None]
    return class_mass_normalised((told * apart) @ own, (apart * mass) @ own, prior)


def _beyond_noise(rights: Sequence[np.ndarray]) -> int:
    """The best of several, each bool (n,), that is better than the first beyond noise; or else the first."""
    for i in sorted(range(1, len(rights)), key=lambda i: -rights[i].mean()):
        if paired_difference(rights[i], rights[0], 0.9)[1][0] > 0:
            return i
    return 0


def _counts(labelled: Labelled) -> np.ndarray:
    """How many images each class has that has any."""
    counts = np.bincount(labelled.labels, minlength=labelled.classes)
    return counts[counts > 0]
