"""Files of a folder that may have been changed by somebody else: regular ones, of known names, no larger than they can be."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from greffon.errors import ModelError

__all__ = ["as_json", "check_names", "read_file", "typed"]


def check_names(folder: Path, needed: str, others: Sequence[str]) -> None:
    """``needed`` is there, and nothing that is not named here. Raises ModelError."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  # names, not paths
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: cannot be read ({getattr(error, 'strerror', None) or error})",
                         hint="serve takes a folder that greffon export made, or one of greffon train's.") from error  # fmt: skip
    if needed not in names:
        raise ModelError(f"{folder}: not an export folder ({needed} is missing)", hint="Make one with: greffon export MODEL --out DIR")
    strange = [name for name in names if name not in (needed, *others)]
    if strange:
        raise ModelError(f"{folder}: holds {', '.join(repr(name[:80]) for name in strange[:5])}, which no export has",
                         hint="Move what is not of the export elsewhere.")  # fmt: skip


def read_file(path: Path, most: int) -> bytes:
    """The bytes of a regular file that is no link, ``most`` at most. Raises ModelError."""
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


def as_json(text: bytes, path: Path) -> Any:
    """The JSON value of a file; no key stands twice, and no number is NaN or infinite. Raises ModelError."""
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON, or damaged ({str(error)[:200]})") from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a value of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def typed(values: dict[str, Any], key: str, kind: type, file: Path) -> Any:
    """A value of an object in ``file``, which must be there and of this type. Raises ModelError."""
    if key not in values:
        raise ModelError(f"{file}: lacks {key!r}")
    if type(values[key]) is not kind:
        raise ModelError(f"{file}: {key} must be of type {kind.__name__}, got {type(values[key]).__name__}")
    return values[key]
