"""Methods on the graph of nearest neighbours of both domains: label propagation, and manifold distribution alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.transfer.transductive.adapting import learn_and_tell, unit_scale
from greffon.transfer.transductive.aligning import per_domain
from greffon.transfer.transductive.domains import Labelled, Unlabelled
from greffon.transfer.transductive.spreading import class_mass_normalised, neighbour_graph, spread

__all__ = ["LabelPropagation", "ManifoldAlignment", "a_distance"]


@final
@dataclass(frozen=True, slots=True)
class LabelPropagation:
    """Labels of the source spread over the graph of both domains (Zhou et al. 2004), the total of each class set to
    what a classifier on aligned features gives it (class mass normalisation: Zhu et al. 2003, section 4).

    Parameters
    ----------
    trust
        How much the classifier's guess of a target image weighs against the label of a source image at the start.
    """

    neighbours: int = 10
    alpha: float = 0.95
    trust: float = 0.3

    def probabilities(self, source: Labelled, target: Unlabelled, seed: int) -> np.ndarray:
        n, classes = len(source), source.classes
        own, other = per_domain(source.features, target.features)
        first = learn_and_tell(own, source.labels, classes, other)
        start = np.concatenate([np.eye(classes)[source.labels], self.trust * first])
        graph = neighbour_graph(np.concatenate([own, other]), self.neighbours)
        told = spread(graph, start, self.alpha)[n:]
        return class_mass_normalised(told, told.sum(0), first.mean(0))


@final
@dataclass(frozen=True, slots=True)
class ManifoldAlignment:
    """A classifier whose outputs are smooth on the graph of both domains and whose kernel means are alike over them, in
    all and class by class: the dynamic distribution alignment of MEDA (Wang et al. 2018, arXiv:1807.07258, equations 9
    to 17), on principal axes instead of the geodesic flow kernel.

    Parameters
    ----------
    ridge, alignment, smoothness
        The paper's eta, lambda and rho.
    most
        The classifier's kernel is centred on at most so many images of each domain, drawn by the seed.
    """

    ridge: float = 0.1
    alignment: float = 10.0
    smoothness: float = 1.0
    neighbours: int = 10
    rounds: int = 10
    most: int = 1000

    def probabilities(self, source: Labelled, target: Unlabelled, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        mine, theirs = (np.sort(rng.permutation(len(one))[: self.most]) for one in (source, target))
        own, other = (unit_scale(x, x) for x in (source.features, target.features))
        x, y = own[mine], source.labels[mine]
        fitted = np.concatenate([x, other[theirs]]).astype(np.float64)
        n, m, classes = len(mine), len(theirs), source.classes
        width = _median_square(fitted)
        kernel = np.exp(-_squares(fitted, fitted) / width)
        laplacian = np.eye(n + m) - neighbour_graph(fitted, self.neighbours).toarray()
        known = np.concatenate([np.ones(n), np.zeros(m)])
        truth = np.concatenate([np.eye(classes)[y], np.zeros((m, classes))])
        fixed = (np.diag(known) + self.smoothness * laplacian) @ kernel
        labels = learn_and_tell(x, y, classes, other[theirs]).argmax(1)
        scores = weights = truth
        for _ in range(self.rounds):
            balance = _balance(fitted[:n], y, fitted[n:], labels, seed)
            system = fixed.copy()
            for column, weight in _contrasts(y, labels, balance):
                system += self.alignment * weight * np.outer(column, column @ kernel)
            weights = np.linalg.solve(system + self.ridge * np.eye(n + m), known[:, None] * truth)
            scores = kernel @ weights
            before, labels = labels, scores[n:].argmax(1)
            if (labels == before).all():
                break
        told = np.exp(-_squares(other.astype(np.float64), fitted) / width) @ weights if m < len(target) else scores[n:]
        told = np.maximum(told, 1e-6)
        return told / told.sum(1, keepdims=True)


def _contrasts(y: np.ndarray, labels: np.ndarray, balance: float) -> list[tuple[np.ndarray, float]]:
    """M_0 and the M_c of the paper's equation 11 as the vectors whose outer products they are, with their weights."""
    n, m = len(y), len(labels)
    found = [(np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)]), 1 - balance)]
    for c in np.intersect1d(y, labels):
        own, other = y == c, labels == c
        found.append((np.concatenate([own / own.sum(), -(other / other.sum())]), balance))
    return found


def _balance(x: np.ndarray, y: np.ndarray, other: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """The paper's mu (equations 15 to 17): how much the classes differ between the domains against all together, from
    how well a linear classifier tells the domains apart (the proxy A-distance, 2 (1 - 2 error)).
    """
    whole = a_distance(x, other, seed)
    each = [a_distance(x[y == c], other[labels == c], seed) for c in np.intersect1d(y, labels)]
    mean = float(np.mean(each)) if each else 0.0
    return mean / (whole + mean) if whole + mean > 1e-9 else 0.5


def a_distance(x: np.ndarray, other: np.ndarray, seed: int, most: int = 500) -> float:
    """2 (1 - 2 error) of a ridge classifier of domains on held-out halves, from 0 to 2 (Ben-David et al. 2007, NIPS 19)."""
    rng = np.random.default_rng(seed)
    a, b = (one[rng.permutation(len(one))[:most]] for one in (x, other))
    if min(len(a), len(b)) < 4:
        return 0.0
    every = np.concatenate([a, b]).astype(np.float64)
    domain = np.concatenate([np.full(len(a), -1.0), np.full(len(b), 1.0)])
    weight = np.where(domain > 0, 0.5 / len(b), 0.5 / len(a))
    half = np.concatenate([np.arange(len(a)), np.arange(len(b))]) % 2
    error = 0.0
    for part in (0, 1):
        learn, ask = half == part, half != part
        centre = (every[learn] * weight[learn, None]).sum(0) / weight[learn].sum()
        rows = every[learn] - centre
        gram = rows @ rows.T
        ridge = 0.1 * max(float(np.trace(gram)) / len(gram), 1e-12)
        dual = np.linalg.solve(gram + ridge * np.eye(len(gram)), domain[learn])
        told = (every[ask] - centre) @ (rows.T @ dual)
        error += float((weight[ask] * (np.sign(told) != domain[ask])).sum() / weight[ask].sum()) / 2
    return float(np.clip(2 * (1 - 2 * error), 0, 2))


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances, (n, m)."""
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)


def _median_square(x: np.ndarray, most: int = 1000) -> float:
    some = x[:: max(1, len(x) // most)]
    distances = _squares(some, some)
    return max(float(np.median(distances[np.triu_indices(len(some), 1)])) if len(some) > 1 else 1.0, 1e-12)
