"""The ONNX graph of an export: checked node by node, cut in two where the picture has become numbers, and run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.errors import ModelError
from greffon.server.exported import Export
from greffon.server.opened import PHOTO, PIXELS, Opened, check_properties, first_line, needs, outputs_of

__all__ = ["Halves", "halves", "open_onnx"]

#: Operators that go on as long as the data says.
_ENDLESS = ("Loop", "Scan", "SequenceMap")
#: ONNX's numbers of element types: bytes of one, and NumPy's name for those that may not be finite.
_SIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_FLOATS = {1: "<f4", 10: "<f2", 11: "<f8"}


@final
@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """An exported graph in two, each a whole ONNX file.

    Parameters
    ----------
    photo
        ``PHOTO`` to ``PIXELS``.
    network
        ``PIXELS`` to the outputs that are ever asked for.
    """

    photo: bytes
    network: bytes


def open_onnx(export: Export, *, threads: int) -> Opened:
    """ONNX Runtime on both halves. Raises ModelError, or OptionError where it is not installed."""
    needs(export, {"onnx": "onnx", "onnxruntime": "onnxruntime"}, "serve")
    parts = halves(export)
    photo, network = _session(parts.photo, export.file, 1), _session(parts.network, export.file, threads)
    return Opened(lambda given: photo.run([PIXELS], {PHOTO: given})[0], lambda pixels, names: network.run(list(names), {PIXELS: pixels}))


def _session(content: bytes, file: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait do so asleep: the processor is needed for the next photos.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises kinds of its own
        raise ModelError(f"{file}: ONNX Runtime cannot load it ({first_line(error)})") from error


def halves(export: Export) -> Halves:
    """Check the graph of an export and cut it at ``PIXELS``. Raises ModelError with the fault."""
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    file = export.file
    model = ModelProto()
    try:
        model.ParseFromString(export.graph)
    except (DecodeError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: not an ONNX file, or damaged") from error
    _check_nodes(model, file)
    _check_tensors(model, file)
    check_properties({one.key: one.value for one in model.metadata_props}, export)
    outputs = outputs_of(export)
    _check_ends(model.graph, outputs, file)
    pre = export.preprocess
    photo = _part(model, _between(model.graph, (PHOTO,), (PIXELS,)))
    photo.graph.input.append(_value(PHOTO, 2, ["n", "h", "w", 3]))
    photo.graph.output.append(_value(PIXELS, 1, ["n", 3, pre.height, pre.width]))
    network = _part(model, _between(model.graph, (PIXELS,), outputs))
    network.graph.input.append(_value(PIXELS, 1, ["n", 3, pre.height, pre.width]))
    network.graph.output.extend(one for one in model.graph.output if one.name in outputs)
    return Halves(photo.SerializeToString(), network.SerializeToString())


def _value(name: str, kind: int, shape: Sequence[str | int]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, kind, shape)


def _graphs(nodes: Iterable[Any]) -> Iterator[Any]:
    """The graphs inside the attributes of nodes, however deep."""
    for node in nodes:
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield graph
                yield from _graphs(graph.node)


def _all_nodes(model: Any) -> Iterator[Any]:
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        yield from nodes
        for graph in _graphs(nodes):
            yield from graph.node


def _check_nodes(model: Any, file: Path) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for node in _all_nodes(model):
        if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in own:
            raise ModelError(f"{file}: has the operator {node.op_type[:40]!r} of {node.domain[:40]!r}, which is not ONNX's")
        if node.op_type in _ENDLESS:
            raise ModelError(f"{file}: has the operator {node.op_type}, which no network of greffon has")


def _all_tensors(model: Any) -> Iterator[Any]:
    for graph in (model.graph, *_graphs(node for node in _all_nodes(model))):
        yield from graph.initializer
    for node in _all_nodes(model):
        for attribute in node.attribute:
            yield from ([attribute.t] if attribute.HasField("t") else [])
            yield from attribute.tensors


def _check_tensors(model: Any, file: Path) -> None:
    if model.graph.sparse_initializer:
        raise ModelError(f"{file}: has sparse weights, which no network of greffon has")
    for tensor in _all_tensors(model):
        name = tensor.name[:80]
        if tensor.data_location == 1 or tensor.external_data:
            raise ModelError(f"{file}: keeps {name!r} in another file, which is not read")
        if tensor.data_type not in _SIZES:
            raise ModelError(f"{file}: {name!r} has elements of the kind {tensor.data_type}, which no network of greffon has")
        if any(side < 0 for side in tensor.dims):
            raise ModelError(f"{file}: {name!r} has the shape {list(tensor.dims)[:8]}")
        told, raw = math.prod(tensor.dims), tensor.raw_data  # each look at it is a copy
        if raw:
            found = len(raw) / _SIZES[tensor.data_type]
        else:
            found = max(len(tensor.float_data), len(tensor.int32_data), len(tensor.int64_data), len(tensor.double_data),
                        len(tensor.uint64_data))  # fmt: skip
        if found != told:
            raise ModelError(f"{file}: {name!r} has {found:,.0f} elements, and its shape {list(tensor.dims)[:8]} says {told:,}")
        _check_finite(tensor, raw, name, file)


def _check_finite(tensor: Any, raw: bytes, name: str, file: Path) -> None:
    if tensor.data_type in _FLOATS and raw:
        values: Any = np.frombuffer(raw, _FLOATS[tensor.data_type])
    elif tensor.data_type in (1, 11):
        values = np.asarray(tensor.float_data if tensor.data_type == 1 else tensor.double_data)
    elif tensor.data_type == 10:
        values = np.asarray(tensor.int32_data, np.int64).astype(np.uint16).view(np.float16)
    else:
        return
    if not np.isfinite(values).all():
        raise ModelError(f"{file}: {name!r} holds numbers that are not finite")


def _check_ends(graph: Any, outputs: Sequence[str], file: Path) -> None:
    inputs = [(one.name, one.type.tensor_type.elem_type) for one in graph.input]
    if inputs != [(PHOTO, 2)]:
        names = ", ".join(name[:40] for name, _ in inputs[:5]) or "nothing"
        raise ModelError(f"{file}: takes {names}; an export takes {PHOTO}, uint8, alone")
    given = {one.name for one in graph.output}
    made = {name for node in graph.node for name in node.output}
    missing = [name for name in (*outputs, PIXELS) if name not in made or (name != PIXELS and name not in given)]
    if missing:
        raise ModelError(f"{file}: does not give {', '.join(missing)}, so it is not a network that greffon exported")


def _between(graph: Any, start: Sequence[str], ends: Sequence[str]) -> tuple[list[Any], set[str]]:
    """The nodes between values of these names, in their order, and the names of all that they read."""
    needed, kept = set(ends), []
    for node in reversed(graph.node):
        if needed.intersection(node.output).difference(start):
            kept.append(node)
            needed |= {name for name in node.input if name}
            for inner in _graphs([node]):
                needed |= {name for one in inner.node for name in one.input if name} | {one.name for one in inner.output}
    return kept[::-1], needed


def _part(model: Any, found: tuple[list[Any], set[str]]) -> Any:
    """These nodes of a model as one of their own, without inputs and outputs yet."""
    from onnx import ModelProto

    nodes, needed = found
    part = ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = model.graph.name
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(one for one in model.graph.initializer if one.name in needed)
    return part
