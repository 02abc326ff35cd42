"""Two views of one image are to be alike, and unlike those of all others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["nt_xent"]


def nt_xent(first: Tensor, second: Tensor, temperature: float = 0.5) -> Tensor:
    """The normalised temperature-scaled cross-entropy of finding each view's partner among all other views; a scalar, in nats.

    Chen et al. 2020 (SimCLR), arXiv:2002.05709, equation 1 and algorithm 1: likeness is the cosine over the temperature; a view
    is compared with the 2n - 1 others, never with itself; the mean is over both views of every image.

    Parameters
    ----------
    first, second
        (n, d): row i of both is of one image. n of 2 or more: one image alone has nothing to be unlike.
    """
    rows = functional.normalize(torch.cat([first, second]), dim=1)
    likeness = (rows @ rows.t() / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(len(rows), device=rows.device).roll(len(first))
    return functional.cross_entropy(likeness, partner)
