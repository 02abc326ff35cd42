"""Photos chosen by ``greffon suggest`` against as many drawn at random, and against published ways to choose.

    python benchmarks/suggesting.py DATA... [--shares 1,2,5,10] [--seeds 5] [--rivals typiclust,margin,...] [--head plain]

Each seed leaves out a tenth of the photos, so that no choice hangs on just these; from the others so many per cent of all are
chosen, and only their labels are looked at. ``suggest`` chooses each number in one go, without a label; ``rounds`` chooses the
smallest number so, and goes on from these labels to the next, as the rivals do. The head is the one of ``greffon train``, with
its features chosen by cross-validation on the labelled photos; or ``plain``, a logistic one on one representation, which takes a
hundredth of the time. Every way has the same. Accuracy is over all photos that
neither this way nor the random draw has chosen; the gain is the mean of the differences to the random draw of the same seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

import numpy as np

from greffon.activations import Store
from greffon.backbones import load_backbone
from greffon.heads import Normaliser, fit_head
from greffon.jobs.suggest.job import REPRESENTATION
from greffon.progress import Silent
from greffon.transfer.inductive import CANDIDATES, fit_probe
from greffon.transfer.unsupervised import Given, Pool, suggest_images
from labelling import Photos, interval_of_mean, photos_of
from record import record
from suggesting_rivals import RIVALS

__all__ = ["Measured", "choices_of", "figures_of", "known_photos", "measure", "right_of"]

#: In one go, and in rounds.
OURS = ("suggest", "rounds")


@final
@dataclass(frozen=True, slots=True)
class Measured:
    """One way, one number of labels, one seed: its accuracy, that of the random draw, and how many classes each has seen."""

    way: str
    share: float
    seed: int
    accuracy: float
    random: float
    classes: int
    random_classes: int


def known_photos(data: Path, images: int, kept: Path | None) -> Photos:
    """The photos of a data set, or so many of them, from a file of an earlier run where there is one."""
    file = None if kept is None else kept / f"{data.name}.npz"
    if file is not None and file.is_file():
        with np.load(file) as known:
            return Photos(known["pooled"], known["labels"], known["groups"], known["widths"].tolist())
    photos = photos_of(data, load_backbone("vgg16"), images, Store())
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, pooled=photos.pooled, labels=photos.labels, groups=photos.groups, widths=np.array(photos.widths))
    return photos


def choices_of(way: str, photos: Photos, x: np.ndarray, pool: np.ndarray, counts: Sequence[int], seed: int) -> list[np.ndarray]:
    """The positions that a way chooses from the pool, for each number of labels."""
    y, classes = photos.labels, int(photos.labels.max()) + 1
    found: list[np.ndarray] = []
    chosen = np.zeros(0, np.int64)
    for count in counts:
        if way == "suggest":
            chosen = np.zeros(0, np.int64)
        if way in OURS:
            rest = np.setdiff1d(pool, chosen)
            given = Given(x[chosen], photos.groups[chosen], y[chosen], classes) if len(chosen) else None
            told = suggest_images(Pool(x[rest], photos.groups[rest]), count - len(chosen), given=given, seed=seed, progress=Silent())
            new = rest[[one.position for one in told]]
        else:
            at = np.searchsorted(pool, chosen)
            new = pool[RIVALS[way](x[pool], at, y[chosen], count - len(chosen), seed, classes)]
        chosen = np.concatenate([chosen, new])
        found.append(chosen)
    return found


def right_of(photos: Photos, chosen: np.ndarray, seed: int, head: str) -> np.ndarray:
    """Whether a head that learned from the chosen photos names each photo rightly, bool (n,)."""
    y = photos.labels
    if len(np.unique(y[chosen])) < 2:
        return y == y[chosen[0]]
    if head == "plain":
        features = REPRESENTATION.take(photos.pooled, photos.widths)
        x = Normaliser.fit(features, REPRESENTATION.norm).apply(features)
        return fit_head("logistic", x[chosen], y[chosen], int(y.max()) + 1, 10.0).scores(x).argmax(1) == y
    # Where no class has two photos there is nothing to choose features by.
    several = int(np.bincount(y[chosen]).max()) > 1
    probe = fit_probe(photos.pooled[chosen], photos.widths, y[chosen], int(y.max()) + 1, groups=photos.groups[chosen], seed=seed,
                      representations=CANDIDATES if several else (REPRESENTATION,), strength=None if several else 10.0,
                      progress=Silent())  # fmt: skip
    return probe.probabilities(photos.pooled, photos.widths).argmax(1) == y


def measure(photos: Photos, ways: Sequence[str], shares: Sequence[float], head: str, seed: int) -> list[Measured]:
    """All ways with one seed."""
    n = len(photos.labels)
    pool = np.sort(np.random.default_rng(1000 + seed).permutation(n)[: round(0.9 * n)])
    counts = [max(2, round(n * share / 100)) for share in shares]
    features = REPRESENTATION.take(photos.pooled, photos.widths)
    x = Normaliser.fit(features[pool], REPRESENTATION.norm).apply(features)
    draws = choices_of("random", photos, x, pool, counts, seed)
    by_chance = [right_of(photos, chosen, seed, head) for chosen in draws]
    found = []
    for way in ways:
        chosen_by_way = choices_of(way, photos, x, pool, counts, seed)
        for share, chosen, draw, chance in zip(shares, chosen_by_way, draws, by_chance, strict=True):
            right = right_of(photos, chosen, seed, head)
            rest = np.setdiff1d(np.arange(n), np.concatenate([chosen, draw]))
            seen, seen_by_chance = (len(np.unique(photos.labels[one])) for one in (chosen, draw))
            found.append(Measured(way, share, seed, float(right[rest].mean()), float(chance[rest].mean()), seen, seen_by_chance))
    return found


def figures_of(found: Sequence[Measured]) -> dict[str, object]:
    """Of each way and number of labels: per cent and points, means over the seeds."""
    figures: dict[str, object] = {}
    for way in dict.fromkeys(one.way for one in found):
        by_share: dict[str, object] = {}
        for share in dict.fromkeys(one.share for one in found):
            own = [one for one in found if (one.way, one.share) == (way, share)]
            gains = [100 * (one.accuracy - one.random) for one in own]
            by_share[f"{share:g}"] = {
                "accuracy": round(100 * float(np.mean([one.accuracy for one in own])), 2),
                "random": round(100 * float(np.mean([one.random for one in own])), 2),
                "gain": round(float(np.mean(gains)), 2),
                "gain_interval": [round(end, 2) for end in interval_of_mean(gains)],
                "gains": [round(gain, 2) for gain in gains],
                "classes_seen": round(float(np.mean([one.classes for one in own])), 2),
                "classes_seen_by_random": round(float(np.mean([one.random_classes for one in own])), 2),
            }
        figures[way] = by_share
    return figures


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path, nargs="+")
    arguments.add_argument("--shares", default="1,2,5,10")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--rivals", default="")
    arguments.add_argument("--head", choices=("train", "plain"), default="train")
    arguments.add_argument("--kept", type=Path, help="a folder that keeps the records of the frozen part between runs")
    arguments.add_argument("--images", type=int, default=10**6)
    arguments.add_argument("--processes", type=int, default=1)
    arguments.add_argument("--name", default="suggesting")
    options = arguments.parse_args()
    shares = [float(share) for share in options.shares.split(",")]
    ways = [*OURS, *filter(None, options.rivals.split(","))]
    figures: dict[str, object] = {}
    with ProcessPoolExecutor(options.processes) as workers:
        for data in options.data:
            photos = known_photos(data, options.images, options.kept)
            work = partial(measure, photos, ways, shares, options.head)
            found = [one for part in workers.map(work, range(options.seeds)) for one in part]
            figures[data.name] = {"n": len(photos.labels), "classes": int(photos.labels.max()) + 1, "seeds": options.seeds,
                                  "ways": figures_of(found)}  # fmt: skip
            for way, by_share in figures_of(found).items():
                print(data.name, way, by_share, flush=True)
    record(options.name, figures, notes="per cent and points, means over the seeds; intervals of the mean gain by Student's t")


if __name__ == "__main__":
    main()
