"""An index of photos as a folder: safetensors and JSON, never pickle. Reading it believes nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.backbones import Backbone
from greffon.errors import PhotoIndexError
from greffon.model import versions, write_json
from greffon.transfer.unsupervised.embedding import LOOK, EmbeddedPhotos
from greffon.transfer.unsupervised.indexes import VectorIndex
from greffon.transfer.unsupervised.neighbours import SmallPictures
from greffon.whole import whole_file

__all__ = ["INDEX_FILES", "Origin", "PhotoIndex", "is_index_folder", "load_index", "photo_index", "save_index"]

#: The version of the folder's layout.
_SCHEMA = 1
INDEX_FILES = ("index.json", "index.safetensors")
#: safetensors' own limit for the header of a file.
_HEADER = 100_000_000
_AGAIN = "Make it anew with greffon index; what the network has computed is kept, so that is quick."
_BLOCK = 16384


@final
@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """What the vectors came from: a query must come from the same.

    Parameters
    ----------
    backbone, size
        As they were asked for: a name of the catalogue or a model folder, and the pixels that it sees (0: its own).
    name, fingerprint
        The network and its weights.
    preprocess
        How photos were prepared for it.
    precision
        What it was computed in.
    """

    backbone: str
    size: int
    name: str
    fingerprint: str
    preprocess: Mapping[str, Any]
    precision: str

    def check(self, network: Backbone, folder: Path) -> None:
        """Raises PhotoIndexError where queries of this network cannot be compared with the index."""
        if network.fingerprint != self.fingerprint:
            raise PhotoIndexError(
                f"{folder}: was made with {self.name} of the weights {self.fingerprint[:12]}, and the network at hand is {network.name} of"
                f" the weights {network.fingerprint[:12]}: their features cannot be compared",
                hint=f"Give the same network with --backbone or --weights ({self.backbone} was asked for then), or make the index"
                " anew with the one at hand.",
            )
        mine, theirs = (json.loads(json.dumps(one)) for one in (network.preprocess.to_dict(), self.preprocess))
        if mine != theirs:
            other = sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))
            raise PhotoIndexError(
                f"{folder}: its photos were prepared for the network in another way ({', '.join(other)})", hint=_AGAIN
            )


@final
@dataclass(frozen=True, slots=True, eq=False)
class PhotoIndex:
    """Photos that can be searched. All sequences have length n, in the order of the vectors.

    Parameters
    ----------
    root
        The folder that was indexed.
    names
        Where each photo lies: below the root, or absolute.
    digests
        uint8 (n, 32): the sha256 of each file's content when it was indexed.
    """

    origin: Origin
    root: Path
    names: tuple[str, ...]
    digests: np.ndarray
    pictures: SmallPictures
    vectors: VectorIndex

    def __len__(self) -> int:
        return len(self.names)

    def path(self, row: int) -> Path:
        """Where a photo lay when it was indexed."""
        return self.root / self.names[row]


def photo_index(
    photos: EmbeddedPhotos, network: Backbone, backbone: str, size: int, vectors: VectorIndex, order: np.ndarray
) -> PhotoIndex:
    """Put together what ``embed_photos`` and ``build_index`` gave, in the order of the latter."""
    root = Path(os.path.abspath(photos.root))  # noqa: PTH100  # links stay links
    base = root if root.is_dir() else root.parent
    absolute = [Path(os.path.abspath(photos.paths[i])) for i in order]  # noqa: PTH100  # as above
    names = tuple(str(path.relative_to(base) if path.is_relative_to(base) else path) for path in absolute)
    origin = Origin(backbone, size, network.name, network.fingerprint, network.preprocess.to_dict(), photos.precision)
    return PhotoIndex(origin, base, names, photos.digests[order], photos.pictures.take(order), vectors)


def is_index_folder(path: Path | str) -> bool:
    """Whether a path looks like a folder that ``greffon index`` made."""
    try:
        return (Path(path) / INDEX_FILES[0]).is_file()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False


def save_index(index: PhotoIndex, folder: Path) -> None:
    """Write ``index.safetensors`` and ``index.json``, each whole or not at all. Raises PhotoIndexError."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    names = [os.fsencode(name) for name in index.names]
    arrays = {
        "vectors": index.vectors.vectors,
        "centres": index.vectors.centres,
        "ends": index.vectors.ends,
        "digests": index.digests,
        "grey": index.pictures.grey,
        "colour": index.pictures.colour,
        "side": index.pictures.side,
        "names": np.frombuffer(b"".join(names), np.uint8),
        "name_ends": np.cumsum([len(name) for name in names]).astype(np.int64),
    }
    origin = index.origin
    about = {
        "schema": _SCHEMA,
        "photos": len(index),
        "features": int(index.vectors.vectors.shape[1]),
        "kind": index.vectors.kind,
        "cells": len(index.vectors.centres),
        "probes": index.vectors.probes,
        "recall": index.vectors.recall,
        "representation": str(LOOK),
        "root": str(index.root),
        "backbone": {
            "asked": origin.backbone,
            "size": origin.size,
            "name": origin.name,
            "fingerprint": origin.fingerprint,
            "preprocess": dict(origin.preprocess),
            "precision": origin.precision,
        },
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / INDEX_FILES[1]) as part:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, part)
            digest = _sha256(part)
        write_json(folder / INDEX_FILES[0], {**about, "sha256": digest, "versions": versions()})
    except (OSError, SafetensorError) as error:
        raise PhotoIndexError(f"{folder}: cannot be written ({getattr(error, 'strerror', None) or error})") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_index(folder: Path | str) -> PhotoIndex:
    """Read an index, checking everything: schema, types, sizes before anything is read, shapes, checksum, finite values.

    Raises
    ------
    PhotoIndexError
        With the file and the fault.
    """
    path = Path(folder)
    about = _read_about(path)
    origin = _origin(path, about)
    arrays = _read_arrays(path, about)
    names = _names(path, arrays["names"], arrays["name_ends"])
    vectors = VectorIndex(arrays["vectors"], arrays["centres"], arrays["ends"], about["probes"], float(about["recall"]))
    _check_vectors(path, vectors)
    pictures = SmallPictures(arrays["grey"], arrays["colour"], arrays["side"])
    return PhotoIndex(origin, Path(about["root"]), names, arrays["digests"], pictures, vectors)


