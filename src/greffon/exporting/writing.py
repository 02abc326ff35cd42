"""A model into a file of each format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.errors import ExportError
from greffon.exporting.calibrating import quantised_onnx
from greffon.exporting.graph import crown_graph, grown_graph, trunk_graph
from greffon.model import Model

__all__ = ["Wish", "write_file"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """What is to be written.

    Parameters
    ----------
    precision
        ``"float32"``, ``"float16"`` or ``"int8"``.
    maps
        Whether class activation maps are an output; only where ``has_maps``.
    pictures
        For int8: uint8 (n, height, width, 3), fitted photos that ranges are taken from.
    properties
        What the file carries; see ``card.properties``.
    """

    precision: str
    maps: bool
    pictures: np.ndarray
    properties: Mapping[str, Any]


def write_file(model: Model, format: str, wish: Wish, file: Path) -> None:
    """Write ``file``, and what stands beside it. Raises ExportError or BackboneError."""
    writers: dict[str, Callable[[Model, Wish, Path], None]] = {"onnx": _write_onnx, "openvino": _write_openvino, "torch": _write_torch}
    writers[format](model, wish, file)


def _onnx(model: Model, wish: Wish) -> Any:
    trunk = trunk_graph(model, half=wish.precision == "float16")
    if wish.precision == "int8":
        trunk = quantised_onnx(trunk, model.backbone, wish.pictures)
    return grown_graph(model.backbone.preprocess, [trunk, crown_graph(model, maps=wish.maps)], wish.properties)


def _write_onnx(model: Model, wish: Wish, file: Path) -> None:
    whole = _onnx(model, wish)
    try:
        content = whole.SerializeToString()
    except ValueError as error:  # protobuf holds no more than 2 GB
        raise ExportError(f"{model.backbone.name} is too large for one ONNX file ({error})") from error
    file.write_bytes(content)


def _write_openvino(model: Model, wish: Wish, file: Path) -> None:
    from greffon.exporting.openvino_file import write_openvino

    write_openvino(model, file, precision=wish.precision, maps=wish.maps, pictures=wish.pictures, properties=wish.properties)


def _write_torch(model: Model, wish: Wish, file: Path) -> None:
    from greffon.exporting.torch_file import write_torch

    write_torch(model, file, maps=wish.maps, properties=wish.properties)
