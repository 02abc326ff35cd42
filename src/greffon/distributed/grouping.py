"""Clusters of the features that ``embed --ray`` wrote: read part by part, however many they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.distributed.learning import batches_of, read_manifest
from greffon.errors import DataError, OptionError
from greffon.jobs.cluster.scoring import score_of
from greffon.model import write_json
from greffon.progress import Progress, Silent
from greffon.report import check_folder_is_free, write_table
from greffon.streamed import nearest_centres, refined_centres
from greffon.transfer.unsupervised import SphericalKMeans, Unlabelled, unit_rows

__all__ = ["cluster_features"]

_ASSIGNMENTS, _COLUMNS = "assignments.csv", ("path", "cluster", "confidence", "part", "nearest", "name")
#: Rows that are drawn to begin with. Of so many k-means finds nearly the centres of all; then every row is looked at.
_SAMPLE = 20_000


def cluster_features(
    folder: Path | str, *, out: Path | str, k: int | None, score: bool = False, seed: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """Sort the photos of an embedded folder into k clusters: ``assignments.csv`` and ``metrics.json``, whose values are returned.

    Spherical k-means as ``cluster --method kmeans`` has it, on the signed square roots of the features about their mean. It begins at
    the best of ten starts on 20,000 rows that are drawn from all, and goes on over every row until nothing changes.

    Parameters
    ----------
    k
        How many clusters; it is not estimated here.
    score
        Compare what was found with the rows' labels. It changes nothing else.

    Raises
    ------
    DataError
        No folder of ``embed --ray``, one that is damaged, or one without rows or labels that are needed.
    OptionError
        No k, or more than there are rows.
    """
    started, listener, target = time.perf_counter(), progress or Silent(), Path(out)
    if k is None or k < 1:
        raise OptionError(f"-k must be given, 1 or more, for the features of embed --ray, got {k}",
                          hint="How many clusters there are is estimated from photos alone.")  # fmt: skip
    check_folder_is_free(target, (_ASSIGNMENTS,))
    about = read_manifest(Path(folder))
    rows = _Rows(tuple(f"{folder}/{one['file']}" for one in about["files"]), np.zeros(0))
    listener.begin("Clustering", 3)
    count, mean = 0, np.zeros(0)
    for x, _ in rows():
        count, mean = count + len(x), (x.sum(0, dtype=np.float64) if not count else mean + x.sum(0, dtype=np.float64))
    if count < k:
        listener.end()
        raise OptionError(f"-k {k}: there are only {count} rows in {folder}", hint=f"Ask for {count} clusters at most.")
    centred = _Rows(rows.files, mean / count)
    listener.advance()
    sample = _drawn(centred, count, seed)
    labels = SphericalKMeans().cluster(Unlabelled(sample), k, seed).labels
    start = np.stack([sample[labels == i].mean(0) if (labels == i).any() else sample[i] for i in range(k)])
    listener.advance()
    centres = refined_centres(centred, unit_rows(start.astype(np.float64)), spherical=True)
    listener.advance()
    listener.end()
    figures = {**_written(target, centred, centres, score, str(folder)), "method": "kmeans", "streamed": True, "seed": seed}
    figures["seconds"] = round(time.perf_counter() - started, 2)
    try:
        write_json(target / "metrics.json", figures)
    except OSError as error:
        raise OptionError(f"--out {target}: cannot be written ({error.strerror or error})") from error
    return figures


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The features, chunk by chunk: signed square roots at length 1 and, where a mean is known, about it, at length 1 again."""

    files: tuple[str, ...]
    mean: np.ndarray

    def __call__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for place in self.files:
            for batch in batches_of(place, ["features"]):
                x = batch.column("features").flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
                if len(x):
                    yield self.of(x), np.zeros(0, np.int64)

    def of(self, x: np.ndarray) -> np.ndarray:
        rows = unit_rows(np.sign(x) * np.sqrt(np.abs(x)))
        return unit_rows((rows - self.mean).astype(np.float32)) if len(self.mean) else rows


def _drawn(rows: _Rows, count: int, seed: int) -> np.ndarray:
    """Some 20,000 rows, each with the same chance; all, where there are no more."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(count, bool)
    chosen[rng.permutation(count)[:_SAMPLE]] = True
    parts, start = [], 0
    for x, _ in rows():
        parts.append(x[chosen[start : start + len(x)]])
        start += len(x)
    return np.concatenate(parts)


def _written(target: Path, rows: _Rows, centres: np.ndarray, score: bool, folder: str) -> dict[str, Any]:
    """Write a line for each row, the largest cluster first, and give the figures."""
    k = len(centres)
    sizes = sum((np.bincount(nearest_centres(x, centres)[0], minlength=k) for x, _ in rows()), np.zeros(k, np.int64))
    order = np.argsort(-sizes, kind="stable")
    centres, numbers, names, sure = centres[order], [], [], []

    def lines() -> Iterator[tuple[str, ...]]:
        for place in rows.files:
            for batch in batches_of(place, ["path", "label", "features"]):
                x = batch.column("features").flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
                if not len(x):
                    continue
                own, other, confidence = _placed(rows.of(x), centres)
                numbers.append(own)
                sure.append(confidence)
                names.extend(batch.column("label").to_pylist() if score else ())
                for path, a, b, c in zip(batch.column("path").to_pylist(), own.tolist(), other.tolist(), confidence.tolist(), strict=True):
                    yield path or "", str(a), f"{c:.4f}", "", str(b), ""

    try:
        target.mkdir(parents=True, exist_ok=True)
        write_table(target / _ASSIGNMENTS, _COLUMNS, lines())
    except OSError as error:
        raise OptionError(f"--out {target}: cannot be written ({error.strerror or error})") from error
    found = np.concatenate(numbers)
    figures: dict[str, Any] = {"k": k, "n": len(found), "sizes": sizes[order].tolist(), "silhouette": float(np.concatenate(sure).mean())}
    if score:
        number = {name: i for i, name in enumerate(sorted({name for name in names if name is not None}))}
        if not number:
            raise DataError(f"{folder}: has no labels to score by", hint="Leave --score away.")
        told = score_of(np.array([number.get(name, -1) for name in names], np.int64), found)
        figures |= {"accuracy": told.accuracy, "nmi": told.nmi, "ari": told.ari, "scored": told.n, "classes": len(number)}
    return figures


def _placed(x: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of rows of length 1: the nearest centre, the next one (-1: there is none), and the simplified silhouette, from 0 to 1."""
    if len(centres) == 1:
        return np.zeros(len(x), np.int64), np.full(len(x), -1), np.ones(len(x))
    cosine = x.astype(np.float64) @ centres.T
    two = np.argpartition(-cosine, 1, axis=1)[:, :2]
    two = np.take_along_axis(two, np.argsort(-np.take_along_axis(cosine, two, 1), axis=1, kind="stable"), 1)
    near, far = (np.sqrt(np.maximum(2 - 2 * np.take_along_axis(cosine, two[:, [i]], 1)[:, 0], 0)) for i in (0, 1))
    return two[:, 0], two[:, 1], (far - near) / np.maximum(far, 1e-12)
