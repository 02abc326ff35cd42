"""The trunk in fewer bits: int8, its ranges taken from photos, and whether float16 can hold it. The crown stays in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from greffon import silence
from greffon.activations.quantised import whole_ranges
from greffon.backbones import Backbone
from greffon.errors import BackboneError
from greffon.exporting.photo import PIXELS
from greffon.model import Model
from greffon.model.modules import Trunk

__all__ = ["largest_activation", "quantised_onnx"]


def quantised_onnx(trunk: Any, backbone: Backbone, pictures: np.ndarray) -> Any:
    """A trunk's ``onnx.ModelProto`` with pairs of QuantizeLinear and DequantizeLinear, as ``activations.quantise`` does it.

    Whole ranges, biases corrected layer by layer where NNCF can, and the first convolution in float32: see there. Depthwise ones stay
    in float32, too: a small part of the arithmetic, in which int8 loses most, and for which ONNX Runtime takes longer (docs/export.md).

    Parameters
    ----------
    pictures
        uint8 (n, height, width, 3), fitted.

    Raises
    ------
    OptionError
        NNCF is absent.
    BackboneError
        It cannot do it with this network.
    """
    nncf: Any = silence.nncf()
    samples = [{PIXELS: backbone.preprocess.normalise(picture[None])} for picture in pictures]
    convolutions = [node for node in trunk.graph.node if node.op_type == "Conv"]
    channels = {tensor.name: tensor.dims[1] for tensor in trunk.graph.initializer if len(tensor.dims) == 4}
    exact = [node.name for place, node in enumerate(convolutions) if place == 0 or (channels.get(node.input[1]) == 1 and _groups(node) > 1)]
    try:
        with silence.quiet():
            try:
                return _quantised(nncf, trunk, samples, exact, quick=False)
            except KeyError:  # NNCF 3.4 loses its way through graphs with branches while it corrects biases one by one
                return _quantised(nncf, trunk, samples, exact, quick=True)
    except Exception as error:  # NNCF and ONNX Runtime raise many kinds, some of their own
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise BackboneError(f"{backbone.name} cannot be quantised to int8 ({reason})", hint="Choose --precision float32.") from error


def _groups(node: Any) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _quantised(nncf: Any, trunk: Any, samples: list[dict[str, np.ndarray]], exact: list[str], *, quick: bool) -> Any:
    return nncf.quantize(
        trunk,
        nncf.Dataset(samples),
        subset_size=len(samples),
        fast_bias_correction=quick,
        target_device=nncf.TargetDevice.CPU,
        ignored_scope=nncf.IgnoredScope(names=exact),
        advanced_parameters=whole_ranges(),
    )


def largest_activation(model: Model, pictures: np.ndarray) -> float:
    """The largest number, whatever its sign, that a part of the trunk gives in float32.

    ``pictures`` are fitted: uint8 (n, height, width, 3).
    """
    largest = [0.0]

    def look(_: nn.Module, __: Any, given: Any) -> None:
        if isinstance(given, torch.Tensor):
            largest.append(float(given.abs().max()))

    trunk = Trunk(model)
    for part in trunk.modules():
        part.register_forward_hook(look)
    with torch.inference_mode():
        for picture in pictures:
            trunk(torch.from_numpy(model.backbone.preprocess.normalise(picture[None])))
    return max(largest)
