"""``greffon cluster``: photos without labels, sorted into heaps of what is alike."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from greffon.activations import Executor, Store
from greffon.datasets import read_dataset
from greffon.errors import DataError, OptionError
from greffon.jobs.cluster.dataset import check_dataset, write_dataset
from greffon.jobs.cluster.looking import Seen, see
from greffon.jobs.cluster.naming import read_names
from greffon.jobs.cluster.result import (
    ASSIGNMENTS,
    ClusteredPhoto,
    ClusterResult,
    fingerprint_of,
    named,
    read_clusters,
    write_clusters,
    write_tables,
)
from greffon.jobs.cluster.scoring import score_of
from greffon.progress import Progress, Silent
from greffon.report import check_folder_is_free, check_results_folder, path_in_table, plot_count
from greffon.transfer.unsupervised import METHODS, Clustering, Count, cluster_looks, parts_of

__all__ = ["cluster"]


def cluster(
    photos: Path | str,
    *,
    out: Path | str,
    k: int | None = None,
    method: str = "auto",
    most_k: int = 20,
    score: bool = False,
    names: Path | str | None = None,
    to_dataset: Path | str | None = None,
    threshold: float = 0.0,
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    precision: str = "auto",
    seed: int = 0,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> ClusterResult:
    """Sort photos without labels into clusters.

    The folder ``out`` gets ``assignments.csv``, ``metrics.json``, ``clusters.html`` to look at and to name the clusters in, a contact
    sheet of each in ``sheets/``, and ``k.png`` where k was estimated.

    Parameters
    ----------
    photos
        A folder, however deep, or a table with the column ``path``. Names of folders, and labels in a table, are not looked at.
    k
        How many clusters; by default it is estimated.
    method
        ``"auto"`` or a name of ``unsupervised.METHODS``.
    most_k
        The largest number that is tried where k is estimated.
    score
        Compare what was found with the labels that folders or a table give. It changes nothing else.
    names
        A file of names, as the page saves it: the clusters that an earlier run left in ``out`` are named, and nothing is clustered anew.
    to_dataset
        A folder to fill with links, a folder per name, or a ``.csv`` file to write; ``train`` reads both. Without ``names``, the clusters
        are called ``cluster-00`` and so on.
    threshold
        Photos of less confidence do not go into the data set.
    backbone, weights, size, precision
        As for ``train``.
    seed
        The same seed on the same machine gives the same clusters.
    store
        Where activations are kept, by default greffon's cache.
    executor
        Where the frozen part runs; this process, if None.

    Raises
    ------
    GreffonError
        Of the kind that says what is wrong. What was computed before stays in the store.
    """
    started = time.perf_counter()
    listener = progress or Silent()
    folder, data = Path(out), Path(photos)
    _check(folder, data, k, method, most_k, threshold, to_dataset)
    truth = _labels(photos) if score else {}
    if names is not None:
        result = _name_again(folder, Path(names), listener)
        if score:
            result = replace(result, figures={**result.figures, **_scored(result.photos, truth)})
        write_tables(folder, result.photos, result.figures)
    else:
        seen = see(photos, backbone, weights, size, precision, least=k or 1, store=store or Store(), executor=executor, progress=listener)
        found = cluster_looks(seen.looks, k, method=method, most_k=most_k, seed=seed, progress=listener)
        parts = parts_of(seen.looks[found.look], found.labels, seed=seed)
        rows = _rows(seen, found, parts)
        figures = {**_figures(seen, found, rows, method, seed), "asked_k": k}
        if score:
            figures |= _scored(rows, truth)
        figures["seconds"] = round(time.perf_counter() - started, 2)
        result = ClusterResult(folder, rows, figures, _curve(folder, found.count), computed=seen.computed, reused=seen.reused)
        write_clusters(result, listener)
    if to_dataset is None:
        return result
    target = Path(to_dataset)
    chosen = _for_training(result.photos, threshold, called=names is not None)
    write_dataset(target, chosen)
    return replace(result, dataset=target, in_dataset=len(chosen))


def _check(
    folder: Path, data: Path, k: int | None, method: str, most_k: int, threshold: float, to_dataset: Path | str | None
) -> None:
    """Raises OptionError for what can be told before the work."""
    if method != "auto" and method not in METHODS:
        raise OptionError(f"--method must be auto or one of {', '.join(METHODS)}, got {method!r}")
    if k is not None and k < 1:
        raise OptionError(f"-k must be 1 or more, got {k}")
    if most_k < 2:
        raise OptionError(f"--most-k must be 2 or more, got {most_k}")
    if not 0 <= threshold <= 1:
        raise OptionError(f"--threshold must be from 0 to 1, got {threshold}")
    check_results_folder(folder, data)
    check_folder_is_free(folder, (ASSIGNMENTS,))
    if to_dataset is not None:
        check_dataset(Path(to_dataset), data)


def _labels(photos: Path | str) -> dict[str, str]:
    """The class of each file that has one, by its absolute path. Raises DataError where none has."""
    given = read_dataset(photos, labelled=False)
    found = {os.path.abspath(path): given.classes[int(i)]  # noqa: PTH100  # links stay links
             for path, i in zip(given.paths, given.labels, strict=True) if i >= 0}  # fmt: skip
    if not found:
        raise DataError(f"{photos}: has no labels to score by",
                        hint="Leave --score away, or give a folder of photos for each class, or a table with path,label.")  # fmt: skip
    return found


def _scored(rows: Sequence[ClusteredPhoto], truth: Mapping[str, str]) -> dict[str, Any]:
    own = [truth.get(os.path.abspath(one.path), "") for one in rows]  # noqa: PTH100  # links stay links
    number = {name: i for i, name in enumerate(sorted(set(own) - {""}))}
    labels = np.array([number.get(name, -1) for name in own], np.int64)
    told = score_of(labels, np.array([one.cluster for one in rows], np.int64))
    return {"accuracy": told.accuracy, "nmi": told.nmi, "ari": told.ari, "scored": told.n, "classes": len(number)}


def _rows(seen: Seen, found: Clustering, parts: Sequence[str]) -> tuple[ClusteredPhoto, ...]:
    """A row for every readable file, in the order of their names: copies are where their original is."""
    rows = [
        ClusteredPhoto(path, int(found.labels[i]), float(found.confidence[i]), parts[i], int(found.nearest[i]))
        for i, files in enumerate(seen.files)
        for path in files
    ]
    return tuple(sorted(rows, key=lambda one: os.fsencode(one.path)))


def _figures(seen: Seen, found: Clustering, rows: Sequence[ClusteredPhoto], asked: str, seed: int) -> dict[str, Any]:
    """``metrics.json``, but for the score."""
    labels = np.array([one.cluster for one in rows], np.int64)
    return {
        "k": found.k,
        "silhouette": None if math.isnan(found.silhouette) else found.silhouette,
        "n": len(rows),
        "different": len(seen.files),
        "in_none": int((labels < 0).sum()),
        "sizes": np.bincount(labels[labels >= 0], minlength=found.k).tolist(),
        "method": found.method,
        "asked": asked,
        "look": str(seen.kinds[found.look]),
        "confidence": float(np.mean([one.confidence for one in rows])),
        "count": _counted(found.count),
        "opinions": [
            {**asdict(one), "look": str(seen.kinds[one.look]), "silhouette": None if math.isnan(one.silhouette) else one.silhouette}
            for one in found.opinions
        ],
        "clustering": fingerprint_of(rows),
        "unreadable": [[path_in_table(path), reason] for path, reason in seen.unreadable],
        "seed": seed,
        "plan": seen.plan,
    }


def _counted(count: Count | None) -> dict[str, Any] | None:
    if count is None:
        return None
    return {
        "k": count.ks.tolist(),
        "silhouette": count.silhouette.tolist(),
        "stability": count.stability.tolist(),
        "gap": count.gap.tolist(),
        "gap_error": count.gap_error.tolist(),
        "choices": dict(zip(("silhouette", "stability", "gap"), count.choices, strict=True)),
        "taken": count.k,
    }


def _curve(folder: Path, count: Count | None) -> Path | None:
    """The picture of the estimate; one that an earlier run left there is removed."""
    file = folder / "k.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
    except OSError as error:
        raise OptionError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    if count is None:
        return None
    plot_count(count, file)
    return file


def _name_again(folder: Path, file: Path, listener: Progress) -> ClusterResult:
    """The clusters of an earlier run, with names."""
    names = read_names(file)
    photos, figures = read_clusters(folder)
    if names.clustering and names.clustering != figures["clustering"]:
        raise DataError(f"--names {file}: these names are for other clusters than those in {folder}",
                        hint="Give the folder whose clusters.html they were saved from.")  # fmt: skip
    there = {word for one in photos for word in _words(one)}
    unknown = sorted(set(names.clusters) - there)
    if unknown:
        raise DataError(f"--names {file}: there is no cluster {', '.join(unknown[:5])} in {folder}")
    listener.say(f"the clusters in {folder} are named; nothing is clustered anew")
    curve = folder / "k.png"
    return ClusterResult(folder, named(photos, names), figures, curve if curve.is_file() else None)


def _words(one: ClusteredPhoto) -> list[str]:
    """All that a photo's place may be called: 3, 3.1, 3.1.2."""
    parts = one.part.split(".") if one.part else []
    return [".".join((str(one.cluster), *parts[:i])) for i in range(len(parts) + 1)]


def _for_training(rows: Sequence[ClusteredPhoto], threshold: float, *, called: bool) -> list[tuple[Path, str]]:
    """The photos that go into the data set, with their names."""
    kept = [one for one in rows if one.confidence >= threshold and (one.name if called else one.cluster >= 0)]
    return [(one.path, one.name if called else f"cluster-{one.cluster:02}") for one in kept]
