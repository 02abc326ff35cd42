"""A small network with drawn weights, for tests of the frozen pass."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import timm
import torch

from greffon.backbones import Backbone, blueprint, entry, resized

__all__ = ["network"]


@cache
def network(size: int = 64, channels: str = "rgb", seed: int = 0) -> Backbone:
    """timm's test_resnet with weights drawn from a seed, its batch statistics included, for images of one size."""
    row = resized(entry("test_resnet.r160_in1k"), size)
    row = replace(row, preprocess=replace(row.preprocess, channels=channels))
    torch.manual_seed(seed)
    tensors = timm.create_model("test_resnet", pretrained=False).state_dict()
    for name, tensor in tensors.items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
    return Backbone(blueprint(row), tensors)
