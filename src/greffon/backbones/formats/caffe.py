"""Caffe's ``.caffemodel``: its layers' blobs, by Google's protobuf, without Caffe.

Of Caffe's schema (``caffe.proto``, BSD-2-Clause) the few fields are declared that say where the numbers are; the library
skips the others. ``data`` is declared as bytes, which on the wire is what a packed list of floats is: a list of numbers in
Python would take ten times the memory.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from greffon.errors import WeightsError

__all__ = ["read_caffe"]

#: message: (field, number, type), of a message type where the type is a name. All are repeated, or the last one holds.
_SCHEMA: dict[str, tuple[tuple[str, int, str], ...]] = {
    "BlobShape": (("dim", 1, "int64*"),),
    "BlobProto": (
        ("num", 1, "int32"), ("channels", 2, "int32"), ("height", 3, "int32"), ("width", 4, "int32"),
        ("data", 5, "bytes*"), ("shape", 7, "BlobShape"), ("double_data", 8, "bytes*"),
    ),
    "V1LayerParameter": (("name", 4, "bytes"), ("blobs", 6, "BlobProto*")),
    "LayerParameter": (("name", 1, "bytes"), ("blobs", 7, "BlobProto*")),
    "NetParameter": (("name", 1, "bytes"), ("layers", 2, "V1LayerParameter*"), ("layer", 100, "LayerParameter*")),
}  # fmt: skip

_LARGEST = 2**31 - 1  # protobuf's own limit for a message


def read_caffe(path: Path) -> dict[str, np.ndarray]:
    """The blobs of a trained network as ``layer/number``, for instance ``conv1_1/0``: float32, Caffe's axes.

    Old files say (1, 1, out, in) of a dense layer, and (1, 1, 1, n) of a bias: leading ones are left out where there are
    four, unless it is a kernel.

    Raises
    ------
    WeightsError
        Not a caffemodel, damaged, or without numbers; or the package protobuf is missing.
    """
    try:
        message = _net_parameter()
    except ImportError as error:
        raise WeightsError(f"{path}: reading Caffe files needs the package protobuf", hint='pip install "greffon[weights]"') from error
    try:
        if path.stat().st_size > _LARGEST:
            raise WeightsError(f"{path}: is larger than a caffemodel can be")
        net = message()
        net.ParseFromString(path.read_bytes())
        found: dict[str, np.ndarray] = {}
        for layer in (*net.layers, *net.layer):
            name = layer.name.decode("utf-8")
            for number, blob in enumerate(layer.blobs):
                key = f"{name}/{number}"
                if key in found:
                    raise WeightsError(f"{path}: has two layers of the name {name!r}")
                found[key] = _numbers(blob, key)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # protobuf's errors have no common public base
        what = str(error) if isinstance(error, _BlobError) else type(error).__name__
        raise WeightsError(f"{path}: not a caffemodel, or a damaged one ({what})") from error
    if not found:
        raise WeightsError(f"{path}: a caffemodel without numbers, or another kind of file")
    return found


class _BlobError(ValueError):
    """A blob whose shape does not go with its numbers."""


def _numbers(blob: Any, key: str) -> np.ndarray:
    kind, parts = ("<f4", blob.data) if blob.data else ("<f8", blob.double_data)
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else _without_ones((blob.num, blob.channels, blob.height, blob.width))
    if len(shape) > 8 or any(side < 0 for side in shape) or math.prod(shape) * np.dtype(kind).itemsize != len(data):
        raise _BlobError(f"{key} {shape} has {len(data)} bytes")
    return np.frombuffer(data, kind).astype(np.float32).reshape(shape)


def _without_ones(shape: tuple[int, int, int, int]) -> tuple[int, ...]:
    if shape[:3] == (1, 1, 1):
        return shape[3:]
    return shape[2:] if shape[:2] == (1, 1) else shape


def _net_parameter() -> Any:
    """The class of Caffe's trained networks, made from the table."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    types = {"int32": kinds.TYPE_INT32, "int64": kinds.TYPE_INT64, "bytes": kinds.TYPE_BYTES}
    file = descriptor_pb2.FileDescriptorProto(name="greffon/caffe.proto", package="greffon.caffe", syntax="proto2")
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            bare = kind.removesuffix("*")
            label = kinds.LABEL_REPEATED if kind.endswith("*") else kinds.LABEL_OPTIONAL
            if bare in types:
                message.field.add(name=field, number=number, label=label, type=types[bare])
            else:
                message.field.add(name=field, number=number, label=label, type=kinds.TYPE_MESSAGE,
                                  type_name=f".greffon.caffe.{bare}")  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("greffon.caffe.NetParameter"))
