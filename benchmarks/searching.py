"""Search on real photos: how alike what is found is, planted near-duplicates, planted outliers, and an index of a million vectors.

    python benchmarks/searching.py looks DATA...
    python benchmarks/searching.py duplicates DATA... [--planted 300]
    python benchmarks/searching.py outliers DATA...
    python benchmarks/searching.py vectors DATA... [--count 1000000]

``looks``: the share of the ten nearest that are of a photo's own class (near-duplicates left out), for ways to make a vector of a
photo; labels are looked at to count alone. ``duplicates``: some photos are written again, recompressed, shrunk or mirrored or all of
that, and a pair that is neither planted nor the same file under two names is a false one; those are listed, to be looked at.
``outliers``: twenty photos of another set are laid among one set. ``vectors``: drawn around the vectors of the photos, see
``drawn_around``; every search asks for ten, one query at a time.
"""

from __future__ import annotations

import argparse
import io
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

from greffon.activations import Store, Tap, compute, make_engine
from greffon.backbones import Backbone, load_backbone
from greffon.datasets import read_dataset, scan
from greffon.jobs.duplicates import duplicates
from greffon.jobs.index import index
from greffon.progress import Silent
from greffon.transfer.unsupervised import VectorIndex, build_index, nearest, outliers, searcher, unit_features
from record import record

__all__ = ["drawn_around", "looks", "planted"]

WAYS = ("recompressed", "resized", "mirrored", "all")


def pooled_of(data: Path, network: Backbone) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Records, labels and groups of near-duplicates of a data set; each content once."""
    looked = scan(read_dataset(data, labelled=False), book=Store(), progress=Silent())
    found = compute(looked.dataset.paths, network, Tap("pooled"), make_engine(network, Tap("pooled"), "auto"), store=Store(),
                    progress=Silent(), digests=looked.digests)  # fmt: skip
    return found.all(), looked.dataset.labels, looked.groups


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def looks(pooled: np.ndarray, widths: Sequence[int]) -> dict[str, np.ndarray]:
    """Ways to make a vector of length one: the pooling, the power, and what is learned of the set."""
    last = widths[-1]
    mean, most = pooled[:, -2 * last : -last], pooled[:, -last:]
    root = unit_features(pooled, widths)
    centred = _unit(root - root.mean(0))
    rows = np.linalg.svd(root - root.mean(0), full_matrices=False)
    kept = min(128, len(root) - 1)
    stages, at = [], 0
    for width in widths[-2:]:
        start = int(sum(2 * one for one in widths)) - int(sum(2 * one for one in widths[-2:])) + at
        stages.append(_unit(np.sqrt(np.maximum(pooled[:, start : start + width], 0))))
        at += 2 * width
    return {
        "mean, l2": _unit(mean),
        "max, l2": _unit(most),
        "mean, sqrt-l2": root,
        "max, sqrt-l2": _unit(np.sqrt(np.maximum(most, 0))),
        "mean+max, sqrt-l2": _unit(np.concatenate([root, _unit(np.sqrt(np.maximum(most, 0)))], 1)),
        "mean of the last two stages, sqrt-l2": _unit(np.concatenate(stages, 1)),
        "mean, sqrt-l2, centred": centred,
        "mean, sqrt-l2, whitened to 128": _unit(rows.U[:, :kept]),
    }


def own_class(x: np.ndarray, labels: np.ndarray, groups: np.ndarray, k: int = 10) -> float:
    """The share of the k nearest, near-duplicates left out, that are of a photo's own class."""
    likeness = x @ x.T
    likeness[groups[:, None] == groups] = -np.inf
    near = np.argpartition(-likeness, k, axis=1)[:, :k]
    return float((labels[near] == labels[:, None]).mean())


def main_looks(data: Sequence[Path]) -> None:
    network = load_backbone("vgg16")
    figures: dict[str, Any] = {}
    for one in data:
        pooled, labels, groups = pooled_of(one, network)
        figures[one.name] = {name: round(100 * own_class(x, labels, groups), 2) for name, x in looks(pooled, network.widths()).items()}
    record("searching_looks", figures, notes="per cent of the ten nearest that are of the photo's own class")


