"""What ``greffon cluster`` found: photo by photo, as JSON, written into its folder and read from it again."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from greffon.errors import DataError, OptionError
from greffon.jobs.cluster.naming import Names
from greffon.model import write_json
from greffon.progress import Progress
from greffon.report import ClusterPhoto, cluster_sheet, clusters_report, path_in_table, write_table

__all__ = ["ASSIGNMENTS", "ClusterResult", "ClusteredPhoto", "fingerprint_of", "named", "read_clusters", "write_clusters", "write_tables"]

#: By this file a folder of results is known.
ASSIGNMENTS = "assignments.csv"
_COLUMNS = ("path", "cluster", "confidence", "part", "nearest", "name")


@final
@dataclass(frozen=True, slots=True)
class ClusteredPhoto:
    """One photo, and where it is; a row of ``assignments.csv``.

    Parameters
    ----------
    cluster
        From 0, the largest cluster; -1: in none.
    confidence
        From 0 to 1.
    part
        In which half of its cluster, ``"1"`` or ``"2"``, and in which half of that, ``"1.2"``; ``""`` in a small cluster.
    nearest
        The other cluster that it is nearest to; -1 where there is no other.
    name
        What a person called it; ``""`` where nobody did.
    """

    path: Path
    cluster: int
    confidence: float
    part: str
    nearest: int
    name: str = ""


@final
@dataclass(frozen=True, slots=True, eq=False)
class ClusterResult:
    """Photos in clusters, and the figures of ``metrics.json``.

    Parameters
    ----------
    photos
        A row for every readable file, in the order of their paths.
    figures
        JSON values: the content of ``metrics.json``.
    curve
        The picture of how k was estimated, or None where it was given.
    dataset
        The data set that was written, or None, and how many photos are in it.
    computed, reused
        Records of the frozen part.
    """

    folder: Path
    photos: tuple[ClusteredPhoto, ...]
    figures: Mapping[str, Any]
    curve: Path | None
    dataset: Path | None = None
    in_dataset: int = 0
    computed: int = 0
    reused: int = 0

    @property
    def k(self) -> int:
        """How many clusters there are."""
        return int(self.figures["k"])

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: ``metrics.json``, and what was written beside it."""
        written = {} if self.dataset is None else {"dataset": str(self.dataset), "in_dataset": self.in_dataset}
        return {**self.figures, **written}


def fingerprint_of(photos: Sequence[ClusteredPhoto]) -> str:
    """The sha256 over paths, clusters and parts: names are for one clustering."""
    lines = (f"{path_in_table(one.path)}\t{one.cluster}\t{one.part}\n" for one in photos)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def named(photos: Sequence[ClusteredPhoto], names: Names) -> tuple[ClusteredPhoto, ...]:
    """The same photos with the names that a person gave."""
    return tuple(replace(one, name=names.of(path_in_table(one.path), one.cluster, one.part)) for one in photos)


def write_tables(folder: Path, photos: Sequence[ClusteredPhoto], figures: Mapping[str, Any]) -> None:
    """``assignments.csv``, by which the folder is known as ours, and ``metrics.json``. Raises OptionError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_table(folder / ASSIGNMENTS, _COLUMNS, (
            (path_in_table(one.path), str(one.cluster), f"{one.confidence:.4f}", one.part, str(one.nearest), one.name) for one in photos
        ))  # fmt: skip
        write_json(folder / "metrics.json", dict(figures))
    except OSError as error:
        raise OptionError(f"--out {folder}: cannot be written ({error.strerror or error})") from error


def write_clusters(result: ClusterResult, listener: Progress) -> None:
    """The tables first, then what is for people: a contact sheet of each cluster, and the page."""
    folder = result.folder
    write_tables(folder, result.photos, result.figures)
    sheets = folder / "sheets"
    try:
        sheets.mkdir(exist_ok=True)
        for old in sheets.glob("cluster-*.png"):
            old.unlink()
    except OSError as error:
        raise OptionError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    clusters = [c for c in range(-1, result.k) if c >= 0 or result.figures["in_none"]]
    listener.begin("Contact sheets", len(clusters))
    for c in clusters:
        mine = [_shown(one) for one in result.photos if one.cluster == c]
        cluster_sheet(sheets / (f"cluster-{c:02}.png" if c >= 0 else "cluster-none.png"), c, mine)
        listener.advance()
    listener.end()
    listener.say("writing clusters.html")
    clusters_report(folder / "clusters.html", [_shown(one) for one in result.photos], result.figures, result.curve)


def _shown(one: ClusteredPhoto) -> ClusterPhoto:
    return ClusterPhoto(one.path, path_in_table(one.path), one.cluster, one.confidence, one.part, one.nearest)


def read_clusters(folder: Path) -> tuple[tuple[ClusteredPhoto, ...], dict[str, Any]]:
    """The rows and the figures of an earlier run.

    Raises
    ------
    OptionError
        There is none.
    DataError
        Its files were changed.
    """
    file = folder / ASSIGNMENTS
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        figures = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, csv.Error) as error:
        raise OptionError(f"--out {folder}: holds no clusters to name ({getattr(error, 'strerror', None) or error})",
                          hint="Run the command without --names first, and name what it finds.") from error  # fmt: skip
    photos = []
    for number, row in enumerate(rows, start=1):
        try:
            photos.append(ClusteredPhoto(Path(row["path"]), int(row["cluster"]), float(row["confidence"]), row["part"] or "",
                                         int(row["nearest"]), row["name"] or ""))  # fmt: skip
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{file}: row {number} is not as it was written", hint="Cluster the photos again.") from error
    if not isinstance(figures, dict) or not {"k", "clustering"} <= set(figures) or not photos:
        raise DataError(f"{folder}: metrics.json or {ASSIGNMENTS} is not as it was written", hint="Cluster the photos again.")
    if fingerprint_of(photos) != figures["clustering"]:
        raise DataError(f"{file}: was changed since it was written", hint="Cluster the photos again.")
    return tuple(photos), figures


