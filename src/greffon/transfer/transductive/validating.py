"""Figures of an adaptation that need no label of the target. Higher is better in all of them.

None is right every time (Musgrave, Belongie and Lim 2022, arXiv:2208.07360, compare them), so several are shown.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "density_ratio",
    "information_maximisation",
    "soft_neighbourhood_density",
    "weighted_validation",
]


def information_maximisation(probabilities: np.ndarray) -> float:
    """Entropy of the mean less the mean entropy, over ln c: from 0, nothing is told apart, to 1, every image surely and all
    classes alike often (Shi and Sha 2012, arXiv:1206.6438, equation 9: the mutual information of image and class).

    Parameters
    ----------
    probabilities
        (m, c).
    """
    p = probabilities
    mean = p.mean(0)
    return float((_entropy(mean[None])[0] - _entropy(p).mean()) / np.log(max(p.shape[1], 2)))


def soft_neighbourhood_density(probabilities: np.ndarray, *, temperature: float = 0.05, most: int = 2000) -> float:
    """How many others each image's prediction has near: the mean entropy of the softmax of similarities to all others
    (Saito et al. 2021, arXiv:2108.10860, equations 2 to 4), in nats.

    Parameters
    ----------
    probabilities
        (m, c); their rows are brought to length one. At most ``most`` of them are looked at, evenly spread.
    """
    some = probabilities[:: max(1, -(-len(probabilities) // most))]
    rows = some / np.maximum(np.linalg.norm(some, axis=1, keepdims=True), 1e-12)
    if len(rows) < 2:
        return 0.0
    similarity = rows @ rows.T / temperature
    np.fill_diagonal(similarity, -np.inf)
    weights = np.exp(similarity - similarity.max(1, keepdims=True))
    return float(_entropy(weights / weights.sum(1, keepdims=True)).mean())


def density_ratio(source: np.ndarray, target: np.ndarray, *, seed: int = 0, strength: float = 0.1) -> np.ndarray:
    """How much denser the target lies than the source at each source image, float64 (n,), by a classifier of domains
    (Bickel et al. 2007, ICML) that has not learned from that image: p(target | x) / p(source | x) times n / m.

    Parameters
    ----------
    source, target
        (n, d) and (m, d).
    """
    from greffon.heads import fit_head

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


def _entropy(p: np.ndarray) -> np.ndarray:
    """Of rows, in nats."""
    return -(p * np.log(np.maximum(p, 1e-300))).sum(1)
