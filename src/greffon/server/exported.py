"""``read_export``: an export folder from disk, every byte of it doubted. Neither torch nor ``greffon.exporting`` is needed.

A folder that was changed by somebody else must not make the server read or run anything but a network: so links, other
files, sizes and sums that differ, graphs with operators of their own or with weights elsewhere, and numbers that are not
finite are refused, each with its reason.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.errors import GreffonError, ModelError
from greffon.images import Preprocess
from greffon.server.reading import as_json, check_names, read_file, typed
from greffon.server.remembered import EXAMPLES, MOST_EXAMPLES_BYTES, Remembered, read_remembered

__all__ = ["ABOUT", "GRAPHS", "RUNNER", "SCHEMA", "Export", "is_export_folder", "read_export"]

#: The version of export.json that is read.
SCHEMA = 1
#: What an export folder says of itself, and the small program that is never run here.
ABOUT, RUNNER = "export.json", "run.py"
#: The files of the network, by format: the graph first.
GRAPHS = {"onnx": ("model.onnx",), "openvino": ("model.xml", "model.bin")}

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
    format
        One of ``GRAPHS``.
    graph, weights
        The bytes of the network's files, whose sums are those that ``export.json`` tells; ONNX has its weights in the graph.
    sha256
        The sum of its file; where there are two, the sum of their sums.
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
    remembered
        Of the training photos; None where the model carries nothing of them.
    card
        The model card, JSON values as they stand in the file.
    fingerprint
        sha256 of ``export.json``, which has the sums of all other files.
    """

    folder: Path
    format: str
    graph: bytes
    weights: bytes
    sha256: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    maps: bool
    precision: str
    conformal: np.ndarray | None
    remembered: Remembered | None
    card: dict[str, Any]
    fingerprint: str

    @property
    def file(self) -> Path:
        """The file of the graph: what faults are told of."""
        return self.folder / GRAPHS[self.format][0]


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
    check_names(folder, ABOUT, (RUNNER, EXAMPLES, *(name for names in GRAPHS.values() for name in names)))
    file = folder / ABOUT
    text = read_file(file, _MOST_ABOUT)
    about = _about(text, file)
    form = _format(about, file)
    told = _told_files(form, about, file)
    contents = {name: _content(folder / name, told[name]) for name in GRAPHS[form]}
    sums = [told[name]["sha256"] for name in GRAPHS[form]]
    card = typed(about, "model", dict, file)
    try:
        preprocess = Preprocess.from_dict(typed(card, "preprocess", dict, file))
    except GreffonError as error:
        raise ModelError(f"{file}: {error.what}") from error
    precision = typed(about, "precision", str, file)
    if precision not in ("float32", "float16", "int8"):
        raise ModelError(f"{file}: precision must be float32, float16 or int8, got {precision[:40]!r}")
    classes, remembered = _classes(about, file), None
    if EXAMPLES in told:
        remembered = read_remembered(_content(folder / EXAMPLES, told[EXAMPLES], MOST_EXAMPLES_BYTES), about, file, len(classes))
    graph, *others = contents.values()
    return Export(
        folder=folder,
        format=form,
        graph=graph,
        weights=b"".join(others),
        sha256=sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest(),
        classes=classes,
        preprocess=preprocess,
        maps=typed(about, "maps", bool, file),
        precision=precision,
        conformal=_scores(about, "conformal", file),
        remembered=remembered,
        card=card,
        fingerprint=hashlib.sha256(text).hexdigest(),
    )


def _about(text: bytes, file: Path) -> dict[str, Any]:
    about = as_json(text, file)
    if not isinstance(about, dict) or type(about.get("greffon")) is not int:
        raise ModelError(f"{file}: has no schema version, so it is not an export of greffon")
    if about["greffon"] != SCHEMA:
        raise ModelError(f"{file}: has schema {str(about['greffon'])[:40]}; this greffon reads {SCHEMA}",
                         hint="Install a newer greffon." if about["greffon"] > SCHEMA else "Export the model anew.")  # fmt: skip
    return about


def _format(about: dict[str, Any], file: Path) -> str:
    form = typed(about, "format", str, file)
    if form not in GRAPHS:
        raise ModelError(f"{file.parent}: an export of the kind {form[:40]!r}; serve takes {' and '.join(GRAPHS)}",
                         hint="greffon export MODEL --out DIR")  # fmt: skip
    return form


def _told_files(form: str, about: dict[str, Any], file: Path) -> dict[str, dict[str, Any]]:
    """What is told of the files that are read. Their names are never taken from the description."""
    named, files = typed(about, "file", str, file), typed(about, "files", dict, file)
    for name in (named, *files):
        if name not in GRAPHS[form] and not (name == EXAMPLES != named):
            raise ModelError(f"{file}: names the file {name[:80]!r}; an export to {form} has {' and '.join(GRAPHS[form])} alone")
    for name in {*GRAPHS[form], *files}:
        told = typed(files, name, dict, file)
        size, digest = typed(told, "bytes", int, file), typed(told, "sha256", str, file)
        if size < 1 or len(digest) != 64:
            raise ModelError(f"{file}: the size or the SHA-256 of {name} is damaged")
    known = (EXAMPLES, *(name for names in GRAPHS.values() for name in names))
    strange = [name for name in known if name not in files and (file.parent / name).exists()]
    if strange:
        raise ModelError(f"{file.parent}: holds {', '.join(strange)}, of which {ABOUT} says nothing", hint="Export the model anew.")
    return files


def _content(path: Path, told: dict[str, Any], most: int = _MOST_GRAPH) -> bytes:
    content = read_file(path, most)
    if len(content) != told["bytes"]:
        raise ModelError(f"{path}: has {len(content):,} bytes, and {ABOUT} says {told['bytes']:,}: damaged, or exchanged")
    found = hashlib.sha256(content).hexdigest()
    if found != told["sha256"]:
        raise ModelError(f"{path}: has the SHA-256 {found[:12]}…, and {ABOUT} says {told['sha256'][:12]}…: damaged, or exchanged")
    return content


def _classes(about: dict[str, Any], file: Path) -> tuple[str, ...]:
    classes = typed(about, "classes", list, file)
    right = all(isinstance(one, str) and len(one) <= _LONGEST_NAME for one in classes) and len(set(classes)) == len(classes)
    if not right or not 2 <= len(classes) <= _MOST_CLASSES:
        raise ModelError(f"{file}: classes must be 2 to {_MOST_CLASSES:,} different names")
    return tuple(classes)


def _scores(about: dict[str, Any], key: str, file: Path) -> np.ndarray | None:
    """Sorted scores of photos that were held out, float64 (k,), where the model carries them."""
    told = about.get(key)
    if told is None:
        return None
    if not isinstance(told, list) or not all(type(one) in (int, float) and 0 <= one <= 1 for one in told) or told != sorted(told):
        raise ModelError(f"{file}: {key} must be a list of numbers from 0 to 1, in their order")
    return np.array(told, np.float64)
