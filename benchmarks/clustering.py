"""Clustering without labels: every method and auto on photos whose classes are known, and how it scales.

    python benchmarks/clustering.py DATA... [--seeds 5] [--methods auto,kmeans] [--no-count]
    python benchmarks/clustering.py --scale 100000 [--features 512] [--clusters 100] [--methods auto]

The methods get features alone; labels are looked at to count afterwards. k is the number of classes, and where it is estimated that
is told beside it. ``--scale`` draws features and clusters them in this process; the time is that of the clustering alone, the memory
the most that the whole process held. With ``--methods`` figures are shown and not stored.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Store, Tap, chosen_engine, compute
from greffon.backbones import Backbone, load_backbone
from greffon.datasets import read_dataset, scan
from greffon.jobs.cluster.looking import EXACT_SECONDS
from greffon.jobs.cluster.scoring import score_of
from greffon.progress import Silent
from greffon.transfer.unsupervised import (
    LOOKS,
    METHODS,
    SphericalKMeans,
    Unlabelled,
    cluster_looks,
    estimate_count,
    unit_rows,
)
from record import record

__all__ = ["Photos", "drawn_features", "figures_of", "photos_of", "plain_figures"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Photos:
    """The looks that ``greffon cluster`` takes, in the order of the contents; the last stage's mean as it is, float32 (n, d); and the
    labels, int64 (n,), which are for counting alone."""

    looks: tuple[Unlabelled, ...]
    plain: np.ndarray
    labels: np.ndarray


def photos_of(data: Path, network: Backbone, store: Store, precision: str) -> tuple[Photos, str]:
    """The photos of a data set, and in which precision the frozen part ran."""
    looked = scan(read_dataset(data), book=store, progress=Silent())
    order = sorted(range(len(looked.digests)), key=looked.digests.__getitem__)
    dataset, digests = looked.dataset.take(order), [looked.digests[i] for i in order]
    engine, _ = chosen_engine(network, Tap("pooled"), precision, dataset.paths, Silent(), images=len(dataset),
                              exact_seconds=EXACT_SECONDS)  # fmt: skip
    found = compute(dataset.paths, network, Tap("pooled"), engine, store=store, progress=Silent(), digests=digests)
    records, widths = found.all(), network.widths()
    start = 2 * sum(widths[:-1])
    photos = Photos(tuple(look.of(records, widths) for look in LOOKS), records[:, start : start + widths[-1]], dataset.labels)
    return photos, engine.precision


def figures_of(photos: Photos, method: str, seeds: int) -> dict[str, Any]:
    """Accuracy, mutual information and Rand index in per cent, each as mean, least and most of the seeds; and seconds."""
    k = int(photos.labels.max()) + 1
    scores, seconds = [], []
    for seed in range(seeds):
        started = time.perf_counter()
        found = cluster_looks(photos.looks, k, method=method, seed=seed, progress=Silent())
        seconds.append(time.perf_counter() - started)
        scores.append(score_of(photos.labels, found.labels))
    return {
        **{name: _told([100 * getattr(one, name) for one in scores]) for name in ("accuracy", "nmi", "ari")},
        "seconds": round(float(np.median(seconds)), 2),
    }


def plain_figures(photos: Photos, seeds: int) -> dict[str, Any]:
    """What k-means gives by hand: on the features as they are, at length 1, and after the square root at length 1."""
    from sklearn.cluster import KMeans

    k = int(photos.labels.max()) + 1
    x = photos.plain
    kinds = {"raw": x, "l2": unit_rows(x), "sqrt-l2": unit_rows(np.sign(x) * np.sqrt(np.abs(x)))}
    told = {}
    for name, rows in kinds.items():
        fits = [KMeans(k, n_init=10, random_state=seed).fit(rows) for seed in range(seeds)]  # type: ignore[arg-type]  # the stubs take n_init for a str alone
        scores = [score_of(photos.labels, np.asarray(one.labels_, np.int64)) for one in fits]
        figures = {kind: _told([100 * getattr(one, kind) for one in scores]) for kind in ("accuracy", "nmi", "ari")}
        told[f"k-means by hand, {name}"] = figures
    return told


def drawn_features(n: int, d: int, clusters: int) -> np.ndarray:
    """float32 (n, d): overlapping groups of unequal size, not below 0, as a ReLU leaves them."""
    rng = np.random.default_rng(0)
    centres = rng.gamma(0.5, 2.0, (clusters, d)).astype(np.float32)
    share = rng.dirichlet(np.full(clusters, 3.0))
    place = rng.choice(clusters, n, p=share)
    x = np.empty((n, d), np.float32)
    for start in range(0, n, 8192):
        part = centres[place[start : start + 8192]]
        x[start : start + 8192] = np.maximum(part + rng.normal(0, 1.5, part.shape).astype(np.float32), 0)
    return x


def scale(n: int, d: int, clusters: int, methods: Sequence[str]) -> dict[str, Any]:
    """Time and memory of each method on drawn features."""
    SphericalKMeans().cluster(Unlabelled(drawn_features(200, d, 4)), 4, 0)  # libraries are loaded before the clock runs
    x = drawn_features(n, d, clusters)
    x = unit_rows(np.sqrt(x))
    told: dict[str, Any] = {"photos": n, "features": d, "clusters": clusters}
    for method in methods:
        started, used = time.perf_counter(), time.process_time()
        found = cluster_looks([Unlabelled(x)], clusters, method=method, progress=Silent())
        told[method] = {"seconds": round(time.perf_counter() - started, 1), "processor_seconds": round(time.process_time() - used, 1),
                        "found": found.k,
                        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}  # fmt: skip
        print(method, told[method], flush=True)
    return told


def _told(values: Sequence[float]) -> list[float]:
    """Mean, least and most."""
    return [round(float(one), 1) for one in (np.mean(values), min(values), max(values))]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path, nargs="*")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--methods", default="")
    arguments.add_argument("--precision", default="auto", help="of the frozen part")
    arguments.add_argument("--name", default="clustering")
    arguments.add_argument("--no-count", action="store_true")
    arguments.add_argument("--scale", type=int, default=0)
    arguments.add_argument("--features", type=int, default=512)
    arguments.add_argument("--clusters", type=int, default=100)
    options = arguments.parse_args()
    if options.scale:
        figures = scale(options.scale, options.features, options.clusters, (options.methods or "auto").split(","))
        if not options.methods:
            record("clustering_scale", figures, notes="peak_mib: the most that the whole process held")
        return
    methods = (options.methods or ",".join(("auto", *METHODS))).split(",")
    network, store = load_backbone("vgg16"), Store()
    figures: dict[str, Any] = {}
    for data in options.data:
        photos, precision = photos_of(data, network, store, options.precision)
        mine: dict[str, Any] = {"n": len(photos.labels), "classes": int(photos.labels.max()) + 1, "precision": precision}
        for method in methods:
            mine[method] = figures_of(photos, method, options.seeds)
            print(data, method, mine[method], flush=True)
        if not options.methods:
            mine |= plain_figures(photos, options.seeds)
        if not options.no_count:
            counts = [estimate_count(photos.looks[0], seed=seed, progress=Silent()) for seed in range(options.seeds)]
            mine["estimated_k"] = [None if one is None else one.k for one in counts]
            mine["choices"] = [None if one is None else list(one.choices) for one in counts]
            print(data, mine["estimated_k"], mine["choices"], flush=True)
        figures[f"{data.parent.name}/{data.name}"] = mine
    if not options.methods or options.name != "clustering":
        record(options.name, figures, notes="per cent: mean, least and most of the seeds; k is the number of classes")


if __name__ == "__main__":
    main()
