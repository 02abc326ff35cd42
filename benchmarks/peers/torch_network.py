"""torchvision's VGG16 with the job's tensors, and photos as its pipelines read them. Shared by the torch peers.

The VGG team's weights want BGR from 0 to 255, minus a mean. A torch pipeline gives RGB from 0 to 1 and normalises:
so the input channels of the first kernels are turned round, and mean and deviation are given in its units. The same
arithmetic, at no cost in the peer's loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import models, transforms

__all__ = ["BLOCK5", "MEAN", "STD", "Files", "layout", "plain", "varied", "vgg16"]

#: RGB, of values from 0 to 1.
MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
STD = (1 / 255, 1 / 255, 1 / 255)
#: Where block5 begins in ``features``.
BLOCK5 = 24


def vgg16(weights: Mapping[str, np.ndarray]) -> models.VGG:
    """The whole network; its dense layers hold no trained values, and are dropped by whoever calls this."""
    with torch.device("meta"):
        network = models.vgg16()
    tensors = {name.removeprefix("features."): torch.from_numpy(values) for name, values in weights.items()}
    tensors["0.weight"] = tensors["0.weight"].flip(1).contiguous()
    network.features.load_state_dict(tensors, assign=True)
    for parameter in network.features.parameters():
        parameter.requires_grad_(True)
    return network


def plain(size: int = 224) -> transforms.Compose:
    """The transforms of the PyTorch tutorial's evaluation."""
    return transforms.Compose(
        [
            transforms.Resize(size * 256 // 224),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def varied(size: int = 224) -> transforms.Compose:
    """The transforms of the PyTorch tutorial's training."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


@final
class Files(Dataset[tuple[Tensor, int]]):
    """Photos from disk, as ``torchvision.datasets.ImageFolder`` gives them."""

    def __init__(self, paths: Sequence[str], labels: np.ndarray, transform: transforms.Compose) -> None:
        self.paths = paths
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as image:
            pixels: Tensor = self.transform(image.convert("RGB"))  # type: ignore[assignment]  # its stubs have an Image come out
            return pixels, int(self.labels[index])


def layout(module: nn.Module, name: str) -> nn.Module:
    """A module in the layout of this name, ``"nchw"`` or ``"channels_last"``."""
    return module.to(memory_format=torch.channels_last) if name == "channels_last" else module
