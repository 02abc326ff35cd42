"""Photos that a head has learned from, kept with the model: what a new photo is compared with, and evidence for a person."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, final

import numpy as np
import torch

from greffon.backbones import fingerprint
from greffon.errors import ModelError, OptionError
from greffon.model.disk import check_keys, no_link, write_tensors
from greffon.novelty import nearest_rows

__all__ = ["MOST_EXAMPLES", "Examples", "about_examples", "choose_examples", "read_examples", "write_examples"]

#: So many training photos are kept, unless another number is asked for. More make a model larger, and say little more.
MOST_EXAMPLES = 2000
#: Bytes of features on disk at most, whatever the number: those of a flattened map are 50 KiB each.
_MOST_BYTES = 32 * 2**20
#: Of a file and of a thumbnail that is read; what greffon writes is far smaller.
_LARGEST_FILE, _LARGEST_THUMBNAIL = 2**30, 2**17

_FILE = "examples.safetensors"
_KINDS = {"features": (torch.float16, 2), "labels": (torch.int64, 1)}
#: Where photos are shown.
_PICTURES = {"sizes": (torch.int64, 1), "thumbnails": (torch.uint8, 1)}


@final
@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """n photos that the head has learned from.

    Parameters
    ----------
    features
        float32 (n, d): as the head sees them, that is after representation and normaliser. Each is a float16 number, so that the
        folder holds them as they are.
    labels
        int64 (n,).
    names
        Paths relative to the data; all empty where photos shall not be told of.
    thumbnails
        JPEG, the longer side 96 pixels; empty where that failed, or photos shall not be shown.
    """

    features: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    thumbnails: tuple[bytes, ...]

    @classmethod
    def of(cls, features: np.ndarray, labels: np.ndarray, names: Sequence[str] = (), thumbnails: Sequence[bytes] = ()) -> Examples:
        """Examples with the features rounded to float16. Without names or thumbnails these are empty.

        Raises
        ------
        OptionError
            Lengths that differ, or features beyond float16.
        """
        n = len(features)
        if features.ndim != 2 or labels.shape != (n,) or len(names or labels) != n or len(thumbnails or labels) != n:
            raise OptionError(f"Examples: needs features (n, d) and as many labels, names and thumbnails, got {features.shape},"
                              f" {len(labels)}, {len(names)} and {len(thumbnails)}")  # fmt: skip
        if not np.abs(features).max(initial=0) <= 65504:  # NaN is not, either
            raise OptionError("Examples: the features must be finite and at most 65504, got others")
        rounded = features.astype(np.float16).astype(np.float32)
        return cls(rounded, labels.astype(np.int64), tuple(names) or ("",) * n, tuple(thumbnails) or (b"",) * n)

    def __len__(self) -> int:
        return len(self.labels)

    def nearest(self, features: np.ndarray, k: int, *, block: int = 512) -> tuple[np.ndarray, np.ndarray]:
        """The k examples that are most like each photo, the nearest first; of equally near ones, the first in order.

        Parameters
        ----------
        features
            float32 (m, d): as the head sees them.
        k
            At least 1; at most n are found.
        block
            So many photos at once: memory grows with ``block`` times n.

        Returns
        -------
        int64 (m, k), positions, and float64 (m, k), cosine distances from 0 to 2. What has no length is 1 from everything.

        Raises
        ------
        OptionError
            A k below 1, or features of another width.
        """
        if k < 1:
            raise OptionError(f"Examples.nearest: k must be at least 1, got {k}")
        if features.ndim != 2 or features.shape[1] != self.features.shape[1]:
            raise OptionError(f"Examples.nearest: features must be (m, {self.features.shape[1]}), got {features.shape}")
        return nearest_rows(features, self.features, k, block=block)


def choose_examples(labels: np.ndarray, width: int, most: int, seed: int) -> np.ndarray:
    """Which photos are kept: int64 (k,), in order. All of them where they are few enough, or else as many of each class, as far as it goes.

    Parameters
    ----------
    labels
        int64 (n,).
    width
        Of the features; their bytes have a limit too, of 32 MiB.
    most
        So many at most.
    seed
        Of the drawing.
    """
    most = min(most, _MOST_BYTES // (2 * max(width, 1)))
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    # In turn one of each class: the place of a photo within its class says in which round it is taken.
    turn = np.zeros(len(labels), np.int64)
    for c in np.unique(labels):
        own = order[labels[order] == c]
        turn[own] = np.arange(len(own))
    return np.sort(order[np.argsort(turn[order], kind="stable")[:most]])


def write_examples(folder: Path, examples: Examples | None) -> None:
    """Write ``examples.safetensors``, or take away one that an earlier model has left there. Raises OSError or SafetensorError."""
    if examples is None:
        with contextlib.suppress(FileNotFoundError):
            (folder / _FILE).unlink()
        return
    write_tensors(folder / _FILE, _tensors(examples), {"format": "greffon examples"})


def about_examples(examples: Examples) -> dict[str, Any]:
    """What model.json tells of them, as JSON values."""
    told: dict[str, Any] = {"images": len(examples), "fingerprint": fingerprint(_tensors(examples))}
    return told | ({"names": list(examples.names)} if any(examples.names) else {})


def _tensors(examples: Examples) -> dict[str, torch.Tensor]:
    tensors = {
        "features": torch.from_numpy(examples.features.astype(np.float16)),
        "labels": torch.from_numpy(examples.labels.copy()),
    }
    if not any(examples.thumbnails):
        return tensors
    return tensors | {
        "sizes": torch.tensor([len(one) for one in examples.thumbnails], dtype=torch.int64),
        "thumbnails": torch.from_numpy(np.frombuffer(b"".join(examples.thumbnails), np.uint8).copy()),
    }


def read_examples(path: Path, about: Mapping[str, Any], width: int, classes: int) -> Examples | None:
    """The examples that model.json tells of, checked: types, shapes, finite values, labels, sizes, names, fingerprint.

    Parameters
    ----------
    path
        The model folder.
    about
        All of ``model.json``; models had no examples before greffon kept them.
    width, classes
        What the head has.

    Raises
    ------
    ModelError
        With the file and the fault.
    """
    from greffon.backbones.formats.torch import read_safetensors

    told: Any = about.get("examples")
    if told is None:
        return None
    file, description = path / _FILE, f"{path / 'model.json'}: examples"
    if not isinstance(told, dict):
        raise ModelError(f"{description} must be an object, got {type(told).__name__}")
    check_keys(description, told, {"images": int, "fingerprint": str})
    no_link(file)
    if not file.is_file():
        raise ModelError(f"{file}: missing; the folder is not whole")
    if file.stat().st_size > _LARGEST_FILE:
        raise ModelError(f"{file}: larger than 1 GiB, which no examples are")
    if told["images"] < 1:
        raise ModelError(f"{description}: images must be at least 1, got {told['images']}")
    tensors, _ = read_safetensors(file)
    kinds = {name: (tensor.dtype, tensor.ndim) for name, tensor in tensors.items()}
    if kinds not in (_KINDS, _KINDS | _PICTURES):
        raise ModelError(f"{file}: must hold {', '.join(_KINDS)}, and maybe {', '.join(_PICTURES)}, of their types, got {str(kinds)[:300]}")
    if fingerprint(tensors) != told["fingerprint"]:
        raise ModelError(f"{file}: has another fingerprint than model.json tells: the files are damaged or do not belong together")
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    n, features, labels = told["images"], arrays["features"], arrays["labels"]
    if features.shape != (n, width) or labels.shape != (n,):
        raise ModelError(f"{file}: must hold features ({n}, {width}) and {n} labels, got {features.shape} and {labels.shape}")
    sizes = arrays.get("sizes", np.zeros(n, np.int64))
    if sizes.shape != (n,):
        raise ModelError(f"{file}: must hold {n} sizes of thumbnails, got {sizes.shape}")
    if not np.isfinite(features).all():
        raise ModelError(f"{file}: the features hold numbers that are not finite")
    if labels.min() < 0 or labels.max() >= classes:
        raise ModelError(f"{file}: the labels must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    names = _names(description, told.get("names"), n)
    return Examples(features.astype(np.float32), labels, names, _thumbnails(file, sizes, arrays.get("thumbnails", np.zeros(0, np.uint8))))


def _names(description: str, told: Any, n: int) -> tuple[str, ...]:
    """Relative paths, which do not lead out of the data."""
    if told is None:
        return ("",) * n
    if not isinstance(told, list) or len(told) != n or not all(isinstance(name, str) for name in told):
        raise ModelError(f"{description}: names must be a list of {n} texts")
    for name in told:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            raise ModelError(f"{description}: names must be paths within the data, got {name[:80]!r}")
    return tuple(told)


def _thumbnails(file: Path, sizes: np.ndarray, content: np.ndarray) -> tuple[bytes, ...]:
    """Each as its own bytes. They are not decoded here: whoever shows them does so as with any photo from elsewhere."""
    if sizes.min() < 0 or sizes.max() > _LARGEST_THUMBNAIL or int(sizes.sum()) != len(content):
        raise ModelError(f"{file}: the sizes of the thumbnails do not add up to their {len(content)} bytes, or one is too large")
    stream = io.BytesIO(content.tobytes())
    found = tuple(stream.read(size) for size in sizes.tolist())
    if not all(not one or one.startswith(b"\xff\xd8\xff") for one in found):
        raise ModelError(f"{file}: a thumbnail is not a JPEG")
    return found