def planted(picture: Image.Image, way: str, rng: np.random.Generator) -> bytes:
    """A copy of a photo as a JPEG file."""
    quality = int(rng.integers(30, 85)) if way in ("recompressed", "all") else 92
    if way in ("resized", "all"):
        share = rng.uniform(0.4, 0.9) if min(picture.size) > 64 else rng.uniform(0.7, 0.9)
        picture = picture.resize((max(1, round(share * picture.width)), max(1, round(share * picture.height))), Image.Resampling.BICUBIC)
    if way in ("mirrored", "all"):
        picture = ImageOps.mirror(picture)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def main_duplicates(data: Sequence[Path], count: int, seed: int) -> None:
    figures: dict[str, Any] = {}
    for one in data:
        rng = np.random.default_rng(seed)
        paths = list(scan(read_dataset(one, labelled=False), book=Store(), progress=Silent()).dataset.paths)
        with tempfile.TemporaryDirectory() as folder:
            heap = Path(folder) / "heap"
            heap.mkdir()
            for i, path in enumerate(paths):
                (heap / f"{i:05}{path.suffix}").write_bytes(path.read_bytes())
            ways = {}
            for number, i in enumerate(rng.permutation(len(paths))[:count]):
                with Image.open(paths[i]) as opened:
                    picture = ImageOps.exif_transpose(opened).convert("RGB")
                ways[int(i)] = WAYS[number % len(WAYS)]
                (heap / f"{i:05}-copy.jpg").write_bytes(planted(picture, ways[int(i)], rng))
            index(heap, out=Path(folder) / "index", precision="bfloat16")
            started = time.perf_counter()
            found = duplicates(Path(folder) / "index")
            seconds = time.perf_counter() - started
        names = found.index.names
        pairs = [(Path(names[i]).stem, Path(names[j]).stem) for i, j in found.found.pairs.tolist()]
        right = {int(a[:5]) for a, b in pairs if a[:5] == b[:5]}
        # A pair of two originals, counted once however many of their copies are in it.
        false = sorted({tuple(sorted((int(a[:5]), int(b[:5])))) for a, b in pairs if a[:5] != b[:5]})
        figures[one.name] = {
            "photos": len(names),
            "planted": len(ways),
            "found": {way: round(float(np.mean([i in right for i, w in ways.items() if w == way])), 4) for way in WAYS},
            "found_in_all": round(len(right) / len(ways), 4),
            "other_pairs": len(false),
            "other_pairs_per_photo": round(len(false) / len(names), 5),
            "others": [[str(paths[i].relative_to(one)) for i in pair] for pair in false][:40],
            "seconds": round(seconds, 2),
        }
        print(one.name, figures[one.name], flush=True)
    record("searching_duplicates", figures, notes="other pairs: not planted; they were looked at by eye, see docs/search.md")


def main_outliers(data: Sequence[Path], seed: int, draws: int = 10) -> None:
    network = load_backbone("vgg16")
    seen = {one.name: pooled_of(one, network)[0] for one in data}
    figures: dict[str, Any] = {}
    for name, pooled in seen.items():
        for other, strange in seen.items():
            if name == other:
                continue
            told: dict[str, list[tuple[float, float]]] = {"mean of 10": [], "10th": [], "nearest": [], "LOF": []}
            for draw in range(draws):
                rng = np.random.default_rng(seed + draw)
                some = rng.permutation(len(pooled))[:1000]
                both = np.concatenate([pooled[some], strange[rng.permutation(len(strange))[:20]]])
                truth = np.arange(len(both)) >= len(some)
                x = unit_features(both, network.widths())
                near = nearest(x, 10)
                scores = {"mean of 10": outliers(near).distance, "10th": 1 - near.similarity[:, -1], "nearest": 1 - near.similarity[:, 0],
                          "LOF": -LocalOutlierFactor(20).fit(x).negative_outlier_factor_}  # fmt: skip
                for key, score in scores.items():
                    told[key].append((float(roc_auc_score(truth, score)), float(average_precision_score(truth, score))))
            means = {key: np.mean(rows, axis=0).round(4).tolist() for key, rows in told.items()}
            figures[f"20 of {other} among {name}"] = {key: {"auc": a, "average_precision": b} for key, (a, b) in means.items()}
    record("searching_outliers", figures, notes=f"means of {draws} draws")


