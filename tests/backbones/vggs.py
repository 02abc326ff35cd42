"""Networks of VGG's shape with drawn convolutions, and the files that hold them."""

from __future__ import annotations

import functools
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from greffon.backbones.catalogue import entry
from greffon.backbones.network import Blueprint, blueprint

#: Keras's names of VGG16's convolutions from the image upwards, by the paper's configuration D; 19: by E.
LAYERS = {
    16: [f"block{b}_conv{c}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for c in range(1, n + 1)],
    19: [f"block{b}_conv{c}" for b, n in enumerate((2, 2, 4, 4, 4), 1) for c in range(1, n + 1)],
}


def vgg_plan(depth: int) -> Blueprint:
    return blueprint(entry(f"vgg{depth}"))


@functools.cache
def vgg_tensors(depth: int) -> dict[str, Tensor]:
    """Random convolutions in timm's names, each different."""
    plan, generator = vgg_plan(depth), torch.Generator().manual_seed(depth)
    state = plan.model.state_dict()
    return {key: torch.randn(state[key].shape, generator=generator) / 50 for key in plan.trunk_keys()}


def write_keras(path: Path, depth: int, kernel: str = "{0}/{0}_W_1:0", bias: str = "{0}/{0}_b_1:0") -> None:
    """In the layout of 2015: by h5py, with numpy's transpose, from the list of layers above."""
    links = [key.removesuffix(".weight") for key in vgg_tensors(depth) if key.endswith(".weight")]
    with h5py.File(path, "w") as file:
        for layer, link in zip(LAYERS[depth], links, strict=True):
            file[kernel.format(layer)] = np.transpose(vgg_tensors(depth)[f"{link}.weight"].numpy(), (2, 3, 1, 0))
            file[bias.format(layer)] = vgg_tensors(depth)[f"{link}.bias"].numpy()
            file.attrs["layer_names"] = [layer.encode() for layer in LAYERS[depth]]


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)
