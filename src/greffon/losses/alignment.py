"""How far two sets of features lie apart, and how far they reach: what makes domains alike, without an adversary."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["coral", "gaussian_kernels", "joint_mmd", "median_bandwidth", "mmd", "stepwise_norm"]


def coral(source: Tensor, target: Tensor) -> Tensor:
    """Distance of the second-order statistics: ``||C_S - C_T||² / (4 d²)`` with Frobenius' norm; a scalar.

    Sun and Saenko 2016 (Deep CORAL), arXiv:1607.01719, equation 1; the covariances, with n - 1 below, are equations 2
    and 3. One row alone has no covariance: it counts as 0.

    Parameters
    ----------
    source, target
        (n, d) and (m, d).
    """
    return (_covariance(source) - _covariance(target)).square().sum() / (4 * source.shape[1] ** 2)


def _covariance(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return centred.t() @ centred / max(1, len(x) - 1)


def gaussian_kernels(x: Tensor, y: Tensor, bandwidths: Sequence[float | Tensor]) -> Tensor:
    """The mean of Gaussian kernels ``exp(-|x - y|² / γ)`` over the bandwidths γ: (n, m).

    Long et al. 2015 (DAN), arXiv:1502.02791, equation 2, the convex sum of kernels, with equal weights. Scikit-learn's
    ``rbf_kernel`` has 1 / γ for its ``gamma``.

    Parameters
    ----------
    x, y
        (n, d) and (m, d).
    bandwidths
        γ, in the units of squared distances. At least one.
    """
    squared = _squared_distances(x, y)
    return torch.stack([torch.exp(-squared / bandwidth) for bandwidth in bandwidths]).mean(0)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(n, m), never below 0. Centred first: with large common parts the product would eat up the digits."""
    middle = y.mean(0).detach()
    x, y = x - middle, y - middle
    return (x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.t()).clamp(min=0)


def median_bandwidth(source: Tensor, target: Tensor) -> Tensor:
    """The median of the squared distances between any two different rows of both; a scalar without gradient, above 0.

    The heuristic of Gretton et al. 2012 (JMLR 13, section 8), which DAN and JAN take over.

    Parameters
    ----------
    source, target
        (n, d) and (m, d).
    """
    both = torch.cat([source, target]).detach()
    upper = torch.triu_indices(len(both), len(both), 1, device=both.device)
    squared = _squared_distances(both, both)[upper[0], upper[1]]
    return squared.median().clamp(min=1e-6)


def mmd(source: Tensor, target: Tensor, bandwidths: Sequence[float | Tensor]) -> Tensor:
    """The squared maximum mean discrepancy in the space of ``gaussian_kernels``; a scalar, never below 0.

    Long et al. 2015 (DAN), arXiv:1502.02791, equation 1, in the estimate of Gretton et al. 2012 (JMLR 13, equation 5):
    means over all pairs, the diagonal among them.

    Parameters
    ----------
    source, target
        (n, d) and (m, d).
    """
    return joint_mmd([source], [target], [bandwidths])


def joint_mmd(source: Sequence[Tensor], target: Sequence[Tensor], bandwidths: Sequence[Sequence[float | Tensor]]) -> Tensor:
    """The squared joint maximum mean discrepancy: that of the product of the kernels of several layers; a scalar.

    Long et al. 2017 (JAN), arXiv:1605.06636, section 4.1. The kernel of a pair of images is the product over the layers
    of ``gaussian_kernels``; the estimate is that of ``mmd``.

    Parameters
    ----------
    source, target
        A layer each: (n, d_l) and (m, d_l).
    bandwidths
        Of each layer.
    """

    def kernel(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
        layers = [gaussian_kernels(x, y, some) for x, y, some in zip(one, other, bandwidths, strict=True)]
        return torch.stack(layers).prod(0)

    return kernel(source, source).mean() + kernel(target, target).mean() - 2 * kernel(source, target).mean()


def stepwise_norm(features: Tensor, step: float) -> Tensor:
    """Every image's feature norm should be larger by ``step`` than it is: the mean of ``(|f_now| + step - |f|)²``; a scalar.

    Xu et al. 2019 (stepwise adaptive feature norm), arXiv:1811.07456, section 3 (SAFN). The norm that is to be passed is
    that of the features as they are, without gradient: the value is ``step²`` always, and the gradient alone acts.

    Parameters
    ----------
    features
        (n, d).
    """
    norms = torch.linalg.vector_norm(features, dim=1)
    return (norms.detach() + step - norms).square().mean()
