"""A backbone as a table and as a drawing. No weights are needed: the network runs on the meta device, shapes only.

One run tells everything. Multiply-adds are counted by torch's own counter. Receptive fields follow every operation
that the run performs, so that branches, asymmetric padding and residual sums come out exactly, and where an operation
sees the whole image (squeeze-and-excitation) or is not understood, the answer is "none" and not a guess.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from greffon.backbones.network import Blueprint, blueprint
from greffon.backbones.receptive import Sight
from greffon.errors import BackboneError
from greffon.images import Preprocess

__all__ = ["Description", "StageRow", "describe_plan"]


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage.

    Parameters
    ----------
    name
        As ``--unfreeze`` has it.
    layers
        In the notation of the VGG paper, without activations and normalisation: ``conv3-64`` is a 3 × 3 convolution
        to 64 channels, ``conv7-64/2`` one of stride 2, ``dwconv`` a depthwise one, ``maxpool`` a 2 × 2 pooling of
        stride 2. A module with branches is its class and its channels: ``Bottleneck-256``.
    shape
        Of the output for one image: (c, h, w).
    parameters
        Trained numbers in the stage.
    multiply_adds
        Of its convolutions and matrix products, for one image.
    receptive_field
        The side, in pixels, of the smallest square that holds all pixels that one position of the output depends
        on, far from the borders. None where that is the whole image, or not known.
    stride
        How many pixels lie between two neighbouring positions of the output. None where it is not known.
    """

    name: str
    layers: tuple[str, ...]
    shape: tuple[int, int, int]
    parameters: int
    multiply_adds: int
    receptive_field: int | None
    stride: int | None


@dataclass(frozen=True, slots=True)
class Description:
    """A backbone: its stages from the image upwards, and what is known of its weights.

    ``input`` is the shape (3, h, w) that everything was counted for; ``total_multiply_adds`` are those of the stages,
    ``total_parameters`` those of the stages and of the ImageNet classifier; ``preprocess`` is the catalogue's.
    """

    name: str
    architecture: str
    input: tuple[int, int, int]
    stages: tuple[StageRow, ...]
    classifier_parameters: int
    total_parameters: int
    total_multiply_adds: int
    weights_of: str
    licence: str
    preprocess: Preprocess


def describe_plan(plan: Blueprint, height: int = 0, width: int = 0) -> Description:
    """Describe a network for images of one size in pixels (the catalogue's, if 0).

    Raises
    ------
    BackboneError
        The images are too small for the network.
    """
    row = plan.entry
    if not all(tensor.is_meta for tensor in plan.model.parameters()):
        plan = blueprint(row)  # The network that came may hold somebody's weights, which must not be moved.
    model = plan.model.to("meta")
    height, width = height or row.preprocess.height, width or row.preprocess.width
    sizes = {key: tensor.numel() for key, tensor in model.named_parameters()}
    stages: list[StageRow] = []
    try:
        x = torch.empty(1, 3, height, width, device="meta")
        with torch.no_grad(), Sight(x) as sight, FlopCounterMode(display=False) as counter:
            for stage in plan.stages:
                before = counter.get_total_flops()
                layers: list[str] = []
                for link in stage.links:
                    x = model.get_submodule(link)(x)
                    layers += _layers(model.get_submodule(link), int(x.shape[1]))
                prefixes = tuple(f"{link}." for link in stage.links)
                field_of_view, stride = sight.square(x)
                stages.append(
                    StageRow(
                        name=stage.name,
                        layers=tuple(layers),
                        shape=(int(x.shape[1]), int(x.shape[2]), int(x.shape[3])),
                        parameters=sum(count for key, count in sizes.items() if key.startswith(prefixes)),
                        multiply_adds=(counter.get_total_flops() - before) // 2,  # A multiply-add is two operations.
                        receptive_field=field_of_view,
                        stride=stride,
                    )
                )
    except RuntimeError as error:  # torch: the input of some convolution or pooling is smaller than its kernel
        trained_with = f"It was trained with {row.preprocess.height} × {row.preprocess.width}."
        raise BackboneError(f"{row.name} cannot take images of {height} × {width} pixels", hint=trained_with) from error
    trunk, everything = sum(stage.parameters for stage in stages), sum(sizes.values())
    return Description(
        name=row.name,
        architecture=row.architecture,
        input=(3, height, width),
        stages=tuple(stages),
        classifier_parameters=everything - trunk,
        total_parameters=everything,
        total_multiply_adds=sum(stage.multiply_adds for stage in stages),
        weights_of=row.weights_of,
        licence=row.licence,
        preprocess=row.preprocess,
    )


def _layers(link: nn.Module, channels: int) -> list[str]:
    """The names of a link's layers: none for an activation or a normalisation."""
    if isinstance(link, nn.MaxPool2d | nn.AvgPool2d):
        kernel, stride = (side[0] if isinstance(side, tuple) else side for side in (link.kernel_size, link.stride))
        name = "maxpool" if isinstance(link, nn.MaxPool2d) else "avgpool"
        return [name if (kernel, stride) == (2, 2) else f"{name}{kernel}/{stride}"]
    blocks = getattr(link, "blocks", None)
    if isinstance(blocks, nn.Sequential | nn.ModuleList):  # timm's name for the blocks of a whole stage
        return [f"{type(block).__name__}-{channels}" for block in blocks]
    convolutions = [part for part in link.modules() if isinstance(part, nn.Conv2d)]
    if len(convolutions) != 1:
        return [f"{type(link).__name__}-{channels}"] if convolutions else []
    one = convolutions[0]
    depthwise = "dw" if one.groups == one.in_channels > 1 else ""
    kernel = str(one.kernel_size[0]) if len(set(one.kernel_size)) == 1 else "x".join(map(str, one.kernel_size))
    return [f"{depthwise}conv{kernel}-{one.out_channels}" + (f"/{one.stride[0]}" if one.stride[0] > 1 else "")]