def _read_about(path: Path) -> dict[str, Any]:
    file = path / INDEX_FILES[0]
    try:
        if file.stat().st_size > 2**20:
            raise PhotoIndexError(f"{file}: larger than 1 MiB, which no index.json is")
        about = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError):
            raise PhotoIndexError(f"{path}: not an index of greffon ({file.name}: {error.strerror or error})",
                                  hint="An index is the folder that greffon index --out made.") from error  # fmt: skip
        raise PhotoIndexError(f"{file}: not JSON, or damaged ({str(error)[:200]})", hint=_AGAIN) from error
    if not isinstance(about, dict) or type(about.get("schema")) is not int:
        raise PhotoIndexError(f"{file}: has no schema version, so it is not an index of greffon")
    if about["schema"] != _SCHEMA:
        raise PhotoIndexError(f"{file}: has schema {str(about['schema'])[:40]}; this greffon reads {_SCHEMA}", hint=_AGAIN)
    kinds = {"photos": int, "features": int, "cells": int, "probes": int, "root": str, "backbone": dict, "sha256": str,
             "representation": str}  # fmt: skip
    _check_types(str(file), about, kinds)
    n, d, cells, probes = (about[name] for name in ("photos", "features", "cells", "probes"))
    if not (1 <= n < 2**31 and 1 <= d < 2**20 and 0 <= cells <= n and (0 < probes <= cells or probes == cells == 0)):
        raise PhotoIndexError(f"{file}: {n} photos, {d} features, {cells} cells and {probes} probes are not those of an index", hint=_AGAIN)
    if type(about.get("recall")) not in (int, float) or not 0 <= about["recall"] <= 1:
        raise PhotoIndexError(f"{file}: recall must be from 0 to 1, got {str(about.get('recall'))[:40]}", hint=_AGAIN)
    if about["representation"] != str(LOOK):
        raise PhotoIndexError(f"{file}: its vectors are the {about['representation'][:80]}; this greffon compares the {LOOK}", hint=_AGAIN)
    return about


