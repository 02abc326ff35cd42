"""How densely a network's answers lie together: a figure without labels to choose by."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["neighbourhood_density"]


def neighbourhood_density(probabilities: Tensor, temperature: float = 0.05) -> Tensor:
    """Soft neighbourhood density: the mean entropy of each image's likeness to the others; a scalar, larger is denser.

    Saito et al. 2021 (SND), arXiv:2108.10860, section 3: the softmax outputs as features, of length 1, their scalar products
    over the temperature, a softmax over the other images, its entropy. At most log(n - 1). It is at its highest, too, where
    all images are given one class: it must not choose alone.

    Parameters
    ----------
    probabilities
        (n, c), n of 2 or more.
    """
    rows = functional.normalize(probabilities, dim=1)
    likeness = (rows @ rows.t()) / temperature
    log_p = functional.log_softmax(likeness.fill_diagonal_(-torch.inf), dim=1)
    return -(log_p.exp() * log_p.masked_fill(log_p == -torch.inf, 0)).sum(1).mean()
