"""A thin VGG16 with its classifier: the names and the order of the real one, at a ten-thousandth of the numbers."""

from __future__ import annotations

import functools
import zipfile
from pathlib import Path

import numpy as np
import torch
from timm.models.vgg import VGG
from torch import Tensor, nn
from torchvision.models import vgg as torchvision_vgg

from greffon.backbones.catalogue import entry
from greffon.backbones.network import Blueprint, blueprint

WIDTHS = ((4, 4), (6, 6), (8, 8, 8), (8, 8, 8), (8, 8, 8))
CFG: list[int | str] = [part for widths in WIDTHS for part in (*widths, "M")]
HIDDEN, WIDE, CLASSES = 4, 4096, 5

#: The names of the layers in the paper and in Caffe, and in Keras, from the image upwards.
PAPER = [f"conv{b}_{c}" for b, widths in enumerate(WIDTHS, 1) for c in range(1, len(widths) + 1)]
KERAS = [f"block{b}_conv{c}" for b, widths in enumerate(WIDTHS, 1) for c in range(1, len(widths) + 1)]
DENSE = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}


def thin_plan() -> Blueprint:
    """timm's network with these widths, and VGG16's stages: the paths of the links are the same."""
    with torch.device("meta"):
        model = VGG(CFG, num_classes=CLASSES, mlp_ratio=HIDDEN / WIDE).eval()
    return Blueprint(entry("vgg16"), model, blueprint(entry("vgg16")).stages)


def thin_torchvision() -> torchvision_vgg.VGG:
    """torchvision's own class with random weights."""
    torch.manual_seed(7)
    model = torchvision_vgg.VGG(torchvision_vgg.make_layers(CFG), num_classes=CLASSES, init_weights=False)
    model.classifier = nn.Sequential(
        nn.Linear(8 * 49, HIDDEN), nn.ReLU(True), nn.Dropout(), nn.Linear(HIDDEN, WIDE), nn.ReLU(True), nn.Dropout(),
        nn.Linear(WIDE, CLASSES),
    )  # fmt: skip
    return model.eval()


@functools.cache
def as_keras_holds_them() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random kernels (h, w, in, out) and (in, out), and biases, by the paper's names."""
    random, before, found = np.random.default_rng(3), 3, {}
    for name, width in zip(PAPER, (w for widths in WIDTHS for w in widths), strict=True):
        found[name] = random.standard_normal((3, 3, before, width)) / (3 * before**0.5), random.standard_normal(width) / 4
        before = width
    for name, (into, out) in zip(DENSE, ((49 * before, HIDDEN), (HIDDEN, WIDE), (WIDE, CLASSES)), strict=True):
        found[name] = random.standard_normal((into, out)) / into**0.5, random.standard_normal(out) / 4
    return {name: (a.astype(np.float32), b.astype(np.float32)) for name, (a, b) in found.items()}


def naive(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What those weights give for an image (224, 224, 3): the last map (7, 7, 8) and the scores (classes), by NumPy alone."""
    x = image.astype(np.float64)
    for widths, block in zip(WIDTHS, range(1, 6), strict=True):
        for number in range(1, len(widths) + 1):
            kernel, bias = as_keras_holds_them()[f"conv{block}_{number}"]
            padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
            h, w = x.shape[:2]
            x = sum(padded[i : i + h, j : j + w] @ kernel[i, j] for i in range(3) for j in range(3)) + bias
            x = np.maximum(x, 0)
        x = np.maximum(np.maximum(x[::2, ::2], x[1::2, ::2]), np.maximum(x[::2, 1::2], x[1::2, 1::2]))
    scores = x.reshape(-1)
    for name in DENSE:
        kernel, bias = as_keras_holds_them()[name]
        scores = scores @ kernel + bias
        scores = scores if name == "fc8" else np.maximum(scores, 0)
    return x, scores


def run(plan: Blueprint, tensors: dict[str, Tensor], images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """timm's network with these tensors: last maps (n, h, w, c) and scores, for images (n, 224, 224, 3)."""
    plan.model.load_state_dict(tensors, strict=True, assign=True)
    with torch.no_grad():
        x = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2).contiguous()
        maps = plan.model.forward_features(x)  # type: ignore[operator]
        return maps.permute(0, 2, 3, 1).numpy(), plan.model.forward_head(maps).numpy()  # type: ignore[operator]


def golden(folder: Path) -> dict[str, Path]:
    """Keras's files, unpacked: see golden/make_keras.py."""
    with zipfile.ZipFile(Path(__file__).parent / "golden" / "keras.zip") as archive:
        archive.extractall(folder)
        return {name: folder / name for name in archive.namelist()}
