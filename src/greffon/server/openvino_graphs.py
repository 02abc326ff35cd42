"""OpenVINO's graph of an export: its XML checked layer by layer, cut in two where the picture has become numbers, and run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from greffon import silence
from greffon.errors import ModelError
from greffon.server.exported import Export
from greffon.server.opened import PHOTO, PIXELS, Opened, check_properties, first_line, needs, outputs_of

__all__ = ["SETTINGS", "open_openvino"]

#: As ``greffon export`` compared the file with its model: OpenVINO would else compute in bfloat16 where the processor has it.
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}

#: Layers that go on as long as the data says, and those that remember what came before.
_REFUSED = ("Loop", "TensorIterator", "ReadValue", "Assign")
#: Bytes of an element, and NumPy's name for those that may not be finite.
_SIZES = {"f32": 4, "f16": 2, "f64": 8, "i8": 1, "u8": 1, "i16": 2, "u16": 2, "i32": 4, "u32": 4, "i64": 8, "u64": 8, "boolean": 1}
_FLOATS = {"f32": "<f4", "f16": "<f2", "f64": "<f8"}


def open_openvino(export: Export, *, threads: int) -> Opened:
    """OpenVINO on both halves, one photo at a time. Raises ModelError, or OptionError where it is not installed."""
    needs(export, {"openvino": "openvino"}, "serve,cpu")
    _check_layers(export)
    openvino: Any = silence.openvino()
    core = openvino.Core()
    try:
        model = core.read_model(export.graph, openvino.Tensor(np.frombuffer(export.weights, np.uint8)))
        _check_ends(model, export)
        photo, network = _halves(openvino, model, export)
        return Opened(_photo(core.compile_model(photo, "CPU", {**SETTINGS, "INFERENCE_NUM_THREADS": 1})),
                      _network(core.compile_model(network, "CPU", {**SETTINGS, "INFERENCE_NUM_THREADS": threads})))  # fmt: skip
    except ModelError:
        raise
    except Exception as error:  # OpenVINO raises kinds of its own
        raise ModelError(f"{export.file}: OpenVINO cannot load it ({first_line(error)})") from error


def _check_layers(export: Export) -> None:
    """The XML is plain, has OpenVINO's own layers alone, and constants that lie in the weights and are finite."""
    file = export.file
    try:
        # In another encoding, or with definitions of its own, it could be one thing here and another to OpenVINO.
        if b"<!" in export.graph or not export.graph.decode("utf-8").lstrip().startswith("<?xml"):
            raise ModelError(f"{file}: not OpenVINO's XML, or with definitions of its own")
        root = ElementTree.fromstring(export.graph)
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: not XML, or damaged ({first_line(error)})") from error
    for layer in root.iter("layer"):
        kind, version, name = (layer.get(key, "")[:80] for key in ("type", "version", "name"))
        if not re.fullmatch(r"opset\d{1,2}", version):
            raise ModelError(f"{file}: has the layer {kind!r} of {version!r}, which is not OpenVINO's")
        if kind in _REFUSED:
            raise ModelError(f"{file}: has the layer {kind}, which no network of greffon has")
        if kind == "Const":
            _check_constant(layer.find("data"), export.weights, name, file)


def _check_constant(data: Any, weights: bytes, name: str, file: Path) -> None:
    told = {} if data is None else data.attrib
    kind = told.get("element_type", "")
    if kind not in _SIZES:
        raise ModelError(f"{file}: {name!r} has elements of the kind {kind[:40]!r}, which no network of greffon has")
    try:
        shape = [int(side) for side in told.get("shape", "").split(",") if side.strip()]
        offset, size = int(told["offset"]), int(told["size"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"{file}: {name!r} does not say where it lies") from error
    if min(shape, default=0) < 0 or size != math.prod(shape) * _SIZES[kind]:
        raise ModelError(f"{file}: {name!r} has {size:,} bytes, and its shape {shape[:8]} of {kind} says otherwise")
    if offset < 0 or offset + size > len(weights):
        raise ModelError(f"{file}: {name!r} lies beyond the {len(weights):,} bytes of the weights")
    if kind in _FLOATS and not np.isfinite(np.frombuffer(weights, _FLOATS[kind], math.prod(shape), offset)).all():
        raise ModelError(f"{file}: {name!r} holds numbers that are not finite")


def _check_ends(model: Any, export: Export) -> None:
    file = export.file
    inputs = [(sorted(one.get_names()), one.get_element_type().get_type_name()) for one in model.inputs]
    if inputs != [([PHOTO], "u8")]:
        raise ModelError(f"{file}: takes {', '.join(str(names)[:40] for names, _ in inputs[:5]) or 'nothing'}; an export takes {PHOTO},"
                         " uint8, alone")  # fmt: skip
    given = {name for one in model.outputs for name in one.get_names()}
    missing = [name for name in outputs_of(export) if name not in given]
    if missing:
        raise ModelError(f"{file}: does not give {', '.join(missing)}, so it is not a network that greffon exported")
    try:
        told = json.loads(model.get_rt_info(["greffon"]).astype(str))
    except (RuntimeError, ValueError, RecursionError, AttributeError):  # RuntimeError: it has none
        told = None
    check_properties({key: json.dumps(value) for key, value in told.items()} if isinstance(told, dict) else {}, export)


def _halves(openvino: Any, model: Any, export: Export) -> tuple[Any, Any]:
    """The graph from the photo to ``PIXELS``, and from there to the outputs."""
    pre = export.preprocess
    places = [one for node in model.get_ordered_ops() for one in node.outputs() if PIXELS in one.get_names()]
    if len(places) != 1:
        raise ModelError(f"{export.file}: does not give {PIXELS}, so it is not a network that greffon exported",
                         hint="Of an older greffon? Export it anew.")  # fmt: skip
    taken = openvino.opset8.parameter([1, 3, pre.height, pre.width], np.float32, PIXELS)
    for target in places[0].get_target_inputs():
        target.replace_source_output(taken.output(0))
    wanted = outputs_of(export)
    results = [node for node in model.get_results() if wanted and set(wanted) & node.output(0).get_names()]
    network = openvino.Model(results, [taken], "network")
    return openvino.Model([openvino.opset8.result(places[0])], model.get_parameters(), "photo"), network


def _photo(compiled: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda given: np.array(compiled(given)[0])


def _network(compiled: Any) -> Callable[[np.ndarray, Sequence[str]], list[np.ndarray]]:
    request = compiled.create_infer_request()

    def run(pixels: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        found: list[list[np.ndarray]] = [[] for _ in names]
        for place in range(len(pixels)):
            request.infer([pixels[place : place + 1]])
            for rows, name in zip(found, names, strict=True):
                rows.append(np.array(request.get_tensor(name).data))
        return [np.concatenate(rows) for rows in found]

    return run
