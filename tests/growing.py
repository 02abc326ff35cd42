"""Small networks with drawn weights, and drawn activations to train them on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import final

import numpy as np
import timm
import torch
from torch import Tensor

from greffon.backbones import Backbone, blueprint, entry, resized
from greffon.heads import Representation
from greffon.training import Grown, Recipe, Samples
from greffon.transfer.inductive import Start, grown_on, prepare, record_shape

__all__ = ["ARCHITECTURES", "Held", "drawn_network", "grown", "held", "started"]

#: Of timm's families, small ones: BatchNorm, squeeze and excite, LayerNorm; and plain convolutions with ReLU in place.
ARCHITECTURES = ("test_resnet", "test_efficientnet", "test_byobnet", "test_convnext", "vgg11")


@cache
def drawn_network(architecture: str = "test_resnet", size: int = 32, seed: int = 0) -> Backbone:
    """One of timm's small networks, weights and batch statistics drawn from a seed."""
    row = replace(resized(entry("test_resnet"), size), name=architecture, architecture=architecture)
    plan = blueprint(row)
    torch.manual_seed(seed)
    if architecture.startswith("test_"):
        tensors = timm.create_model(architecture, pretrained=False).state_dict()
    else:  # without the millions of weights of its classifier
        shapes = plan.model.state_dict()
        tensors = {name: torch.empty(shapes[name].shape) for name in plan.trunk_keys()}
        for tensor in tensors.values():
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5) if tensor.ndim > 1 else tensor.zero_()
    tensors = {name: tensors[name] for name in plan.trunk_keys()}
    for name, tensor in tensors.items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
    return Backbone(plan, tensors)


@final
class Held:
    """Activations in memory, float32 (views, n, c, h, w): a source as training wants one."""

    def __init__(self, maps: np.ndarray) -> None:
        self.maps = maps
        self.views = len(maps)
        self.asked: list[tuple[np.ndarray, np.ndarray]] = []

    def batch(self, positions: np.ndarray, views: np.ndarray) -> Tensor:
        self.asked.append((positions, views))
        return torch.from_numpy(self.maps[views, positions]).contiguous(memory_format=torch.channels_last)


def held(network: Backbone, cut: str, n: int = 24, views: int = 2, classes: int = 3, seed: int = 0) -> tuple[Held, Samples, Samples]:
    """Activations whose classes can be learned: to train on, and a third as many to validate on."""
    rng = np.random.default_rng(seed)
    shape = record_shape(network, cut)
    c, h, w = shape if network.position(cut) else (3, *shape[:2])
    count = n + n // 3
    labels = (np.arange(count) % classes).astype(np.int64)
    centres = rng.normal(size=(classes, c, 1, 1)) * 1.5
    maps = centres[labels][None] + rng.normal(size=(views, count, c, h, w))
    source = Held(maps.astype(np.float32))
    return source, Samples(np.arange(n), labels[:n]), Samples(np.arange(n, count), labels[n:])


def started(network: Backbone, cut: str, source: Held, train: Samples, representation: Representation | None = None) -> Start:
    """Where fine-tuning begins, for three classes."""
    return prepare(network, cut, source, train, 3, representation or Representation())


def grown(network: Backbone, cut: str, recipe: Recipe | None = None, representation: Representation | None = None) -> Grown:
    """Stages and a head of three classes over plain features."""
    source, train, _ = held(network, cut)
    return grown_on(network, started(network, cut, source, train, representation), recipe or Recipe())


