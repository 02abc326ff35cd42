"""Two views of one image are to be alike, and no two features are to say the same: without negative pairs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["barlow_twins", "vicreg"]


def barlow_twins(first: Tensor, second: Tensor, off_diagonal: float = 0.005) -> Tensor:
    """How far the cross-correlation of two views is from the identity; a scalar.

    Zbontar et al. 2021 (Barlow Twins), arXiv:2103.03230, equations 1 and 2: every feature is standardised over the batch, then
    ``sum_i (1 - C_ii)² + λ sum_{i≠j} C_ij²``. A feature that does not move in a batch has a correlation of 0.

    Parameters
    ----------
    first, second
        (n, d): row i of both is of one image. n of 2 or more.
    off_diagonal
        λ, 0.005 in the paper.
    """
    correlation = _standardised(first).t() @ _standardised(second) / len(first)
    diagonal = correlation.diagonal()
    others = correlation.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + off_diagonal * others


def vicreg(
    first: Tensor, second: Tensor, *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Tensor:
    """Views alike, every feature with a deviation of 1 or more, no two features correlated; a scalar.

    Bardes et al. 2022 (VICReg), arXiv:2105.04906, section 4.1, with the scaling of the authors' code, to which the paper's weights
    belong: the squared distance is a mean over features too, and of the two views' variance terms the mean is taken.

    Parameters
    ----------
    first, second
        (n, d): row i of both is of one image. n of 2 or more.
    invariance, variance, covariance
        The weights λ, μ and ν: 25, 25 and 1 in the paper.
    """
    alike = functional.mse_loss(first, second)
    spread = (_lacking(first) + _lacking(second)) / 2
    return invariance * alike + variance * spread + covariance * (_covariances(first) + _covariances(second))


def _standardised(x: Tensor) -> Tensor:
    """By the deviation with n below, and the same epsilon as BatchNorm, which is what the authors use."""
    return (x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + 1e-5)


def _lacking(x: Tensor) -> Tensor:
    """Equation 1 and 2: the mean over the features of what their deviations lack to 1."""
    return functional.relu(1 - torch.sqrt(x.var(0) + 1e-4)).mean()


def _covariances(x: Tensor) -> Tensor:
    """Equation 3 and 4: the squares of the covariance off its diagonal, over the number of features."""
    centred = x - x.mean(0)
    covariance = centred.t() @ centred / (len(x) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / x.shape[1]
