"""Names for clusters: read from the file that the page saved, and what they make of each photo."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from greffon.errors import DataError

__all__ = ["Names", "read_names"]

_KEY = re.compile(r"\d+(\.[12])*\Z")
_HOW = "Name the clusters in clusters.html and save the names there, or write a CSV file with the columns cluster,name."


@final
@dataclass(frozen=True, slots=True)
class Names:
    """What a person called the clusters.

    Parameters
    ----------
    clusters
        Names by cluster (``"3"``) or part of one (``"3.1"``, ``"3.1.2"``). Clusters with the same name are one class. An empty name leaves
        a cluster out.
    photos
        Names by path, for single photos that belong elsewhere; an empty name leaves the photo out.
    clustering
        The fingerprint of the clustering that they are for, or ``""``.
    """

    clusters: Mapping[str, str]
    photos: Mapping[str, str] = field(default_factory=dict)
    clustering: str = ""

    def of(self, path: str, cluster: int, part: str) -> str:
        """The name of a photo, ``""`` where it has none: its own, or that of the smallest part that has one, or the cluster's."""
        if path in self.photos:
            return self.photos[path]
        word = f"{cluster}.{part}" if part else str(cluster)
        while word:
            if word in self.clusters:
                return self.clusters[word]
            word = word.rpartition(".")[0]
        return ""


def read_names(file: Path) -> Names:
    """Read a JSON file as the page saves it, or a CSV file with the columns ``cluster,name[,path]``.

    Raises
    ------
    DataError
        It cannot be read, or a key or a name in it cannot be used.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"--names {file}: must be JSON or CSV in UTF-8", hint=_HOW) from error
    except (OSError, ValueError) as error:
        raise DataError(f"--names {file}: cannot be read ({getattr(error, 'strerror', None) or error})", hint=_HOW) from error
    found = _from_json(file, text) if text.lstrip()[:1] in ("{", "[") else _from_csv(file, text)
    for key in found.clusters:
        if not _KEY.match(key):
            raise DataError(f"--names {file}: {key!r} is no cluster; expected a number such as 3, or a part such as 3.1", hint=_HOW)
    for name in (*found.clusters.values(), *found.photos.values()):
        _must_be_a_name(file, name)
    if not any((*found.clusters.values(), *found.photos.values())):
        raise DataError(f"--names {file}: names nothing", hint=_HOW)
    return found


def _from_json(file: Path, text: str) -> Names:
    try:
        values: Any = json.loads(text)
    except ValueError as error:
        raise DataError(f"--names {file}: a damaged JSON file ({error})", hint=_HOW) from error
    except RecursionError as error:
        raise DataError(f"--names {file}: is nested too deeply", hint=_HOW) from error
    if not isinstance(values, dict):
        raise DataError(f"--names {file}: expected an object with \"names\", got a {type(values).__name__}", hint=_HOW)
    names: Any = values.get("names")
    photos: Any = values.get("photos", {})
    clustering: Any = values.get("clustering", "")
    for part in (names, photos):
        if not isinstance(part, dict) or not all(isinstance(name, str) for name in part.values()):
            raise DataError(f"--names {file}: \"names\" must give clusters names, and \"photos\" paths", hint=_HOW)
    return Names(_trimmed(names), _trimmed(photos), clustering if isinstance(clustering, str) else "")


def _from_csv(file: Path, text: str) -> Names:
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"--names {file}: not a CSV file ({error})", hint=_HOW) from error
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if "cluster" not in header or "name" not in header:
        raise DataError(f"--names {file}: expected the columns cluster,name, got {', '.join(header) or 'nothing'}", hint=_HOW)
    clusters: dict[str, str] = {}
    photos: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            raise DataError(f"--names {file}: row {number} has {len(row)} fields, the header has {len(header)}")
        cells = dict(zip(header, row, strict=True))
        path, key = cells.get("path", ""), cells["cluster"].strip()
        into, word = (photos, path) if path else (clusters, key)
        if word in into:
            raise DataError(f"--names {file}: row {number} names {word!r} a second time")
        into[word] = cells["name"].strip()
    return Names(clusters, photos)


def _trimmed(names: dict[str, str]) -> dict[str, str]:
    return {key: name.strip() for key, name in names.items()}


def _must_be_a_name(file: Path, name: str) -> None:
    """It becomes a folder, so it must be fit for one everywhere."""
    fault = ""
    if any(sign in name for sign in '/\\:*?"<>|') or not name.isprintable():
        fault = 'holds one of / \\ : * ? " < > | or a sign that cannot be seen'
    elif name.startswith(".") or name.endswith("."):
        fault = "starts or ends with a dot"
    elif len(name.encode("utf-8", "replace")) > 120:
        fault = "is longer than 120 bytes"
    if fault:
        raise DataError(f"--names {file}: {name[:60]!r} cannot be the name of a folder: it {fault}")