def _check_types(what: str, values: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    for key, kind in kinds.items():
        if type(values.get(key)) is not kind:
            got = type(values[key]).__name__ if key in values else "nothing"
            raise PhotoIndexError(f"{what}: {key} must be of type {kind.__name__}, got {got}", hint=_AGAIN)


def _origin(path: Path, about: Mapping[str, Any]) -> Origin:
    told = about["backbone"]
    kinds = {"asked": str, "size": int, "name": str, "fingerprint": str, "preprocess": dict, "precision": str}
    _check_types(f"{path / INDEX_FILES[0]}: backbone", told, kinds)
    if told["precision"] not in ("float32", "bfloat16", "int8") or not 0 <= told["size"] <= 4096:
        raise PhotoIndexError(f"{path / INDEX_FILES[0]}: backbone: the precision or the size is damaged", hint=_AGAIN)
    return Origin(told["asked"], told["size"], told["name"], told["fingerprint"], told["preprocess"], told["precision"])


def _read_arrays(path: Path, about: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every array of the file, its type and shape being known before any of it is read."""
    from safetensors import safe_open

    file = path / INDEX_FILES[1]
    n, d, cells = about["photos"], about["features"], about["cells"]
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {
        "vectors": ("F16" if cells else "F32", (n, d)),
        "centres": ("F32", (cells, d)),
        "ends": ("I64", (cells,)),
        "digests": ("U8", (n, 32)),
        "grey": ("U8", (n, 16, 16)),
        "colour": ("U8", (n, 4, 4, 3)),
        "side": ("I64", (n,)),
        "name_ends": ("I64", (n,)),
    }
    try:
        with safe_open(file, framework="np") as opened:
            found = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  # not a dict
            told = {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in found.items()}
            blob = told.pop("names", ("", ()))
            if told != wanted or blob[0] != "U8" or len(blob[1]) != 1 or blob[1][0] > 4096 * n:
                wrong = sorted(name for name in {*told, *wanted} if told.get(name) != wanted.get(name)) or ["names"]
                what = f"{', '.join(wrong)[:200]} are not of the type and shape that index.json tells of"
                raise PhotoIndexError(f"{file}: {what}", hint=_AGAIN)
            if _sha256(file) != about["sha256"]:
                raise PhotoIndexError(f"{file}: its checksum is another than index.json tells: damaged, or not of this index", hint=_AGAIN)
            return {name: opened.get_tensor(name) for name in found}
    except PhotoIndexError:
        raise
    except OSError as error:
        raise PhotoIndexError(f"{file}: cannot be read ({error.strerror or error})", hint=_AGAIN) from error
    except Exception as error:  # safetensors' own error class is not a stable import
        raise PhotoIndexError(f"{file}: not a safetensors file, or a damaged one ({str(error)[:200]})", hint=_AGAIN) from error


def _names(path: Path, blob: np.ndarray, ends: np.ndarray) -> tuple[str, ...]:
    starts = np.concatenate([[0], ends[:-1]])
    if (ends < starts).any() or int(ends[-1]) != len(blob) or (ends - starts).max() > 4096 or ends.min() < 0:
        raise PhotoIndexError(f"{path / INDEX_FILES[1]}: the names of the photos are damaged", hint=_AGAIN)
    whole = blob.tobytes()
    return tuple(os.fsdecode(whole[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True))


def _check_vectors(path: Path, index: VectorIndex) -> None:
    """Raises PhotoIndexError where vectors are not of length one (or zeros), or cells do not hold just these."""
    for what in (index.vectors, index.centres):
        for start in range(0, len(what), _BLOCK):
            part = what[start : start + _BLOCK].astype(np.float32)
            square = np.einsum("nd,nd->n", part, part)
            if not ((np.abs(square - 1) < 0.01) | (square == 0)).all():  # NaN is neither
                raise PhotoIndexError(f"{path / INDEX_FILES[1]}: holds vectors that are not of length one", hint=_AGAIN)
    ends = index.ends
    if len(ends) and ((np.diff(ends) < 0).any() or int(ends[0]) < 0 or int(ends[-1]) != len(index)):
        raise PhotoIndexError(f"{path / INDEX_FILES[1]}: the ends of the cells are damaged", hint=_AGAIN)
