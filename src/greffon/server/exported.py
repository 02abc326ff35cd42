"""``read_export``: an export folder from disk, every byte of it doubted. Neither torch nor ``greffon.exporting`` is needed.

A folder that was changed by somebody else must not make the server read or run anything but a network: so links, other
files, sizes and sums that differ, graphs with operators of their own or with weights elsewhere, and numbers that are not
finite are refused, each with its reason.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.errors import GreffonError, ModelError
from greffon.images import Preprocess

__all__ = ["ABOUT", "GRAPH", "RUNNER", "SCHEMA", "Export", "is_export_folder", "read_export"]

#: The version of export.json that is read.
SCHEMA = 1
#: The files of an export folder: what it says of itself, the network, and the small program that is never run here.
ABOUT, GRAPH, RUNNER = "export.json", "model.onnx", "run.py"

#: Limits of what is read, in bytes: no export comes near.
_MOST_ABOUT, _MOST_GRAPH = 16 * 2**20, 2**31 - 1
#: Classes, and characters of a name.
_MOST_CLASSES, _LONGEST_NAME = 100_000, 1000


@final
@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """An export folder as it was read.

    Parameters
    ----------
    folder
        Where it stands.
    graph
        The bytes of the ONNX file, whose sum is the one that ``export.json`` tells.
    sha256
        That sum.
    classes
        In the order of the outputs.
    preprocess
        How a photo becomes what the network sees.
    maps
        Whether class activation maps are an output.
    precision
        Of the network: ``"float32"``, ``"float16"`` or ``"int8"``.
    conformal
        Sorted scores, float64 (k,), that give sets of classes their size; None where the model carries none.
    card
        The model card, JSON values as they stand in the file.
    """

    folder: Path
    graph: bytes
    sha256: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    maps: bool
    precision: str
    conformal: np.ndarray | None
    card: dict[str, Any]


def is_export_folder(folder: Path) -> bool:
    """Whether a path looks like a folder that ``greffon export`` made."""
    try:
        return (folder / ABOUT).exists()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False


def read_export(folder: Path) -> Export:
    """Read an export folder and check all that can be told without running the network.

    Raises
    ------
    ModelError
        With the file and the fault.
    """
    _only_known_files(folder)
    about = _about(folder / ABOUT)
    told = _files(folder, about)
    graph = _read(folder / GRAPH, _MOST_GRAPH)
    if len(graph) != told["bytes"]:
        raise ModelError(f"{folder / GRAPH}: has {len(graph):,} bytes, and {ABOUT} says {told['bytes']:,}: damaged, or exchanged")
    found = hashlib.sha256(graph).hexdigest()
    if found != told["sha256"]:
        raise ModelError(f"{folder / GRAPH}: has the SHA-256 {found[:12]}…, and {ABOUT} says {told['sha256'][:12]}…: damaged, or exchanged")
    card = _typed(about, "model", dict, folder)
    try:
        preprocess = Preprocess.from_dict(_typed(card, "preprocess", dict, folder))
    except GreffonError as error:
        raise ModelError(f"{folder / ABOUT}: {error.what}") from error
    precision = _typed(about, "precision", str, folder)
    if precision not in ("float32", "float16", "int8"):
        raise ModelError(f"{folder / ABOUT}: precision must be float32, float16 or int8, got {precision[:40]!r}")
    return Export(
        folder=folder,
        graph=graph,
        sha256=found,
        classes=_classes(folder, about),
        preprocess=preprocess,
        maps=_typed(about, "maps", bool, folder),
        precision=precision,
        conformal=_conformal(folder, about),
        card=card,
    )


def _only_known_files(folder: Path) -> None:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  # names, not paths
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: cannot be read ({getattr(error, 'strerror', None) or error})",
                         hint="serve takes a folder that greffon export made, or one of greffon train's.") from error  # fmt: skip
    if ABOUT not in names:
        raise ModelError(f"{folder}: not an export folder ({ABOUT} is missing)", hint="Make one with: greffon export MODEL --out DIR")
    others = [name for name in names if name not in (ABOUT, GRAPH, RUNNER)]
    if others:
        raise ModelError(f"{folder}: holds {', '.join(repr(name[:80]) for name in others[:5])}, which no export has",
                         hint="Move what is not of the export elsewhere.") from None  # fmt: skip


def _read(path: Path, most: int) -> bytes:
    """The bytes of a regular file that is no link."""
    try:
        # NONBLOCK: to open a pipe would wait for its writer.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        fault = "is a link, and a model's files must be its own" if error.errno == errno.ELOOP else f"cannot be read ({error.strerror})"
        raise ModelError(f"{path}: {fault}") from error
    about = os.fstat(number)
    if not stat.S_ISREG(about.st_mode):
        os.close(number)
        raise ModelError(f"{path}: is not a file")
    with open(number, "rb") as file:  # noqa: PTH123  # a descriptor
        if about.st_size > most:
            raise ModelError(f"{path}: has {about.st_size:,} bytes, more than the {most:,} that are read")
        try:
            return file.read(most + 1)[:most]
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def _about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(_read(path, _MOST_ABOUT).decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON, or damaged ({str(error)[:200]})") from error
    if not isinstance(about, dict) or type(about.get("greffon")) is not int:
        raise ModelError(f"{path}: has no schema version, so it is not an export of greffon")
    if about["greffon"] != SCHEMA:
        raise ModelError(f"{path}: has schema {str(about['greffon'])[:40]}; this greffon reads {SCHEMA}",
                         hint="Install a newer greffon." if about["greffon"] > SCHEMA else "Export the model anew.")  # fmt: skip
    return about


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a value of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _typed(values: dict[str, Any], key: str, kind: type, folder: Path) -> Any:
    if key not in values:
        raise ModelError(f"{folder / ABOUT}: lacks {key!r}")
    if type(values[key]) is not kind:
        raise ModelError(f"{folder / ABOUT}: {key} must be of type {kind.__name__}, got {type(values[key]).__name__}")
    return values[key]


def _files(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What is told of the one file that is read. Its name is never taken from the description."""
    form = _typed(about, "format", str, folder)
    if form != "onnx":
        raise ModelError(f"{folder}: an export of the kind {form[:40]!r}; serve takes onnx", hint="greffon export MODEL --out DIR")
    named, files = _typed(about, "file", str, folder), _typed(about, "files", dict, folder)
    for name in (named, *files):
        if name != GRAPH:
            raise ModelError(f"{folder / ABOUT}: names the file {name[:80]!r}; an export has {GRAPH} alone")
    told = _typed(files, GRAPH, dict, folder)
    size, digest = _typed(told, "bytes", int, folder), _typed(told, "sha256", str, folder)
    if size < 1 or len(digest) != 64:
        raise ModelError(f"{folder / ABOUT}: the size or the SHA-256 of {GRAPH} is damaged")
    return told


def _classes(folder: Path, about: dict[str, Any]) -> tuple[str, ...]:
    classes = _typed(about, "classes", list, folder)
    right = all(isinstance(one, str) and len(one) <= _LONGEST_NAME for one in classes) and len(set(classes)) == len(classes)
    if not right or not 2 <= len(classes) <= _MOST_CLASSES:
        raise ModelError(f"{folder / ABOUT}: classes must be 2 to {_MOST_CLASSES:,} different names")
    return tuple(classes)


def _conformal(folder: Path, about: dict[str, Any]) -> np.ndarray | None:
    told = about.get("conformal")
    if told is None:
        return None
    if not isinstance(told, list) or not all(type(one) in (int, float) and 0 <= one <= 1 for one in told) or told != sorted(told):
        raise ModelError(f"{folder / ABOUT}: conformal must be a list of numbers from 0 to 1, in their order")
    return np.array(told, np.float64)