def drawn_around(pooled: np.ndarray, count: int, seed: int, network: Backbone) -> np.ndarray:
    """Vectors between a photo and one of its ten nearest, each number of which is multiplied by noise: float16 (count, d).

    The noise is as strong as makes the median of what lies nearest among the photos, by cosine, what it is from photo to photo.
    """
    last = network.widths()[-1]
    real = _unit(np.maximum(pooled[:, -2 * last : -last], 0))
    near = nearest(unit_features(pooled, network.widths()), 10)
    wanted = float(np.median(near.similarity[:, 0]))

    def some(n: int, sigma: float, rng: np.random.Generator) -> np.ndarray:
        i = rng.integers(0, len(real), n)
        j = near.rows[i, rng.integers(0, 10, n)]
        share = rng.random((n, 1), np.float32)
        mixed = ((1 - share) * real[i] + share * real[j]) * np.exp(sigma * rng.standard_normal((n, last), np.float32))
        return _unit(np.sqrt(mixed)).astype(np.float32)

    unit, low, high = unit_features(pooled, network.widths()), 0.0, 4.0
    for _ in range(12):
        sigma = (low + high) / 2
        found = nearest(unit, 1, queries=some(1000, sigma, np.random.default_rng(seed))).similarity[:, 0]
        low, high = (sigma, high) if float(np.median(found)) > wanted else (low, sigma)
    print(f"median cosine to the nearest {wanted:.3f}, noise {low:.3f}", flush=True)
    rng = np.random.default_rng(seed + 1)
    drawn = np.empty((count, last), np.float16)
    for start in range(0, count, 16384):
        part = min(16384, count - start)
        drawn[start : start + part] = some(part, low, rng)
    return drawn


def peak_gib() -> float:
    """The most memory that this process has had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measured(made: VectorIndex, queries: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Milliseconds of searches, one query at a time, and the share of the ten nearest that they find."""
    search = searcher(made)
    for query in queries[:20]:
        search.search(query[None], 10)
    taken, right = [], []
    for query, wanted in zip(queries, truth, strict=True):
        started = time.perf_counter()
        found = search.search(query[None], 10)
        taken.append(1000 * (time.perf_counter() - started))
        right.append(len(set(found.rows[0].tolist()) & set(wanted.tolist())) / 10)
    return {"median_ms": round(float(np.median(taken)), 3), "p95_ms": round(float(np.quantile(taken, 0.95)), 3),
            "recall_at_10": round(float(np.mean(right)), 4)}  # fmt: skip


def main_vectors(data: Sequence[Path], count: int, seed: int) -> None:
    network = load_backbone("vgg16")
    pooled = np.concatenate([pooled_of(one, network)[0] for one in data])
    drawn = drawn_around(pooled, count + 1000, seed, network)
    vectors, queries = drawn[:count], drawn[count:].astype(np.float32)
    before = peak_gib()
    started = time.perf_counter()
    made, _ = build_index(vectors, kind="cells", seed=seed, progress=Silent())
    seconds = time.perf_counter() - started
    building = peak_gib()
    truth = nearest(made.vectors, 10, queries=queries).rows
    started = time.perf_counter()
    searcher(made)
    ready = time.perf_counter() - started
    record(f"searching_vectors_{count}", {
        "vectors": count, "numbers": int(vectors.shape[1]), "photos_drawn_around": len(pooled), "queries": len(queries),
        "cells": len(made.centres), "probes": made.probes, "recall_on_own": round(made.recall, 4),
        **measured(made, queries, truth),
        "build_seconds": round(seconds, 1), "ready_seconds": round(ready, 2),
        "gib_before_building": round(before, 2), "peak_gib_building": round(building, 2), "peak_gib": round(peak_gib(), 2),
        "vectors_gib": round(made.vectors.nbytes / 2**30, 2),
    }, notes="one query at a time; the peak holds the vectors as they were given (float16) as well")  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", choices=("looks", "duplicates", "outliers", "vectors"))
    arguments.add_argument("data", type=Path, nargs="+")
    arguments.add_argument("--planted", type=int, default=300)
    arguments.add_argument("--count", type=int, default=1_000_000)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    if options.what == "looks":
        main_looks(options.data)
    elif options.what == "duplicates":
        main_duplicates(options.data, options.planted, options.seed)
    elif options.what == "outliers":
        main_outliers(options.data, options.seed)
    else:
        main_vectors(options.data, options.count, options.seed)


if __name__ == "__main__":
    main()
