"""Optimal transport of the source onto the target. POT computes it (the extra ``adapt``)."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from greffon.errors import OptionError
from greffon.transfer.transductive.adapting import learn_and_tell, unit_scale
from greffon.transfer.transductive.domains import Labelled, Unlabelled

__all__ = ["OptimalTransport", "has_pot"]


def has_pot() -> bool:
    """Whether POT is installed."""
    return importlib.util.find_spec("ot") is not None


@final
@dataclass(frozen=True, slots=True)
class OptimalTransport:
    """Source images are carried onto the target by an entropic transport plan in which images of several classes avoid one
    target image (Courty et al. 2017, arXiv:1507.00504, equation 17: the l1-lp regularisation, by POT), and learned from
    where they land. Both clouds are centred first.

    Parameters
    ----------
    entropy, classes
        Strengths of the two regularisations, in units of the median cost.
    most
        Of each domain at most so many images, drawn by the seed, take part in the plan.
    """

    entropy: float = 0.05
    classes: float = 0.1
    most: int = 1000
    strength: float = 1.0

    def probabilities(self, source: Labelled, target: Unlabelled, seed: int) -> np.ndarray:
        ot = _load_pot()
        rng = np.random.default_rng(seed)
        mine, theirs = (np.sort(rng.permutation(len(one))[: self.most]) for one in (source, target))
        own, other = (unit_scale(x, x).astype(np.float64) for x in (source.features, target.features))
        x, y, there = own[mine], source.labels[mine], other[theirs]
        cost = ot.dist(x, there)
        cost /= max(float(np.median(cost)), 1e-12)
        plan = _plan(ot, cost, y, self.entropy, self.classes)
        carried = plan @ there / np.maximum(plan.sum(1, keepdims=True), 1e-300)
        return learn_and_tell(carried, y, source.classes, other, self.strength)


def _plan(ot: Any, cost: np.ndarray, y: np.ndarray, entropy: float, classes: float, rounds: int = 10) -> np.ndarray:
    """``ot.da.sinkhorn_lpl1_mm`` between even weights, (n, m), without its (m, n, classes) array.

    Nor does it warn where the 200 steps of a round do not converge. Where one image is so far away that its kernel would
    be all 0, it goes by logarithms.
    """
    own, other = (np.full(count, 1 / count) for count in cost.shape)
    one_hot = np.unique(y)[:, None] == y
    far = max(float(cost.min(0).max()), float(cost.min(1).max())) / entropy
    step = ot.bregman.sinkhorn_log if far > 300 else ot.bregman.sinkhorn_knopp
    plan, penalty = np.zeros_like(cost), np.zeros_like(cost)
    for _ in range(rounds):
        plan = step(own, other, cost + classes * penalty, entropy, numItermax=200, stopThr=1e-9, warn=False)
        penalty = one_hot.T @ (0.5 / np.sqrt(one_hot @ plan + 1e-3))
    return plan


def _load_pot() -> Any:
    try:
        import ot
    except ImportError as error:
        raise OptionError("--method optimal-transport needs POT, which is not installed",
                          hint='Install it: pip install "greffon[adapt]".') from error  # fmt: skip
    return ot
