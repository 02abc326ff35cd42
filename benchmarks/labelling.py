"""Labels from a few labelled photos: spreading and self-training against what is learned from the few alone.

    python benchmarks/labelling.py DATA... [--shots 1,2,5,10] [--draws 10] [--images 1000] [--keep N,N,...]

So many photos of each class are drawn, with seeds 0, 1, ...; all the others are unlabelled, and their labels are looked at
to count alone. With ``--keep 40,40,100,200,199`` so many photos of each class are left, and ``prior`` is ``label`` that is told their
shares. Every method sees the same features, computed once. ``label`` is what ``greffon label`` does, every photo
counted, the unsure ones by their most probable class. Of sets with more photos than ``--images`` some are drawn.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from scipy.stats import t

from greffon.activations import Store, Tap, chosen_engine, compute
from greffon.backbones import Backbone, load_backbone
from greffon.datasets import read_dataset, scan
from greffon.heads import fit_head
from greffon.jobs.label.job import REPRESENTATIONS, looks_of
from greffon.metrics import calibration_error
from greffon.progress import Silent
from greffon.transfer.inductive import CANDIDATES, fit_probe
from greffon.transfer.transductive import choose_spreading, label_by_spreading
from record import record

__all__ = ["Draw", "Photos", "interval_of_mean", "kept", "label_draw", "photos_of"]

BASELINES = ("logistic", "centroid", "train")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Photos:
    """Pooled records, float32 (n, ...); labels, int64 (n,); near-duplicates, int64 (n,); and the widths of the stages."""

    pooled: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    widths: Sequence[int]


@final
@dataclass(frozen=True, slots=True)
class Draw:
    """Shares of the unlabelled photos of one draw: named rightly by each method, labelled, and rightly among the labelled."""

    right: dict[str, float]
    labelled: float
    right_of_labelled: float
    calibration_error: float
    chosen: str


def photos_of(data: Path, network: Backbone, images: int, store: Store) -> Photos:
    """The photos of a data set, or so many of them."""
    looked = scan(read_dataset(data), book=store, progress=Silent())
    some = np.sort(np.random.default_rng(0).permutation(len(looked.dataset))[:images])
    dataset, digests = looked.dataset.take(some), [looked.digests[i] for i in some]
    engine, _ = chosen_engine(network, Tap("pooled"), "auto", dataset.paths, Silent())
    found = compute(dataset.paths, network, Tap("pooled"), engine, store=store, progress=Silent(), digests=digests)
    return Photos(found.all(), dataset.labels, looked.groups[some], network.widths())


def label_draw(photos: Photos, shots: int, seed: int, threshold: float, *, prior: bool = False) -> Draw:
    """Draw so many photos of each class, and label the others; with ``prior`` once more, told the shares of their classes."""
    rng = np.random.default_rng(seed)
    y, classes = photos.labels, int(photos.labels.max()) + 1
    few = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:shots] for c in range(classes)])
    others = np.setdiff1d(np.arange(len(y)), few)
    truth, groups = y[others], photos.groups[few]
    looks, _ = looks_of(photos.pooled[np.concatenate([few, others])], photos.widths, y[few], classes)
    which, spreading, _ = choose_spreading(looks, groups=groups, seed=seed, progress=Silent())
    told = label_by_spreading(*looks[which], spreading, groups=groups, threshold=threshold, seed=seed, progress=Silent())
    right = told.probabilities.argmax(1) == truth
    found = {"label": float(right.mean())}
    if prior:
        told_shares = label_by_spreading(
            *looks[which], spreading, groups=groups, prior=np.bincount(truth, minlength=classes) / len(truth), threshold=threshold,
            seed=seed, progress=Silent(),
        )  # fmt: skip
        found["prior"] = float((told_shares.probabilities.argmax(1) == truth).mean())
    known, unknown = looks[0]
    for name, kind in zip(BASELINES, ("logistic", "centroid"), strict=False):
        head = fit_head(kind, known.features, y[few], classes, 10.0)
        found[name] = float((head.scores(unknown.features).argmax(1) == truth).mean())
    # One photo a class leaves nothing to choose by.
    choices, strength = (CANDIDATES, None) if shots > 1 else (REPRESENTATIONS[:1], 10.0)
    probe = fit_probe(photos.pooled[few], photos.widths, y[few], classes, groups=groups, representations=choices,
                      strength=strength, seed=seed, progress=Silent())  # fmt: skip
    found["train"] = float((probe.probabilities(photos.pooled[others], photos.widths).argmax(1) == truth).mean())
    return Draw(
        right=found,
        labelled=float(told.decided.mean()),
        right_of_labelled=float(right[told.decided].mean()) if told.decided.any() else float("nan"),
        calibration_error=calibration_error(truth, told.probabilities),
        chosen=f"{REPRESENTATIONS[which]}, {spreading.neighbours} neighbours, alpha {spreading.alpha:g}",
    )


def kept(photos: Photos, counts: Sequence[int]) -> Photos:
    """The first so many photos of each class."""
    some = np.sort(np.concatenate([np.flatnonzero(photos.labels == c)[:count] for c, count in enumerate(counts)]))
    return Photos(photos.pooled[some], photos.labels[some], photos.groups[some], photos.widths)


def interval_of_mean(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of several draws, by Student's t."""
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path, nargs="+")
    arguments.add_argument("--shots", default="1,2,5,10")
    arguments.add_argument("--draws", type=int, default=10)
    arguments.add_argument("--images", type=int, default=1000)
    arguments.add_argument("--keep", default="")
    arguments.add_argument("--threshold", type=float, default=0.6)
    options = arguments.parse_args()
    network, store = load_backbone("vgg16"), Store()
    figures: dict[str, object] = {}
    for data in options.data:
        photos = photos_of(data, network, options.images, store)
        if options.keep:
            photos = kept(photos, [int(count) for count in options.keep.split(",")])
        by_shots: dict[str, object] = {}
        for shots in map(int, options.shots.split(",")):
            draws = [label_draw(photos, shots, seed, options.threshold, prior=bool(options.keep)) for seed in range(options.draws)]
            gains = {one: [100 * (d.right["label"] - d.right[one]) for d in draws] for one in BASELINES}
            by_shots[str(shots)] = {
                "accuracy": {name: _told([100 * d.right[name] for d in draws]) for name in draws[0].right},
                "gain_points": {one: _told(values) for one, values in gains.items()},
                "gain_interval": {one: [round(end, 2) for end in interval_of_mean(values)] for one, values in gains.items()},
                "labelled_share": _told([100 * d.labelled for d in draws]),
                "accuracy_of_labelled": _told([100 * d.right_of_labelled for d in draws if d.labelled]),
                "calibration_error": _told([100 * d.calibration_error for d in draws]),
                "chosen": {name: sum(d.chosen == name for d in draws) for name in sorted({d.chosen for d in draws})},
            }
            print(data, shots, by_shots[str(shots)], flush=True)
        figures[data.name] = {"n": len(photos.labels), "classes": int(photos.labels.max()) + 1, "draws": options.draws, "shots": by_shots}
    name = "labelling_unequal" if options.keep else "labelling"
    record(name, figures, notes="per cent: mean, least and most of the draws; train is what greffon train does with the few")


def _told(values: Sequence[float]) -> list[float]:
    """Mean, least and most; empty where there is no value."""
    return [round(float(one), 2) for one in (np.mean(values), min(values), max(values))] if values else []


if __name__ == "__main__":
    main()
