"""Labels for just these images, from a few labelled ones of the same kind: transduction in Vapnik's sense.

Label spreading says what an image's neighbours say; a logistic head, taught step by step by what is sure already, says
what its features say. Where the two agree, and are sure enough, an image gets its label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from greffon.datasets import folds
from greffon.errors import DataError, OptionError
from greffon.heads import Head, LinearHead, fit_head, fit_heads, fit_temperature, principal_axes, softmax
from greffon.progress import Progress
from greffon.transfer.transductive.domains import Labelled, Unlabelled
from greffon.transfer.transductive.spreading import class_mass_normalised, neighbour_graph, spread
from greffon.transfer.transductive.spreading_choice import FEW, Spreading, class_prior

__all__ = ["Labelling", "label_by_spreading"]

#: Of the images that look like each class, the surest so many shares teach the head, one after the other.
_SHARES = (0.2, 0.4, 0.6, 0.8)

#: C of the head, for features of mean squared length 1. From 1 to 100 it changed accuracy by a point at most, on two sets of photos.
_STRENGTH = 10.0

#: The temperature where it cannot be learned: better unsure than wrong. It is a guess, and the output says that it is.
_CAUTIOUS = 2.0

#: The least that a probability counts as, before its logarithm is taken.
_LEAST = 1e-9


@final
@dataclass(frozen=True, slots=True, eq=False)
class Labelling:
    """What is thought of m unlabelled images.

    Parameters
    ----------
    probabilities
        float64 (m, c): the geometric mean of what spreading and the head say, at the temperature.
    agree
        bool (m,): whether both name the same class.
    decided
        bool (m,): agreed, and as probable as was asked for.
    head
        A logistic head, fitted on the labelled and the decided images; for the features as they were given.
    temperature
        Learned from labelled images that were held out; a cautious 2 where they were too few.
    tested
        How many labelled images were held out, each once, and treated as if they were unlabelled. 0: the probabilities are
        not calibrated.
    right
        How many of these were then named rightly.
    tested_decided, right_decided
        The same among those that were decided.
    """

    probabilities: np.ndarray
    agree: np.ndarray
    decided: np.ndarray
    head: Head
    temperature: float
    tested: int
    right: int
    tested_decided: int
    right_decided: int

    @property
    def calibrated(self) -> bool:
        """Whether the probabilities were set right on labelled images that were held out."""
        return self.tested > 0


def label_by_spreading(
    labelled: Labelled,
    unlabelled: Unlabelled,
    spreading: Spreading | None = None,
    *,
    groups: np.ndarray | None = None,
    prior: np.ndarray | None = None,
    threshold: float = 0.6,
    seed: int = 0,
    progress: Progress,
) -> Labelling:
    """Label images by spreading and self-training.

    The labelled images are dealt into up to five folds; each fold is treated once as if it were unlabelled. What is then
    said of it gives the temperature of the probabilities (Guo et al. 2017), and an estimate of their accuracy.

    Parameters
    ----------
    labelled, unlabelled
        With features normalised over both, of mean squared length 1; see ``heads.Normaliser``.
    groups
        int64 (n,): labelled near-duplicates, which stay in one fold.
    prior
        float64 (c,): the share of each class among the unlabelled images; by default ``class_prior``.
    threshold
        How probable a label must be to be given.

    Raises
    ------
    DataError
        Fewer than two classes have a labelled image, the two have other features, or the prior is none.
    OptionError
        A threshold outside of [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise OptionError(f"threshold must be from 0 to 1, got {threshold}")
    if len(np.unique(labelled.labels)) < 2:
        raise DataError("labels spread from two classes or more, and fewer have a labelled image")
    if labelled.features.shape[1] != unlabelled.features.shape[1]:
        raise DataError(
            f"the labelled images have {labelled.features.shape[1]} features, the unlabelled {unlabelled.features.shape[1]}"
        )
    shares = class_prior(labelled) if prior is None else prior
    if shares.shape != (labelled.classes,) or not (shares > 0).all() or abs(float(shares.sum()) - 1) > 1e-6:
        raise DataError(f"the prior must be {labelled.classes} positive shares that sum to 1, got {shares.tolist()}")
    chosen = spreading or Spreading()
    n, y, classes = len(labelled), labelled.labels, labelled.classes
    x = np.concatenate([labelled.features, unlabelled.features])
    parts = folds(y, groups, 5, seed)
    with threadpool_limits(1, user_api="blas"):
        progress.begin("Spreading the labels", 1 + len(parts))
        web = _Web(neighbour_graph(x, chosen.neighbours), principal_axes(x)[0], chosen.alpha, shares)
        both, agree, _ = web.told(np.arange(n), y)
        progress.advance()
        held_both, held_scores = np.zeros((n, classes)), np.zeros((n, classes))
        held_agree, testable = np.zeros(n, bool), np.zeros(n, bool)
        for train, test in parts:
            if len(np.unique(y[train])) >= 2:
                told, same, head = web.told(train, y[train])
                held_both[test], held_agree[test], held_scores[test] = told[test], same[test], head.scores(web.x[test])
                testable[test] = np.isin(y[test], y[train])
            progress.advance()
        progress.end()
        tested = np.flatnonzero(testable) if int(testable.sum()) >= FEW else np.zeros(0, np.int64)
        temperature = fit_temperature(held_both[tested], y[tested]) if len(tested) else _CAUTIOUS
        probabilities = softmax(both[n:] / temperature)
        decided = agree[n:] & (probabilities.max(1) >= threshold)
        held = softmax(held_both[tested] / temperature)
        right = held.argmax(1) == y[tested]
        sure = held_agree[tested] & (held.max(1) >= threshold)
        taught = np.concatenate([np.arange(n), n + np.flatnonzero(decided)])
        names = np.concatenate([y, probabilities.argmax(1)[decided]])
        grown = fit_head("logistic", x[taught], names, classes, _STRENGTH, balanced=True)
    cooled = fit_temperature(held_scores[tested], y[tested]) if len(tested) else _CAUTIOUS
    grown = replace(grown, temperature=cooled)
    return Labelling(probabilities, agree[n:], decided, grown, temperature, len(tested), int(right.sum()), int(sure.sum()),
                     int((right & sure).sum()))  # fmt: skip


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Web:
    """All n images: how they hang together, and their features on the principal axes."""

    graph: sparse.csr_array
    x: np.ndarray
    alpha: float
    prior: np.ndarray

    def told(self, known: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, Head]:
        """From labelled images: logarithms of probabilities, (n, c); where spreading and head agree, (n,); and the head."""
        classes = len(self.prior)
        seeds = np.zeros((len(self.x), classes))
        seeds[known, labels] = 1
        scores = spread(self.graph, seeds, self.alpha)
        spread_says = np.log(np.maximum(class_mass_normalised(scores, scores.sum(0), self.prior), _LEAST))
        others = np.ones(len(self.x), bool)
        others[known] = False
        both = spread_says
        head: Head = LinearHead(
            "logistic", np.zeros((classes, self.x.shape[1]), np.float32), np.zeros(classes, np.float32)
        )
        for share in _SHARES:
            surest, names = _surest(both, others, share)
            head = fit_heads("logistic", self.x[np.concatenate([known, surest])], np.concatenate([labels, names]), classes,
                             (_STRENGTH,), balanced=True, tolerance=1e-4)[0]  # fmt: skip
            head_says = np.log(np.maximum(head.probabilities(self.x), _LEAST))
            both = (spread_says + head_says) / 2
        return both, spread_says.argmax(1) == head.scores(self.x).argmax(1), head


def _surest(logarithms: np.ndarray, others: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the images that look like each class its surest share, rounded up: positions and classes, int64 (k,) each."""
    probable = softmax(logarithms)
    ordered = np.sort(probable, 1)
    margin, best = ordered[:, -1] - ordered[:, -2], probable.argmax(1)
    positions = []
    for c in range(probable.shape[1]):
        mine = np.flatnonzero(others & (best == c) & (margin > 0))
        positions.append(mine[np.argsort(-margin[mine], kind="stable")][: int(np.ceil(share * len(mine)))])
    chosen = np.concatenate(positions)
    return chosen, best[chosen]
