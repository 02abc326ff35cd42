"""Tables of renames: from the names and axes of other programs to timm's. Pure: tensors in, tensors out.

Names decide how a file is read, never shapes: a kernel of (3, 3, 3, 3) could be either way round.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

__all__ = ["rename_efficientnet"]

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
