"""Is a model as often right as it says? Calibration error out of fold, before and after scaling, by several ways of scaling.

    python benchmarks/calibrating.py DATA... [--seeds 3] [--folds 5] [--images 3000]

Protocol: the photos are dealt into folds, near-duplicates together. For each fold a probe is chosen and fitted on the others, as ``train``
does it, and everything that scales is fitted on what inner folds say of those others, never on the fold itself. The probabilities of all
folds together are the evaluation. Told are, as means over the seeds of the folds with the least and the most:

- ``ece``: the expected calibration error (Guo et al. 2017, 15 bins of equal width), which the issue's target of 0.05 speaks of;
- ``debiased``: the same without what chance alone adds: sqrt of (mean over bins of squared gap minus its variance), at least 0, after
  Kumar, Liang and Ma (2019), Verified Uncertainty Calibration, NeurIPS (arXiv:1909.10155), with their bins of equally many photos;
- ``chance``: the mean ece of 200 draws in which every photo is right with exactly the probability that is told;
- ``ece_of_150``: the mean ece of 200 draws of 150 of these photos: what a test split of that size shows of the same probabilities;
- ``log_loss``, and ``accuracy`` (which a temperature leaves as it is).

Ways of scaling: none; the temperature on inner out-of-fold scores (what ``train`` does); the temperature on a seventh of these; vector
scaling (a factor and an offset for every class) with a ridge towards the temperature.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from auditing import Photos, photos_of
from greffon.activations import Store
from greffon.backbones import load_backbone
from greffon.datasets import folds
from greffon.heads import fit_temperature, softmax
from greffon.metrics import calibration_error, calibration_error_by_chance, log_loss
from greffon.progress import Silent
from greffon.transfer.inductive import fit_probe
from record import record

__all__ = ["debiased_error", "error_of_few", "fit_vector", "said_out_of_fold"]


def said_out_of_fold(photos: Photos, k: int, seed: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Of every fold: scores and classes of the photos it learns from (by inner folds), scores and classes of its own."""
    classes, found = int(photos.labels.max()) + 1, []
    for train, test in folds(photos.labels, photos.groups, k, seed):
        probe = fit_probe(photos.pooled[train], photos.widths, photos.labels[train], classes, groups=photos.groups[train], seed=seed,
                          progress=Silent())  # fmt: skip
        inner = np.log(np.maximum(probe.held_out, 1e-12)) * probe.head.temperature
        own = probe.head.scores(probe.normaliser.apply(probe.representation.take(photos.pooled[test], photos.widths)))
        found.append((inner, photos.labels[train][probe.asked], own, photos.labels[test]))
    return found


def fit_vector(scores: np.ndarray, y: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """A factor and an offset for every class, drawn towards one factor for all by ``ridge`` per photo."""
    n, c = scores.shape
    start = 1 / fit_temperature(scores, y)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        factor, offset = start * np.exp(values[:c]), values[c:]
        p = softmax(scores * factor + offset)
        gap = p.copy()
        gap[np.arange(n), y] -= 1
        gradient = np.concatenate([(gap * scores * factor).sum(0), gap.sum(0)]) / n + 2 * ridge / n * values
        return float(-np.log(np.maximum(p[np.arange(n), y], 1e-300)).mean() + ridge / n * (values**2).sum()), gradient

    best: Any = minimize(loss, np.zeros(2 * c), jac=True, method="L-BFGS-B")
    return start * np.exp(best.x[:c]), best.x[c:]


def debiased_error(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """The calibration error (root of the mean square) without what chance adds."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == truth
    total = 0.0
    for here in np.array_split(np.argsort(confidence, kind="stable"), bins):
        if len(here) > 1:
            share = float(right[here].mean())
            total += len(here) / len(truth) * ((float(confidence[here].mean()) - share) ** 2 - share * (1 - share) / (len(here) - 1))
    return float(np.sqrt(max(total, 0.0)))


def error_of_few(truth: np.ndarray, told: np.ndarray, few: int, seed: int = 0, draws: int = 200) -> float:
    """The mean calibration error of so many photos, drawn from all: what a small test split would show of the same probabilities."""
    rng = np.random.default_rng(seed)
    some = [rng.permutation(len(truth))[:few] for _ in range(draws)]
    return float(np.mean([calibration_error(truth[one], told[one]) for one in some]))


def scaled(parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By way of scaling: the probabilities of all folds, and the true classes."""
    ways: dict[str, list[np.ndarray]] = {"none": [], "temperature": [], "temperature on a seventh": [], "vector": []}
    for inner, y, own, _ in parts:
        ways["none"].append(softmax(own))
        ways["temperature"].append(softmax(own / fit_temperature(inner, y)))
        some = np.random.default_rng(seed).permutation(len(y))[: max(10, len(y) // 7)]
        ways["temperature on a seventh"].append(softmax(own / fit_temperature(inner[some], y[some])))
        factor, offset = fit_vector(inner, y, ridge=1.0)
        ways["vector"].append(softmax(own * factor + offset))
    truth = np.concatenate([part[3] for part in parts])
    return {way: (np.concatenate(told), truth) for way, told in ways.items()}


def figures_of(truth: np.ndarray, told: np.ndarray) -> dict[str, float]:
    """What is recorded of one way of scaling."""
    return {
        "ece": calibration_error(truth, told),
        "debiased": debiased_error(truth, told),
        "chance": calibration_error_by_chance(told),
        "ece_of_150": error_of_few(truth, told, 150),
        "log_loss": log_loss(truth, told),
        "accuracy": float((told.argmax(1) == truth).mean()),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path, nargs="+")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--folds", type=int, default=5)
    arguments.add_argument("--images", type=int, default=3000)
    arguments.add_argument("--backbone", default="vgg16")
    arguments.add_argument("--precision", default="auto")
    options = arguments.parse_args()
    network, store = load_backbone(options.backbone), Store()
    figures: dict[str, Any] = {}
    for data in options.data:
        photos, engine = photos_of(data, network, options.precision, options.images, store)
        runs = [{way: figures_of(truth, told) for way, (told, truth) in scaled(said_out_of_fold(photos, options.folds, seed), seed).items()}
                for seed in range(options.seeds)]  # fmt: skip
        figures[data.name] = {"n": len(photos.labels), "classes": int(photos.labels.max()) + 1, "engine": engine.precision} | {
            way: {name: [round(float(one), 4) for one in (np.mean(values), min(values), max(values))]
                  for name in runs[0][way] for values in [[run[way][name] for run in runs]]}
            for way in runs[0]
        }  # fmt: skip
        print(data, figures[data.name], flush=True)
    record("calibrating", figures, notes=f"{options.backbone}; mean, least and most over {options.seeds} seeds of {options.folds} folds")


if __name__ == "__main__":
    main()
