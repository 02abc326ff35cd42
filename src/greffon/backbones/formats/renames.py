"""Tables of renames: from the names and axes of other programs to timm's. Pure: tensors in, tensors out.

Names decide how a file is read, never shapes: a kernel of (3, 3, 3, 3) could be either way round.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from greffon.errors import WeightsError

__all__ = ["rename_efficientnet", "rename_vgg"]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a program names and lays out the convolutions of a VGG.

    ``kernel`` and ``bias`` match the whole name of a tensor, with the convolution's name in the group ``layer``.
    ``axes`` is the order in which the kernel's axes are (out, in, h, w).
    """

    kernel: re.Pattern[str]
    bias: re.Pattern[str]
    axes: tuple[int, int, int, int]


_LAYER = r"(?:.+/)?(?P<layer>block\d+_conv\d+)"
_LAYOUTS = (
    # Keras: block1_conv1/block1_conv1_W_1:0 in the files of 2015, block1_conv1/block1_conv1/kernel:0 later;
    # (h, w, in, out).
    _Layout(
        kernel=re.compile(_LAYER + r"(?:_\d+)?/(?:(?P=layer)_W_1|kernel)(?::0)?"),
        bias=re.compile(_LAYER + r"(?:_\d+)?/(?:(?P=layer)_b_1|bias)(?::0)?"),
        axes=(3, 2, 0, 1),
    ),
    # ONNX, by tf2onnx: model/block1_conv1_1/convolution/ReadVariableOp:0; already (out, in, h, w).
    _Layout(
        kernel=re.compile(_LAYER + r"(?:_\d+)?/(?:convolution|Conv2D)/ReadVariableOp:0"),
        bias=re.compile(_LAYER + r"(?:_\d+)?/(?:Squeeze|BiasAdd/ReadVariableOp):0"),
        axes=(0, 1, 2, 3),
    ),
)

#: EfficientNet in the PyTorch port of 2019 (``efficientnet_pytorch``): modules outside the blocks, those of a first
#: block, which has no expansion, and those of all others. The port counts its blocks through all stages.
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def rename_vgg(found: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    """The convolutions of a VGG from Keras or ONNX; nothing else of the file is taken.

    Parameters
    ----------
    found
        The file's tensors.
    table
        Keras's name of each convolution (``block3_conv2``) and timm's (``features.12``).

    Returns
    -------
    Kernels (out, in, h, w) and biases in timm's names; empty where the file has no such names at all.

    Raises
    ------
    WeightsError
        The file holds the convolutions of another VGG, or one of them twice.
    """
    for layout in _LAYOUTS:
        kernels, biases = _matches(layout.kernel, found), _matches(layout.bias, found)
        if kernels:
            break
    else:
        return {}
    held = (("kernel", kernels), ("bias", biases))
    missing = [f"{layer} ({part})" for layer in table for part, tensors in held if layer not in tensors]
    unexpected = sorted((set(kernels) | set(biases)) - set(table))
    if missing or unexpected:
        lists = (("missing", missing), ("unexpected", unexpected))
        parts = [f"{word}: {', '.join(names)}" for word, names in lists if names]
        raise WeightsError(f"layers {'; '.join(parts)}")
    taken: dict[str, Tensor] = {}
    for layer, link in table.items():
        if kernels[layer].ndim != 4:
            raise WeightsError(f"the kernel of {layer} has {kernels[layer].ndim} axes, expected 4")
        taken[f"{link}.weight"] = kernels[layer].permute(layout.axes).contiguous()
        taken[f"{link}.bias"] = biases[layer]
    return taken


def _matches(pattern: re.Pattern[str], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names match, by the name of their convolution."""
    taken: dict[str, Tensor] = {}
    for key, tensor in found.items():
        match = pattern.fullmatch(key)
        if match is None:
            continue
        if match["layer"] in taken:
            raise WeightsError(f"the file holds {match['layer']} twice, the second time as {key}")
        taken[match["layer"]] = tensor
    return taken


def rename_efficientnet(found: Mapping[str, Tensor], blocks: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of an EfficientNet from the port of 2019 in timm's names; names that are not in the tables stay.

    Parameters
    ----------
    found
        The file's tensors.
    blocks
        timm's blocks from the image upwards (``blocks.0.0``, ``blocks.1.0``, ``blocks.1.1``, ...).
    """
    taken: dict[str, Tensor] = {}
    for key, tensor in found.items():
        module, _, name = key.rpartition(".")
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module)
        if block is not None and int(block[1]) < len(blocks):
            expanded = f"_blocks.{block[1]}._expand_conv.weight" in found
            inner = (_EXPANDED if expanded else _PLAIN).get(block[2], block[2])
            key = f"{blocks[int(block[1])]}.{inner}.{name}"
        elif module in _OUTSIDE:
            key = f"{_OUTSIDE[module]}.{name}"
        taken[key] = tensor
    return taken
