"""OpenVINO's own format: the ONNX graph converted, or, in int8, NNCF's graph with the photo below and the crown above it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from greffon import silence
from greffon.activations import QuantisedGraph
from greffon.activations.quantised import whole_ranges
from greffon.errors import BackboneError
from greffon.exporting.graph import (
    crown_graph,
    grown_graph,
    photo_graph,
    pooled_crown_graph,
    trunk_graph,
    upper_trunk_graph,
)
from greffon.model import Model

__all__ = ["write_openvino"]


def write_openvino(
    model: Model, file: Path, *, precision: str, maps: bool, pictures: np.ndarray, properties: Mapping[str, Any]
) -> None:
    """Write ``file``, an ``.xml``, and the ``.bin`` beside it; it takes one photo at a time.

    In float16 the weights are kept in that; what OpenVINO computes in is told when the file is opened.

    Raises
    ------
    BackboneError
        The network cannot be written so.
    """
    openvino: Any = silence.openvino()
    try:
        with silence.quiet():
            if precision != "int8":
                whole = grown_graph(model.backbone.preprocess, [trunk_graph(model), crown_graph(model, maps=maps)], {})
                found = _converted(openvino, whole, file)
            elif model.quantised is not None:
                found = _on_carried(openvino, model, model.quantised, file)
            else:
                found = _on_quantised(openvino, model, pictures, file, maps=maps)
            # Of one photo at a time: with any number, OpenVINO 2026.4 gives wrong int8 results after each change of the number,
            # and half the speed (docs/export.md).
            found.reshape({found.inputs[0]: openvino.PartialShape([1, -1, -1, 3])})
            found.set_rt_info(json.dumps(properties, ensure_ascii=False), ["greffon"])
            openvino.save_model(found, str(file), compress_to_fp16=precision == "float16")
    except BackboneError:
        raise
    except Exception as error:  # OpenVINO and NNCF raise many kinds, some of their own
        reason = (str(error) or type(error).__name__).strip().splitlines()[0][:160]
        raise BackboneError(f"{model.backbone.name} cannot be written for OpenVINO in {precision} ({reason})") from error


def _converted(openvino: Any, proto: Any, file: Path) -> Any:
    """An ONNX graph as OpenVINO's; it reads files."""
    part = file.with_suffix(".onnx")
    part.write_bytes(proto.SerializeToString())
    try:
        return openvino.Core().read_model(str(part))
    finally:
        part.unlink()


def _on_carried(openvino: Any, model: Model, graph: QuantisedGraph, file: Path) -> Any:
    """The graph that the head was trained on, bit for bit, but for one photo at a time."""
    trunk = openvino.Core().read_model(graph.xml, openvino.Tensor(np.frombuffer(graph.weights, np.uint8)))
    trunk.reshape([1, *graph.shape[1:]])
    parts = [_converted(openvino, photo_graph(model.backbone.preprocess), file), trunk]
    if graph.tap.kind == "pooled":
        parts.append(_converted(openvino, pooled_crown_graph(model), file))
    else:
        parts.append(_converted(openvino, upper_trunk_graph(model, model.keep or "bfloat16"), file))
        parts.append(_converted(openvino, crown_graph(model, maps=False), file))
    return _joined(openvino, parts)


def _on_quantised(openvino: Any, model: Model, pictures: np.ndarray, file: Path, *, maps: bool) -> Any:
    """The whole trunk in int8, as ``quantised_onnx`` does it, with weights of seven bits.

    A processor without VNNI adds two products of eight bits in sixteen, and what does not fit is cut off without a word: a file that is
    right on one machine would be wrong on another.
    """
    nncf: Any = silence.nncf()
    trunk = _converted(openvino, trunk_graph(model), file)
    nodes = trunk.get_ordered_ops()
    exact = [node.get_friendly_name() for node in nodes if node.get_type_name() == "Convolution"][:1]
    exact += [node.get_friendly_name() for node in nodes
              if node.get_type_name() == "GroupConvolution" and node.input_value(1).get_partial_shape()[2] == 1]  # fmt: skip
    samples = [model.backbone.preprocess.normalise(picture[None]) for picture in pictures]
    quantised = nncf.quantize(
        trunk,
        nncf.Dataset(samples),
        subset_size=len(samples),
        fast_bias_correction=False,
        target_device=nncf.TargetDevice.CPU,
        ignored_scope=nncf.IgnoredScope(names=exact),
        advanced_parameters=replace(whole_ranges(), overflow_fix=nncf.OverflowFix.ENABLE),
    )
    photo = _converted(openvino, photo_graph(model.backbone.preprocess), file)
    return _joined(openvino, [photo, quantised, _converted(openvino, crown_graph(model, maps=maps), file)])


def _joined(openvino: Any, parts: list[Any]) -> Any:
    """Each graph on the one before it: its inputs become the outputs of that, in their order."""
    for lower, upper in itertools.pairwise(parts):
        for place, taken in enumerate(upper.inputs):
            given = lower.outputs[place].get_node().input_value(0)
            for target in taken.get_target_inputs():
                target.replace_source_output(given)
    return openvino.Model(parts[-1].get_results(), parts[0].get_parameters(), "greffon")
