"""The device that is trained on, and scores that are asked for between the steps."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import nn

from greffon.training.source import Source

__all__ = ["make_fabric", "scores_of"]


def make_fabric(precision: str) -> Any:
    """Lightning Fabric on one device, the GPU where there is one. ``precision`` as ``Recipe`` has it."""
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it would tell the terminal of every choice
    mode = "bf16-mixed" if precision == "bfloat16" else "32-true"
    return Fabric(accelerator="cuda" if torch.cuda.is_available() else "cpu", devices=1, precision=mode)


def scores_of(module: nn.Module, source: Source, positions: np.ndarray, device: torch.device, batch: int = 32) -> np.ndarray:
    """The scores of the plain view of images, float64 (k, classes)."""
    module.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(positions), batch):
            some = positions[start : start + batch]
            parts.append(module(source.batch(some, np.zeros(len(some), np.int64)).to(device)).double().cpu().numpy())
    return np.concatenate(parts)
