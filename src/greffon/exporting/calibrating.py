"""int8: the trunk's weights and activations, their ranges taken from photos. The crown stays in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from greffon.activations import silence
from greffon.activations.quantised import whole_ranges
from greffon.backbones import Backbone
from greffon.errors import BackboneError
from greffon.exporting.photo import PIXELS

__all__ = ["quantised_onnx"]


def quantised_onnx(trunk: Any, backbone: Backbone, pictures: np.ndarray) -> Any:
    """A trunk's ``onnx.ModelProto`` with pairs of QuantizeLinear and DequantizeLinear, as ``activations.quantise`` does it.

    Whole ranges, biases corrected layer by layer, and the first convolution in float32: see there.

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
    first = [node.name for node in trunk.graph.node if node.op_type == "Conv"][:1]
    try:
        with silence.quiet():
            return nncf.quantize(
                trunk,
                nncf.Dataset(samples),
                subset_size=len(samples),
                fast_bias_correction=False,
                target_device=nncf.TargetDevice.CPU,
                ignored_scope=nncf.IgnoredScope(names=first),
                advanced_parameters=whole_ranges(),
            )
    except Exception as error:  # NNCF and ONNX Runtime raise many kinds, some of their own
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise BackboneError(f"{backbone.name} cannot be quantised to int8 ({reason})", hint="Choose --precision float32.") from error
