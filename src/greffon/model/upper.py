"""The stages above a cut as the second half of a prediction: activations at the cut to pooled features."""

from __future__ import annotations

import copy

import numpy as np
import torch

from greffon.activations.engines import Tap
from greffon.activations.kernels import steady_kernels
from greffon.backbones import Backbone
from greffon.heads import Representation
from greffon.training import as_tensor

__all__ = ["feature_widths", "tap_of", "upper_pooled"]


def tap_of(cut: str, representation: Representation) -> Tap:
    """What the frozen part must give for a model with this cut and these features."""
    if cut != "none":
        return Tap("map", cut)
    return Tap("map", "none") if representation.pool == "flatten" else Tap("pooled")


def feature_widths(backbone: Backbone, cut: str) -> tuple[int, ...]:
    """The channels of the parts of a pooled record, from below.

    With the cut above the last stage, those of every stage. With a lower one, those of the activations at the cut
    (unless they are the image) and of the stages above it.
    """
    if cut == "none":
        return backbone.widths()
    return backbone.widths()[max(0, backbone.position(cut) - 1) :]


def upper_pooled(backbone: Backbone, cut: str, records: np.ndarray, *, batch: int = 16) -> np.ndarray:
    """Run the stages above a cut on records of the store, in float32.

    Batches are filled up to one size, since some networks differ in the last bits between batch sizes.

    Parameters
    ----------
    records
        (n, c, h, w) at the cut, or the images, uint8 (n, h, w, 3).

    Returns
    -------
    float32 (n, sum of 2 w over ``feature_widths``): mean and maximum of each part.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    span = copy.deepcopy(backbone.above(cut)).to(device).to(memory_format=torch.channels_last)
    parts = []
    with torch.inference_mode(), steady_kernels("float32"):
        for start in range(0, len(records), batch):
            some = records[start : start + batch]
            fill = np.zeros((batch - len(some), *some.shape[1:]), some.dtype)
            x = as_tensor(np.concatenate([some, fill]), backbone.preprocess, device)
            pooled = span.pooled(x)
            if backbone.position(cut) > 0:
                pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3)), pooled], 1)
            parts.append(pooled[: len(some)].cpu().numpy())
    width = sum(2 * w for w in feature_widths(backbone, cut))
    return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)
