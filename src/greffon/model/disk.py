"""Files of a model folder: each is written whole or not at all, and nothing that is read is believed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from greffon.errors import ModelError
from greffon.whole import sync_file, whole_file

__all__ = ["as_json", "check_keys", "no_constant", "no_link", "write_json", "write_tensors", "write_text"]


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all. Raises OSError or SafetensorError."""
    from safetensors.torch import save_file

    with whole_file(path) as part:
        save_file(dict(tensors), part, metadata=dict(metadata))
        sync_file(part)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, as_json(values))


def as_json(values: Mapping[str, Any]) -> str:
    """The text of a JSON file. Raises TypeError or ValueError for what JSON has no value for."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError:  # a folder's name that is not UTF-8: only JSON's own escapes can hold it
        return json.dumps(values, indent=2, allow_nan=False) + "\n"
    return text


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all. Raises OSError."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
        sync_file(part)


def no_link(file: Path) -> None:
    """Raise ModelError for a link: it could make a folder from elsewhere stand for any file of this machine."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: a NUL in the name; told by whoever opens it
        if file.is_symlink():
            raise ModelError(f"{file}: is a link, and a model's files must be its own")


def no_constant(name: str) -> float:
    """For ``json.loads``: NaN and the infinities are not JSON."""
    raise ValueError(f"{name} is not a value of JSON")


def check_keys(what: str, values: Mapping[str, Any], keys: Mapping[str, type]) -> None:
    """Every key there, with its type, or a ModelError. Keys that are not known are left to later versions."""
    for key, kind in keys.items():
        if key not in values:
            raise ModelError(f"{what} lacks {key!r}")
        if type(values[key]) is not kind:
            raise ModelError(f"{what}: {key} must be of type {kind.__name__}, got {type(values[key]).__name__}")
