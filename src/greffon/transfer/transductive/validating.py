"""Figures of an adaptation that need no label of the target. Higher is better in all of them.

None is right every time (Musgrave, Belongie and Lim 2022, arXiv:2208.07360, compare them), so several are shown.
"""

from __future__ import annotations

import numpy as np
import torch

from greffon import losses
from greffon.heads import fit_head

__all__ = [
    "density_ratio",
    "information_maximisation",
    "soft_neighbourhood_density",
    "weighted_validation",
]


def information_maximisation(probabilities: np.ndarray) -> float:
    """The mutual information of image and class over ln c: from 0, nothing is told apart, to 1, every image surely and all
    classes alike often. ``losses.information_maximisation`` with the sign turned.

    Parameters
    ----------
    probabilities
        (m, c).
    """
    scores = torch.from_numpy(np.log(np.maximum(probabilities, 1e-300)))
    return -float(losses.information_maximisation(scores)) / float(np.log(max(probabilities.shape[1], 2)))


def soft_neighbourhood_density(probabilities: np.ndarray, *, most: int = 2000) -> float:
    """``losses.neighbourhood_density`` of at most ``most`` of the rows, evenly spread; in nats, 0 of one row.

    Parameters
    ----------
    probabilities
        (m, c).
    """
    some = probabilities[:: max(1, -(-len(probabilities) // most))]
    return float(losses.neighbourhood_density(torch.from_numpy(np.ascontiguousarray(some)))) if len(some) > 1 else 0.0


def density_ratio(source: np.ndarray, target: np.ndarray, *, seed: int = 0, strength: float = 0.1) -> np.ndarray:
    """How much denser the target lies than the source at each source image, float64 (n,), by a classifier of domains
    (Bickel et al. 2007, ICML) that has not learned from that image: p(target | x) / p(source | x) times n / m.

    Parameters
    ----------
    source, target
        (n, d) and (m, d).
    """
    every = np.concatenate([source, target]).astype(np.float32)
    domain = np.concatenate([np.zeros(len(source), np.int64), np.ones(len(target), np.int64)])
    part = np.random.default_rng(seed).permutation(len(every)) % 2
    ratio = np.ones(len(source))
    for number in (0, 1):
        learn, ask = part != number, np.flatnonzero(part[: len(source)] == number)
        if len(np.unique(domain[learn])) < 2 or not len(ask):
            continue
        told = fit_head("logistic", every[learn], domain[learn], 2, strength, balanced=True).probabilities(every[ask])
        ratio[ask] = told[:, 1] / np.maximum(told[:, 0], 1e-6)
    return ratio


def weighted_validation(right: np.ndarray, ratio: np.ndarray) -> float:
    """Accuracy on source images, each weighted by its density ratio, with the ratio itself as a control variate: deep
    embedded validation (You et al. 2019, ICML, algorithm 1).

    Parameters
    ----------
    right
        Bool (n,): of source images that were not learned from.
    ratio
        float64 (n,), about 1 in the mean.
    """
    weighted = ratio * right
    spread = float(ratio.var())
    slope = -float(np.cov(weighted, ratio, bias=True)[0, 1]) / spread if spread > 1e-12 else 0.0
    return float(np.clip(weighted.mean() + slope * (ratio.mean() - 1), 0, 1))
