"""What an audit finds of faults that were planted: label errors, copies, and a shortcut.

    python benchmarks/auditing.py DATA... [--seeds 5] [--share 0.05] [--copies 100] [--images 3000]

Label errors: so large a share of the labels, drawn with seeds 0, 1, ..., is put into another class at random. Every photo is ranked by
its suspicion; told are the share of the planted ones among the first tenth, average precision, and precision and recall of what is
suspected and of what is put on the list of ``--fix quarantine``. Labels that were wrong before count as false alarms.

Copies: so many photos are written once more, recompressed (JPEG of quality 60), resized (to 60 % of the side) and mirrored (JPEG of
quality 80). Told is the share of the copies that stand in one set with their original, and the pairs of originals that are called the
same, per photo: some of these are the same, so look at them (they are printed).

A shortcut: the photos of one class are compressed more (JPEG of quality 30, others 90).

Features are computed once; the files of the copies are written into a folder that is deleted.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image
from sklearn.metrics import average_precision_score

from greffon.activations import Engine, Store, Tap, chosen_engine, compute
from greffon.auditing import Audit, audit_contents, by_content, find_copies, find_suspects, guess_out_of_fold
from greffon.backbones import Backbone, load_backbone
from greffon.datasets import Dataset, read_dataset, scan
from greffon.progress import Silent
from record import record

__all__ = ["Photos", "audit_of", "label_errors", "photos_of", "plant_copies", "plant_shortcut", "planted_labels"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Photos:
    """Pooled records, float32 (n, ...); labels and near-duplicates, int64 (n,); the widths of the stages, and the paths."""

    pooled: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    widths: Sequence[int]
    dataset: Dataset


def photos_of(data: Path, network: Backbone, precision: str, images: int, store: Store) -> tuple[Photos, Engine]:
    """The photos of a data set, or so many of them, and what ran them."""
    looked = scan(read_dataset(data), book=store, progress=Silent())
    some = np.sort(np.random.default_rng(0).permutation(len(looked.dataset))[:images])
    dataset, digests = looked.dataset.take(some), [looked.digests[i] for i in some]
    engine, _ = chosen_engine(network, Tap("pooled"), precision, dataset.paths, Silent())
    found = compute(dataset.paths, network, Tap("pooled"), engine, store=store, progress=Silent(), digests=digests)
    return Photos(found.all(), dataset.labels, looked.groups[some], network.widths(), dataset), engine


def planted_labels(labels: np.ndarray, share: float, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels of which so large a share is another, and bool (n,): which are."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(labels), bool)
    wrong[rng.permutation(len(labels))[: round(share * len(labels))]] = True
    moved = labels.copy()
    moved[wrong] = (labels[wrong] + rng.integers(1, classes, int(wrong.sum()))) % classes
    return moved, wrong


def label_errors(photos: Photos, share: float, seed: int) -> dict[str, float]:
    """Plant label errors, look for them, and count."""
    classes = int(photos.labels.max()) + 1
    labels, wrong = planted_labels(photos.labels, share, classes, seed)
    began = time.perf_counter()
    told = guess_out_of_fold(photos.pooled, photos.widths, labels, classes, photos.groups, progress=Silent())
    seconds = time.perf_counter() - began
    assert told is not None
    found = find_suspects(told.probabilities, labels, told.judged)
    doubt = np.nan_to_num(found.suspicion, nan=0.0)
    order = np.argsort(-doubt, kind="stable")
    suspected, listed = found.suspected, found.sure
    return {
        "in_first_tenth": float(wrong[order[: len(labels) // 10]].sum() / wrong.sum()),
        "average_precision": float(average_precision_score(wrong, doubt)),
        "precision_at_planted": float(wrong[order[: int(wrong.sum())]].mean()),
        "suspected_share": float(suspected.mean()),
        "suspected_precision": float(wrong[suspected].mean()),
        "suspected_recall": float(suspected[wrong].mean()),
        "listed_share": float(listed.mean()),
        "listed_precision": float(wrong[listed].mean()) if listed.any() else 0.0,
        "listed_recall": float(listed[wrong].mean()),
        "suggested_right": float((found.suggested[wrong] == photos.labels[wrong]).mean()),
        "estimated_share": found.estimated / len(labels),
        "agreement": float((told.probabilities.argmax(1) == labels).mean()),
        "seconds": seconds,
    }


def plant_copies(dataset: Dataset, folder: Path, count: int, seed: int) -> dict[str, list[tuple[Path, Path]]]:
    """Copies of some photos by what was done to them: pairs of the original and its copy."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(dataset))[:count]
    made: dict[str, list[tuple[Path, Path]]] = {"recompressed": [], "resized": [], "mirrored": []}
    for i in chosen:
        path = dataset.paths[int(i)]
        with Image.open(path) as image:
            picture = image.convert("RGB")
        small = picture.resize((max(1, picture.width * 3 // 5), max(1, picture.height * 3 // 5)), Image.Resampling.BICUBIC)
        for what, one, quality in (("recompressed", picture, 60), ("resized", small, 90),
                                   ("mirrored", picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 80)):  # fmt: skip
            target = folder / dataset.classes[int(dataset.labels[int(i)])] / f"{what}-{i}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            one.save(target, quality=quality)
            made[what].append((path, target))
    return made


def audit_of(dataset: Dataset, network: Backbone, engine: Engine, store: Store) -> Audit:
    """What ``greffon audit`` finds, without its files."""
    contents = by_content(dataset, book=store, progress=Silent())
    paths = contents.scan.dataset.paths
    found = compute(paths, network, Tap("pooled"), engine, store=store, progress=Silent(), digests=contents.scan.digests)
    read = np.array([i for i in range(len(paths)) if i not in found.failed], np.int64)
    return audit_contents(contents, found.batch(read), network.widths(), read, [], dataset.root, progress=Silent())


def joined(one: Dataset, paths: Sequence[Path], labels: Sequence[int]) -> Dataset:
    """A data set with more files."""
    blank = ("",) * len(paths)
    return Dataset(one.root, (*one.paths, *paths), np.concatenate([one.labels, np.asarray(labels, np.int64)]), one.classes,
                   (*one.splits, *blank), (*one.domains, *blank))  # fmt: skip


def copies(dataset: Dataset, count: int, store: Store) -> dict[str, Any]:
    """Plant copies, look for them, and count. No network has a part in it."""
    with tempfile.TemporaryDirectory(prefix="greffon-") as name:
        made = plant_copies(dataset, Path(name), count, 0)
        every = [(original, copy) for pairs in made.values() for original, copy in pairs]
        label = dict(zip(dataset.paths, dataset.labels.tolist(), strict=True))
        more = joined(dataset, [copy for _, copy in every], [label[original] for original, _ in every])
        contents = by_content(more, book=store, progress=Silent())
        sets = find_copies(contents, contents.scan.groups)
    group = {path: number for number, one in enumerate(sets) for path in (more.paths[i] for i in one.files)}
    found = {what: sum(group.get(a, -1) == group.get(b, -2) for a, b in pairs) / len(pairs) for what, pairs in made.items()}
    original = set(dataset.paths)
    others = [[path for path in (more.paths[i] for i in one.files) if path in original] for one in sets]
    alike = [paths for paths in others if len(paths) > 1]
    for paths in alike:
        print("called the same:", *(str(path) for path in paths))
    pairs = sum(len(paths) * (len(paths) - 1) // 2 for paths in alike)
    return {**found, "pairs_of_originals": pairs, "pairs_per_photo": pairs / len(original)}


def plant_shortcut(dataset: Dataset, folder: Path, label: int, most: int = 200) -> Dataset:
    """So many photos, written anew: those of one class compressed more than the others."""
    some = np.random.default_rng(0).permutation(len(dataset))[:most]
    written, labels = [], []
    for i in some:
        buffer = io.BytesIO()
        own = int(dataset.labels[int(i)])
        with Image.open(dataset.paths[int(i)]) as image:
            image.convert("RGB").save(buffer, "JPEG", quality=30 if own == label else 90)
        target = folder / dataset.classes[own] / f"{i}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(buffer.getvalue())
        written.append(target)
        labels.append(own)
    blank = ("",) * len(written)
    return Dataset(folder, tuple(written), np.array(labels), dataset.classes, blank, blank)


def shortcut(photos: Photos, network: Backbone, engine: Engine, store: Store) -> dict[str, Any]:
    """What is said of the photos as they are, and of those with a planted shortcut."""
    with tempfile.TemporaryDirectory(prefix="greffon-") as name:
        planted = audit_of(plant_shortcut(photos.dataset, Path(name), 0), network, engine, store)
    plain = audit_of(photos.dataset, network, engine, store)
    told: dict[str, Any] = {"findings": plain.counts()}
    for key, one in (("plain", plain), ("planted", planted)):
        told[key] = {
            cue.name: [round(cue.informedness, 3), round(cue.interval[0], 3), None if math.isnan(cue.p_value) else cue.p_value, cue.telling]
            for cue in one.cues
        }
    pairs = plain.labelling.pairs[:3] if plain.labelling else ()
    return {**told, "separation": [(one.first, one.second, round(one.separation, 2)) for one in pairs]}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path, nargs="+")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--share", type=float, default=0.05)
    arguments.add_argument("--copies", type=int, default=100)
    arguments.add_argument("--images", type=int, default=3000)
    arguments.add_argument("--precision", default="auto")
    options = arguments.parse_args()
    network, store = load_backbone("vgg16"), Store()
    figures: dict[str, Any] = {}
    for data in options.data:
        photos, engine = photos_of(data, network, options.precision, options.images, store)
        runs = [label_errors(photos, options.share, seed) for seed in range(options.seeds)]
        told: dict[str, Any] = {
            "n": len(photos.labels),
            "classes": int(photos.labels.max()) + 1,
            "engine": engine.precision,
            "planted_labels": options.share,
            "label_errors": {name: [round(float(one), 4) for one in _told([run[name] for run in runs])] for name in runs[0]},
        }
        if options.copies:
            told["copies"] = copies(photos.dataset, options.copies, store)
            told["shortcuts"] = shortcut(photos, network, engine, store)
        print(data, told, flush=True)
        figures[data.name] = told
    record("auditing", figures, notes="label errors: mean, least and most over the seeds; shortcuts: informedness, low, p, told")


def _told(values: Sequence[float]) -> tuple[float, float, float]:
    return float(np.mean(values)), min(values), max(values)


if __name__ == "__main__":
    main()
