"""A tiny backbone as a model folder, tiny photos, and commands in real processes, for tests of fine-tuning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from drawn import encode
from greffon.heads import LinearHead, Normaliser, Representation
from greffon.model import Model, save_model
from growing import drawn_network

__all__ = ["WORDS", "command", "environment", "write_backbone", "write_photos"]

#: One precision on every machine, few views, short epochs.
WORDS = ("--precision", "float32", "--views", "2", "--policy", "light", "--epochs", "3", "--batch", "8", "--learning-rate", "0.003",
         "--training-precision", "float32", "--keep", "float32")  # fmt: skip


def write_backbone(folder: Path, architecture: str = "test_resnet", seed: int = 0) -> Path:
    """A model folder that stands for a backbone of 32 pixels."""
    network = drawn_network(architecture, seed=seed)
    width = network.widths()[-1]
    head = LinearHead("logistic", np.zeros((2, width), np.float32), np.zeros(2, np.float32))
    normaliser = Normaliser("standard", np.zeros(width, np.float32), np.ones(width, np.float32))
    model = Model(network, "none", ("a", "b"), Representation(), normaliser, head, "float32", {}, {}, {})
    save_model(model, folder)
    return folder


def write_photos(root: Path, each: int = 20, classes: int = 3, size: int = 40, seed: int = 0) -> Path:
    """A folder a class: stripes that lean as the class says, in any colours, under grain."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    for number in range(classes):
        (root / f"class{number}").mkdir(parents=True, exist_ok=True)
        for i in range(each):
            angle = np.pi * number / classes + rng.normal() * 0.05
            wave = np.sin((np.cos(angle) * rows + np.sin(angle) * columns) * 0.9 + rng.uniform(0, 6.3))
            colour, ground = rng.integers(40, 216, (2, 3))
            picture = ground + (wave[..., None] > 0) * (colour - ground) + rng.normal(0, 12, (size, size, 3))
            image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
            (root / f"class{number}" / f"{i:03}.png").write_bytes(encode(image))
    return root


def environment(cache: Path) -> dict[str, str]:
    """One thread, and a cache of its own."""
    return {**os.environ, "GREFFON_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def command(*words: object, cache: Path) -> subprocess.CompletedProcess[str]:
    """``greffon`` in a process of its own."""
    program = [sys.executable, "-m", "greffon", *map(str, words)]
    return subprocess.run(
        program, env=environment(cache), capture_output=True, text=True, timeout=300, check=False
    )
