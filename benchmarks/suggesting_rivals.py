"""Published ways to choose what is labelled next, on the same features as ``greffon suggest``: what it is measured against.

Each takes the features of all images, float32 (n, d); the positions that are labelled, in their order, with their labels; how many
more are wanted; and a seed. It returns the positions of these, int64 (k,). ``classes`` is how many classes there are in truth,
which ProbCover asks for and ``greffon suggest`` does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from greffon.heads import fit_head

__all__ = ["RIVALS", "Rival", "badge", "coreset", "drop_query", "margin", "prob_cover", "random", "typi_clust"]

Rival = Callable[[np.ndarray, np.ndarray, np.ndarray, int, int, int], np.ndarray]


def random(x: np.ndarray, chosen: np.ndarray, y: np.ndarray, budget: int, seed: int, classes: int) -> np.ndarray:
    """Drawn, each image alike. A larger draw begins with the smaller one of the same seed."""
    order = np.random.default_rng(seed).permutation(len(x))
    return order[~np.isin(order, chosen)][:budget]


def typi_clust(x: np.ndarray, chosen: np.ndarray, y: np.ndarray, budget: int, seed: int, classes: int) -> np.ndarray:
    """Hacohen, Dekel and Weinshall (2022), arXiv:2202.02794, algorithm 1: of the largest clusters without a label the most typical."""
    count = min(len(chosen) + budget, 500)
    cluster, _ = _k_means(x, count, seed)
    taken, found = set(chosen.tolist()), []
    sizes = np.bincount(cluster, minlength=count)
    labelled = np.bincount(cluster[chosen], minlength=count) if len(chosen) else np.zeros(count, np.int64)
    usable = [c for c in range(count) if sizes[c] > 5] or list(range(count))
    while len(found) < budget:
        for c in sorted(usable, key=lambda c: (labelled[c], -sizes[c])):
            own = np.array([i for i in np.flatnonzero(cluster == c) if int(i) not in taken], np.int64)
            if len(own):
                break
        else:
            usable = list(range(count))
            continue
        best = int(own[np.argmax(_typicality(x[own]))])
        found.append(best)
        taken.add(best)
        labelled[c] += 1
    return np.array(found, np.int64)


def _typicality(own: np.ndarray, neighbours: int = 20) -> np.ndarray:
    """1 / mean distance to the nearest 20, or to half of them where they are few."""
    k = min(neighbours, len(own) // 2)
    if k < 1:
        return np.ones(len(own))
    near = np.sort(np.sqrt(_squares(own, own)), axis=1)[:, 1 : k + 1]
    return 1 / (near.mean(1) + 1e-5)


def prob_cover(x: np.ndarray, chosen: np.ndarray, y: np.ndarray, budget: int, seed: int, classes: int) -> np.ndarray:
    """Yehuda, Dekel, Hacohen and Weinshall (2022), arXiv:2205.11320: greedy cover by balls that are 95 % pure in k-means' clusters."""
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    cluster, _ = _k_means(unit, classes, seed)
    distances = np.sqrt(_squares(unit, unit))
    other = np.where(cluster[:, None] != cluster[None], distances, np.inf).min(1)
    radius = max(float(np.quantile(other, 0.05)), 1e-6)
    near = distances <= radius
    near[:, near[chosen].any(0)] = False
    found: list[int] = []
    closed = np.isin(np.arange(len(x)), chosen)
    for _ in range(budget):
        best = int(np.argmax(np.where(closed, -1, near.sum(1))))
        found.append(best)
        closed[best] = True
        near[:, near[best].copy()] = False
    return np.array(found, np.int64)


def coreset(x: np.ndarray, chosen: np.ndarray, y: np.ndarray, budget: int, seed: int, classes: int) -> np.ndarray:
    """Sener and Savarese (2018), arXiv:1708.00489: the farthest from all that are chosen; the first is drawn."""
    found: list[int] = [] if len(chosen) else [int(np.random.default_rng(seed).integers(len(x)))]
    centres = np.concatenate([chosen, found]).astype(np.int64)
    far = _squares(x, x[centres]).min(1)
    while len(found) < budget:
        best = int(np.argmax(far))
        found.append(best)
        far = np.minimum(far, _squares(x, x[best : best + 1])[:, 0])
    return np.array(found, np.int64)


