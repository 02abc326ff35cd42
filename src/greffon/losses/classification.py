"""What training makes small where images have labels: pure functions of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["classification_loss", "l2_sp"]


def classification_loss(
    logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy with soft targets; a scalar in float32.

    As ``torch.nn.functional.cross_entropy`` has it with class indices: with class weights, the mean over images is
    weighted by the weight of each image's target (torch itself divides by n where targets are soft).

    Parameters
    ----------
    logits
        (n, c).
    targets
        (n, c): rows sum to 1; one-hot, or mixed by mixup.
    class_weights
        (c,), or None: all are 1.
    label_smoothing
        Share of the target that is spread evenly over all classes (Szegedy et al. 2016, arXiv:1512.00567, section 7).
    """
    log_p = functional.log_softmax(logits.float(), dim=1)
    weight = torch.ones_like(log_p[0]) if class_weights is None else class_weights
    spread = (1 - label_smoothing) * targets + label_smoothing / logits.shape[1]
    return -(spread * weight * log_p).sum() / (targets * weight).sum()


def l2_sp(weights: Sequence[Tensor], start: Sequence[Tensor], strength: float) -> Tensor:
    """Half of ``strength`` times the squared distance to where training began (Li et al. 2018, arXiv:1802.01483, eq. 3)."""
    distance = torch.stack([(now - before).square().sum() for now, before in zip(weights, start, strict=True)]).sum()
    return 0.5 * strength * distance
