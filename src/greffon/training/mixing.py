"""Mixup and CutMix of activations: of what stands at the cut, which need not be images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["mixed"]


def mixed(x: Tensor, targets: Tensor, kind: str, alpha: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Each image mixed with another one of its batch, and its target likewise.

    ``"mixup"``: ``s x_i + (1 - s) x_j`` (Zhang et al. 2018, arXiv:1710.09412, equation 1; of inner activations: Verma et
    al. 2019, arXiv:1806.05236). ``"cutmix"``: a box of x_j is put into x_i, and s is the share of x_i that is left (Yun
    et al. 2019, arXiv:1905.04899, equations 1 and 2). s is drawn from Beta(alpha, alpha), one for the batch.

    Parameters
    ----------
    x
        (n, c, h, w).
    targets
        (n, classes), rows of which sum to 1.

    Returns
    -------
    New tensors of the same shapes.
    """
    share = float(rng.beta(alpha, alpha))
    partner = torch.from_numpy(rng.permutation(len(x))).to(x.device)
    if kind == "mixup":
        return torch.lerp(x[partner], x, share), torch.lerp(targets[partner], targets, share)
    if kind != "cutmix":
        raise ValueError(f"mixed: kind must be 'mixup' or 'cutmix', got {kind!r}")
    height, width = x.shape[2:]
    side = (1 - share) ** 0.5
    tall, wide = round(height * side), round(width * side)
    middle_y, middle_x = int(rng.integers(0, height)), int(rng.integers(0, width))
    top, bottom = max(0, middle_y - tall // 2), min(height, middle_y - tall // 2 + tall)
    left, right = max(0, middle_x - wide // 2), min(width, middle_x - wide // 2 + wide)
    out = x.clone()
    out[:, :, top:bottom, left:right] = x[partner][:, :, top:bottom, left:right]
    left_over = 1 - (bottom - top) * (right - left) / (height * width)
    return out, torch.lerp(targets[partner], targets, left_over)