def margin(x: np.ndarray, chosen: np.ndarray, y: np.ndarray, budget: int, seed: int, classes: int) -> np.ndarray:
    """Those whose two most probable classes are nearest to each other; without two classes, drawn."""
    told = _told(x, chosen, y, classes)
    if told is None:
        return random(x, chosen, y, budget, seed, classes)
    two = np.sort(told, axis=1)[:, -2:]
    gap = two[:, 1] - two[:, 0]
    gap[chosen] = np.inf
    return np.argsort(gap, kind="stable")[:budget]


def badge(x: np.ndarray, chosen: np.ndarray, y: np.ndarray, budget: int, seed: int, classes: int) -> np.ndarray:
    """Ash et al. (2020), arXiv:1906.03671: k-means++ on the gradients of the head's last layer; without two classes, drawn."""
    told = _told(x, chosen, y, classes)
    if told is None:
        return random(x, chosen, y, budget, seed, classes)
    pull = told - np.eye(classes)[told.argmax(1)]
    # |g ⊗ x - g' ⊗ x'|² = |g|²|x|² + |g'|²|x'|² - 2 (g·g')(x·x')
    own = (pull**2).sum(1) * (x**2).sum(1)
    rng = np.random.default_rng(seed)
    closed = np.isin(np.arange(len(x)), chosen)
    found = [int(np.argmax(np.where(closed, -1, own)))]
    far = np.full(len(x), np.inf)
    while len(found) < budget:
        last = found[-1]
        closed[last] = True
        far = np.minimum(far, np.maximum(own + own[last] - 2 * (pull @ pull[last]) * (x @ x[last]), 0))
        weight = np.where(closed, 0, far)
        found.append(int(rng.choice(len(x), p=weight / weight.sum())))
    return np.array(found, np.int64)


def drop_query(x: np.ndarray, chosen: np.ndarray, y: np.ndarray, budget: int, seed: int, classes: int) -> np.ndarray:
    """Gupte et al. (2024), arXiv:2401.14555: where half of three heads' answers change under dropout of the features, clustered."""
    rng = np.random.default_rng(seed)
    open_ = np.setdiff1d(np.arange(len(x)), chosen)
    if len(np.unique(y)) >= 2:
        head = fit_head("logistic", x[chosen], y, classes, 10.0)
        plain = head.scores(x[open_]).argmax(1)
        changes = sum((head.scores(x[open_] * (rng.random(x[open_].shape) > 0.75) / 0.25).argmax(1) != plain).astype(int) for _ in range(3))
        unsure = open_[np.asarray(changes) > 1]
        open_ = unsure if len(unsure) >= budget else open_
    cluster, centres = _k_means(x[open_], budget, seed)
    far = _squares(x[open_], centres)
    found = [int(open_[own[np.argmin(far[own, c])]]) for c in range(budget) if len(own := np.flatnonzero(cluster == c))]
    return np.array(found, np.int64)


def _k_means(x: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's, begun once: the cluster of each image, (n,), and the centres, (k, d)."""
    from sklearn.cluster import KMeans

    fitted: Any = KMeans
    found = fitted(k, n_init=1, random_state=seed).fit(x)
    return found.labels_, found.cluster_centers_


def _told(x: np.ndarray, chosen: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray | None:
    if len(np.unique(y)) < 2:
        return None
    return fit_head("logistic", x[chosen], y, classes, 10.0).probabilities(x)


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)


RIVALS: dict[str, Rival] = {
    "random": random,
    "typiclust": typi_clust,
    "probcover": prob_cover,
    "coreset": coreset,
    "margin": margin,
    "badge": badge,
    "dropquery": drop_query,
}
