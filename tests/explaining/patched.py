"""Drawn images whose class is the colour of one square on grey noise, and a model that tells it, by a network made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from greffon.activations import Tap, compute, make_engine
from greffon.backbones import Backbone, blueprint
from greffon.heads import LinearHead, Normaliser, Representation, fit_head
from greffon.model import Model
from greffon.progress import Silent
from growing import drawn_network

__all__ = ["CLASSES", "COLOURS", "SIDE", "SQUARE", "learned", "patched", "places", "seeing", "shaken", "with_network"]

#: Pixels of an image, and of the square on it.
SIDE, SQUARE = 160, 20
COLOURS = {"red": (235, 40, 40), "green": (40, 220, 60), "blue": (50, 60, 240)}
CLASSES = (*COLOURS, "nothing")


def patched(seed: int, colour: str, top: int, left: int) -> np.ndarray:
    """uint8 (SIDE, SIDE, 3)."""
    rng = np.random.default_rng(seed)
    image = 118 + rng.integers(-50, 51) + rng.integers(-25, 26, (SIDE, SIDE, 1)) + rng.integers(-4, 5, (SIDE, SIDE, 3))
    if colour in COLOURS:
        image[top : top + SQUARE, left : left + SQUARE] = COLOURS[colour]
    return image.clip(0, 255).astype(np.uint8)


def places(seed: int, count: int, classes: Sequence[str] = CLASSES) -> list[tuple[str, int, int]]:
    """The classes in turn, and where the square stands: top and left."""
    rng = np.random.default_rng(seed)
    return [(classes[i % len(classes)], int(rng.integers(0, SIDE - SQUARE)), int(rng.integers(0, SIDE - SQUARE))) for i in range(count)]


@cache
def seeing() -> Backbone:
    """A small ResNet whose first channels are how red, green, blue and bright a place is, from below to the last stage; the others are 0.

    The first convolution tells the colours, the others and the shortcuts hand them on, and the branches give nothing.
    """
    network = drawn_network("test_resnet", SIDE)
    mean, std = torch.tensor(network.preprocess.mean), torch.tensor(network.preprocess.std)
    # One colour less the mean of the two others; all three.
    coefficients = torch.cat([1.5 * torch.eye(3) - 0.5, torch.full((1, 3), 0.1)])
    tensors = {name: torch.zeros_like(tensor) for name, tensor in network.tensors().items()}
    for name, tensor in tensors.items():
        if name.endswith("running_var"):
            tensor.fill_(1)
        elif name == "conv1.0.weight":
            tensor[:4, :, 1, 1] = coefficients * std
        elif tensor.ndim == 4 and (name.startswith("conv1.") or ".downsample." in name):
            middle = tensor.shape[2] // 2
            tensor[:4, :4, middle, middle] = torch.eye(4)
        elif name.endswith(".weight") and tensor.ndim == 1 and (name.startswith(("conv1.", "bn1.")) or ".downsample." in name):
            tensor[:4] = 1
        elif name == "conv1.1.bias":
            tensor[:4] = coefficients @ mean - torch.tensor([0.15, 0.15, 0.15, 0])
    return Backbone(blueprint(network.plan.entry), tensors)


def shaken(network: Backbone, much: float) -> Backbone:
    """The network with a little noise on every weight."""
    generator = torch.Generator().manual_seed(0)
    tensors = {name: tensor * (1 + much * torch.randn(tensor.shape, generator=generator)) if tensor.is_floating_point() else tensor
               for name, tensor in network.tensors().items()}  # fmt: skip
    return Backbone(blueprint(network.plan.entry), tensors)


@cache
def learned(head: str = "logistic", norm: str = "standard", pool: str = "mean") -> Model:
    """A head on that network, fitted on 60 images."""
    network = seeing()
    representation = Representation("last", pool, norm)  # type: ignore[arg-type]  # names that tests spell
    drawn = places(1, 60)
    images = [patched(seed, *one) for seed, one in enumerate(drawn)]
    tap = Tap("pooled") if pool != "flatten" else Tap("map", "none")
    records = compute(images, network, tap, make_engine(network, tap, "float32"), store=None, progress=Silent()).all()
    features = representation.take(records, network.widths())
    normaliser = Normaliser.fit(features, norm)
    labels = np.array([CLASSES.index(one[0]) for one in drawn])
    fitted = fit_head(head, normaliser.apply(features), labels, len(CLASSES), 3.0)
    if isinstance(fitted, LinearHead):
        assert (fitted.scores(normaliser.apply(features)).argmax(1) == labels).mean() > 0.95
    return Model(network, "none", CLASSES, representation, normaliser, fitted, "float32", {}, {}, {})


def with_network(model: Model, network: Backbone) -> Model:
    """The same head on another network."""
    return replace(model, backbone=network)
