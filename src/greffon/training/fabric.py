"""The device that is trained on, and scores that are asked for between the steps; gradients that slow processors down."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from greffon.training.source import Source

__all__ = ["make_fabric", "scores_of", "without_dust"]


def make_fabric(precision: str) -> Any:
    """Lightning Fabric on one device, the GPU where there is one: of several processes on a machine, each has its own.

    Of what they tell each other, ``ranks`` takes care, and whoever started them. ``precision`` as ``Recipe`` has it.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it would tell the terminal of every choice
    mode = "bf16-mixed" if precision == "bfloat16" else "32-true"
    if torch.cuda.is_available():
        return Fabric(accelerator="cuda", devices=[torch.cuda.current_device()], precision=mode, plugins=[LightningEnvironment()])
    return Fabric(accelerator="cpu", devices=1, precision=mode, plugins=[LightningEnvironment()])


def scores_of(
    module: nn.Module, source: Source, positions: np.ndarray, device: torch.device, batch: int = 32, classes: int = 0
) -> np.ndarray:
    """The scores of the plain view of images, float64 (k, classes); (0, ``classes``) of none."""
    module.eval()
    parts = [np.zeros((0, classes))] if not len(positions) else []
    with torch.inference_mode():
        for start in range(0, len(positions), batch):
            some = positions[start : start + batch]
            parts.append(module(source.batch(some, np.zeros(len(some), np.int64)).to(device)).double().cpu().numpy())
    return np.concatenate(parts)


#: Gradients of the loss by a score that are taken for nothing. Once an image is learned, those of the wrong classes go down to
#: 1e-40, and with such numbers processors are slow: on cats and dogs the tenth epoch took 17.5 s, and takes 10 without them.
#: AdamW's own epsilon is 1e-8.
_DUST = 1e-10


def without_dust(gradient: Tensor) -> Tensor:
    """The gradient with what is too small to learn from as 0."""
    return torch.where(gradient.abs() < _DUST, torch.zeros_like(gradient), gradient)
