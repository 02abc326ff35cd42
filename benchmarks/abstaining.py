"""Does a model know what it does not know? Classes are left out of the training in turn, and their photos shown to the model.

    python benchmarks/abstaining.py DATA... [--strangers PHOTOS] [--seeds 3] [--kept 0.95] [--images 3000]

For every class: a probe is chosen and fitted, as ``train`` does it, on 70 % of the photos of the other classes (near-duplicates
together); the limit is taken from these same photos, each left out in turn, so that ``--kept`` of the known ones are answered. Then come
the other 30 % of the known classes, and all photos of the class that was left out. Told are, over all classes and seeds together, the
share of known ones that is answered and the accuracy of these, the share of the left-out class that is refused (intervals of 95 %, Wilson,
for as many photos as there are: those shown again with another seed do not count again), and the mean AUROC with the least and the most of
a class and seed.

``--strangers``: photos of something else altogether (200 of them at most), shown to the same models:
``strangers`` has the same figures of these.

Scores that are compared: the mean cosine distance to the k nearest training photos in the features of the head (k of 1, 5, 20); the same
to the nearest photos of the class that the model says; 1 - probability; the energy of Liu et al. (2020), minus the log of the sum of
exp(scores); and the Mahalanobis distance of Lee et al. (2018) with one covariance for all classes. Each has a limit by its own held-out
scores, the last three by cross-validation; but for the energy, of which none are kept: it has that of the known photos shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from auditing import Photos, photos_of
from greffon.activations import Store, Tap, compute
from greffon.backbones import load_backbone
from greffon.datasets import apportion, find_images
from greffon.heads import principal_axes
from greffon.metrics import auroc, wilson_interval
from greffon.novelty import left_out_novelty, novelty_limit, novelty_scores
from greffon.progress import Silent
from greffon.transfer.inductive import Probe, fit_probe
from record import record

__all__ = ["left_out"]

#: Of held-out training photos (sorted), of known test photos, of photos of the class that was left out, and of strangers.
Score = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def left_out(photos: Photos, absent: int, seed: int, strangers: np.ndarray) -> tuple[dict[str, Score], np.ndarray]:
    """The scores when a class is left out, and bool: which known test photos are named rightly. ``strangers``: pooled records."""
    known = np.flatnonzero(photos.labels != absent)
    labels = photos.labels[known] - (photos.labels[known] > absent)
    classes = int(labels.max()) + 1
    part = apportion(labels, photos.groups[known], (0.7, 0.3), seed, spread=True)
    train, test, unknown = known[part == 0], known[part == 1], np.flatnonzero(photos.labels == absent)
    y = labels[part == 0]
    probe = fit_probe(photos.pooled[train], photos.widths, y, classes, groups=photos.groups[train], seed=seed, progress=Silent())

    def features(pooled: np.ndarray) -> np.ndarray:
        return probe.normaliser.apply(probe.representation.take(pooled, photos.widths))

    x, groups = features(photos.pooled[train]), photos.groups[train]
    shown = [features(pooled) for pooled in (photos.pooled[test], photos.pooled[unknown], strangers)]
    found = {f"{k} nearest": _score(left_out_novelty(x, groups, x, groups, k), [novelty_scores(one, x, k) for one in shown])
             for k in (1, 5, 20)}  # fmt: skip
    found["5 nearest of the class said"] = _class_wise(probe, x, y, groups, shown)
    told = [probe.head.scores(one) for one in shown]
    t = probe.head.temperature
    found["1 - probability"] = _score(1 - probe.held_out.max(1), [1 - _softmax(one / t).max(1) for one in told])
    found["energy"] = _score(-_logsumexp(told[0]), [-_logsumexp(one) for one in told])
    found["Mahalanobis"] = _mahalanobis(x, y, shown)
    return found, told[0].argmax(1) == labels[part == 1]


def _score(held: np.ndarray, shown: Sequence[np.ndarray]) -> Score:
    known, unknown, strangers = shown
    return np.sort(held), known, unknown, strangers


def _softmax(scores: np.ndarray) -> np.ndarray:
    z = np.exp(scores - scores.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


def _logsumexp(scores: np.ndarray) -> np.ndarray:
    top = scores.max(1)
    return top + np.log(np.exp(scores - top[:, None]).sum(1))


def _class_wise(probe: Probe, x: np.ndarray, y: np.ndarray, groups: np.ndarray, shown: Sequence[np.ndarray]) -> Score:
    def of(features: np.ndarray, own_groups: np.ndarray | None) -> np.ndarray:
        said, found = probe.head.scores(features).argmax(1), []
        order = np.argsort(said, kind="stable")
        for c in np.unique(said):
            some, own = np.flatnonzero(said == c), np.flatnonzero(y == c)
            found.append(novelty_scores(features[some], x[own]) if own_groups is None
                         else left_out_novelty(features[some], own_groups[some], x[own], groups[own]))  # fmt: skip
        every = np.concatenate([*found, np.zeros(0)])
        if own_groups is None:
            every[order] = every.copy()
        return every

    return _score(of(x, groups), [of(one, None) for one in shown])


def _mahalanobis(x: np.ndarray, y: np.ndarray, shown: Sequence[np.ndarray], folds: int = 5) -> Score:
    """The least distance to a class mean, the covariance shrunk by a tenth towards a sphere, on the first 128 principal axes."""
    turned, axes = principal_axes(x)
    turned, axes = turned[:, :128].astype(np.float64), axes[:128]

    def distance(to: np.ndarray, of: np.ndarray, own: np.ndarray) -> np.ndarray:
        means = np.stack([of[own == c].mean(0) for c in np.unique(own)])
        rest = of - means[np.searchsorted(np.unique(own), own)]
        covariance = rest.T @ rest / len(rest)
        covariance = 0.9 * covariance + 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        root = np.linalg.cholesky(np.linalg.inv(covariance))
        return np.min([(((to - mean) @ root) ** 2).sum(1) for mean in means], 0)

    fold = np.random.default_rng(0).permutation(len(x)) % folds
    held = np.concatenate([distance(turned[fold == i], turned[fold != i], y[fold != i]) for i in range(folds)])
    return _score(held, [distance(one @ axes.T, turned, y) for one in shown])


def figures_of(runs: list[tuple[dict[str, Score], np.ndarray]], kept: float, n: int) -> dict[str, Any]:
    """Over all classes and seeds, for every score."""
    found: dict[str, Any] = {}
    for name in runs[0][0]:
        answered = shown = right = 0
        others: dict[str, list[tuple[int, int, float]]] = {"left_out": [], "strangers": []}
        for scores, ok in runs:
            held, known, *rest = scores[name]
            limit = novelty_limit(held, kept)
            answered, shown = answered + int((known <= limit).sum()), shown + len(known)
            right += int(ok[known <= limit].sum())
            for key, unknown in zip(others, rest, strict=True):
                if len(unknown):
                    others[key].append((int((unknown > limit).sum()), len(unknown), auroc(known, unknown)[0]))
        found[name] = {
            "answered": [round(one, 4) for one in (answered / shown, *wilson_interval(n * answered / shown, n))],
            "accuracy_of_answered": round(right / max(answered, 1), 4),
            **{key: _rates(runs, n if key == "left_out" else runs[0][1]) for key, runs in others.items() if runs},
        }
    found["accuracy_of_all"] = round(float(np.concatenate([ok for _, ok in runs]).mean()), 4)
    return found


def _rates(runs: Sequence[tuple[int, int, float]], n: int) -> dict[str, list[float]]:
    """What is refused: share, interval for n photos, least and most of a run; and AUROC: mean, least, most."""
    refused, shown = sum(one[0] for one in runs), sum(one[1] for one in runs)
    rates, areas = [one[0] / one[1] for one in runs], [one[2] for one in runs]
    return {
        "refused": [round(one, 4) for one in (refused / shown, *wilson_interval(n * refused / shown, n), min(rates), max(rates))],
        "auroc": [round(one, 4) for one in (float(np.mean(areas)), min(areas), max(areas))],
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path, nargs="+")
    arguments.add_argument("--strangers", type=Path)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--kept", type=float, default=0.95)
    arguments.add_argument("--images", type=int, default=3000)
    arguments.add_argument("--backbone", default="vgg16")
    arguments.add_argument("--precision", default="auto")
    options = arguments.parse_args()
    network, store = load_backbone(options.backbone), Store()
    figures: dict[str, Any] = {}
    for data in options.data:
        photos, engine = photos_of(data, network, options.precision, options.images, store)
        strangers = np.zeros((0, 2 * sum(network.widths())), np.float32)
        if options.strangers is not None:
            some = find_images([options.strangers])
            some = [some[i] for i in np.random.default_rng(0).permutation(len(some))[:200]]
            found = compute(some, network, Tap("pooled"), engine, store=store, progress=Silent())
            strangers = found.batch([i for i in range(len(some)) if i not in found.failed])
        classes = int(photos.labels.max()) + 1
        runs = [left_out(photos, absent, seed, strangers) for absent in range(classes) for seed in range(options.seeds)]
        figures[data.name] = {"n": len(photos.labels), "classes": classes, "engine": engine.precision, "kept": options.kept,
                              **figures_of(runs, options.kept, len(photos.labels))}  # fmt: skip
        print(data, figures[data.name], flush=True)
    record("abstaining", figures, notes=f"{options.backbone}; refused: share, interval, least and most of a class and seed; auroc: mean,"
           f" least, most; strangers: {options.strangers and options.strangers.name}")  # fmt: skip


if __name__ == "__main__":
    main()
