"""One ONNX graph out of three: the photo's, the trunk's and the crown's. Each gives what the next one takes, by name."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from greffon.backbones import stage_shapes
from greffon.errors import BackboneError, OptionError
from greffon.exporting.photo import OPSET, PHOTO, PIXELS, photo_nodes
from greffon.images import Preprocess
from greffon.model import Model
from greffon.model.modules import Crown, PooledCrown, Trunk, taken_stages

__all__ = [
    "CUT",
    "OUTPUTS",
    "crown_graph",
    "grown_graph",
    "has_exporter",
    "photo_graph",
    "pooled_crown_graph",
    "quiet",
    "trunk_graph",
    "upper_trunk_graph",
]

#: What a graph gives; the maps only where ``has_maps``.
OUTPUTS = ("probabilities", "features", "maps")
#: What the frozen part of a model gives to the part above it.
CUT = "cut"
#: The version of the file's layout: of ONNX 1.14, so that older engines read it.
_IR = 9


def has_exporter() -> None:
    """Raises OptionError where a package of the extra is missing."""
    import importlib.util

    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise OptionError(f"export needs {', '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed",
                          hint='Install what it needs: pip install "greffon[export]".')  # fmt: skip


def trunk_graph(model: Model, *, half: bool = False) -> Any:
    """The stages as an ``onnx.ModelProto``: ``PIXELS`` to ``stage.0``, ``stage.1``, …; with ``half`` in float16 inside."""
    pre = model.backbone.preprocess
    trunk = Trunk(model, torch.float16 if half else torch.float32)
    example = torch.zeros(2, 3, pre.height, pre.width)
    return _exported(model, trunk, (example,), [PIXELS], _stage_names(model), "trunk.", ({0: _some()},))


def upper_trunk_graph(model: Model, keep: str) -> Any:
    """The stages above the cut: ``CUT``, rounded to ``keep``, to ``stage.0``, …"""
    start = model.backbone.position(model.cut)
    example = torch.rand(2, *stage_shapes(model.backbone.plan)[start - 1][1])
    trunk = Trunk(model, start=start, keep=keep)
    return _exported(model, trunk, (example,), [CUT], _stage_names(model), "trunk.", ({0: _some()},))


def pooled_crown_graph(model: Model) -> Any:
    """The rest on a pooled record: ``CUT`` to probabilities and features."""
    example = torch.rand(2, 2 * sum(model.backbone.widths()))
    return _exported(model, PooledCrown(model), (example,), [CUT], OUTPUTS[:-1], "crown.", ({0: _some()},))


def photo_graph(preprocess: Preprocess) -> Any:
    """``PHOTO`` to ``PIXELS`` as an ``onnx.ModelProto``."""
    from onnx import TensorProto, helper

    nodes, arrays = photo_nodes(preprocess)
    photo = helper.make_tensor_value_info(PHOTO, TensorProto.UINT8, ["n", "h", "w", 3])
    pixels = helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, ["n", 3, preprocess.height, preprocess.width])
    graph = helper.make_graph(nodes, "photo", [photo], [pixels], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR)


def crown_graph(model: Model, *, maps: bool) -> Any:
    """The rest as an ``onnx.ModelProto``: ``stage.0``, … to ``OUTPUTS``."""
    shapes = [stage_shapes(model.backbone.plan)[number][1] for number in taken_stages(model)]
    examples = [torch.rand(2, *shape) for shape in shapes]
    outputs = OUTPUTS if maps else OUTPUTS[:-1]
    return _exported(model, Crown(model, maps=maps), (examples,), _stage_names(model), outputs, "crown.", ([{0: _some()}] * len(shapes),))


def _some() -> Any:
    return torch.export.Dim("n", min=1, max=65536)


def _stage_names(model: Model) -> list[str]:
    return [f"stage.{place}" for place in range(len(taken_stages(model)))]


def _exported(
    model: Model, module: nn.Module, example: tuple[Any, ...], inputs: Sequence[str], outputs: Sequence[str], prefix: str, sizes: Any
) -> Any:
    from onnx import compose

    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                module, example, dynamo=True, input_names=list(inputs), output_names=list(outputs), opset_version=OPSET,
                dynamic_shapes=sizes, verbose=False,
            )  # fmt: skip
            assert program is not None
            found = program.model_proto
    except Exception as error:  # torch and onnxscript raise many kinds, some of their own
        reason = (str(error) or type(error).__name__).strip().splitlines()[0][:160]
        raise BackboneError(f"{model.backbone.name} cannot be written as an ONNX graph ({reason})") from error
    return compose.add_prefix(found, prefix, rename_inputs=False, rename_outputs=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter's steps and the remarks of its parts are not the user's."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def grown_graph(preprocess: Preprocess, parts: Sequence[Any], properties: Mapping[str, Any]) -> Any:
    """From ``PHOTO``, uint8 (n, h, w, 3), to the outputs of the last of ``parts``, as an ``onnx.ModelProto``.

    Parameters
    ----------
    parts
        Graphs, the first of which takes ``PIXELS``, and each other one what the one before it gives.
    properties
        Kept in the file as JSON, name by name.
    """
    from onnx import TensorProto, checker, helper

    nodes, arrays = photo_nodes(preprocess)
    functions: list[Any] = []
    domains = {"": OPSET}
    for part in parts:
        nodes += part.graph.node
        arrays += part.graph.initializer
        functions += part.functions
        domains |= {one.domain: max(one.version, domains.get(one.domain, 0)) for one in part.opset_import}
    photo = helper.make_tensor_value_info(PHOTO, TensorProto.UINT8, ["n", "h", "w", 3])
    graph = helper.make_graph(nodes, "greffon", [photo], list(parts[-1].graph.output), arrays)
    opsets = [helper.make_opsetid(name, number) for name, number in domains.items()]
    whole = helper.make_model(graph, opset_imports=opsets, functions=functions, producer_name="greffon")
    whole.ir_version = max(_IR, *(part.ir_version for part in parts))
    helper.set_model_props(whole, {name: json.dumps(value, ensure_ascii=False) for name, value in properties.items()})
    checker.check_model(whole)
    return whole
