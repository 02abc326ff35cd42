"""A discriminator that tells domains apart, and features that are made to deceive it."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["domain_loss", "multilinear_map", "random_multilinear_map", "reverse_gradient"]


@final
class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """``x`` itself, of any shape; its gradient is that of what follows times ``-strength``.

    Ganin et al. 2016 (DANN), arXiv:1505.07818, section 4.2: R(x) = x, dR/dx = -λ I.
    """
    return _Reversal.apply(x, strength)


def domain_loss(source: Tensor, target: Tensor, source_weights: Tensor | None = None, target_weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of a discriminator that should say 1 for the source and 0 for the target; a scalar.

    The mean of the two domains' means: Ganin et al. 2016 (DANN), arXiv:1505.07818, section 4.1. With weights: Long et
    al. 2018 (CDAN), arXiv:1705.10667, section 3.3, each domain's scaled to a mean of 1.

    Parameters
    ----------
    source, target
        The discriminator's scores, before the sigmoid: (n,) and (m,).
    source_weights, target_weights
        (n,) and (m,), or None: all are 1.
    """
    of_source = functional.softplus(-source)  # -log sigmoid(s)
    of_target = functional.softplus(target)  # -log(1 - sigmoid(t))
    if source_weights is not None:
        of_source = of_source * source_weights / source_weights.mean()
    if target_weights is not None:
        of_target = of_target * target_weights / target_weights.mean()
    return 0.5 * (of_source.mean() + of_target.mean())


def multilinear_map(features: Tensor, probabilities: Tensor) -> Tensor:
    """Every feature times every probability, ``f ⊗ g``: (n, d) and (n, c) to (n, d c), the classes running fastest.

    Long et al. 2018 (CDAN), arXiv:1705.10667, section 3.2.
    """
    return (features[:, :, None] * probabilities[:, None, :]).flatten(1)


def random_multilinear_map(features: Tensor, probabilities: Tensor, of_features: Tensor, of_probabilities: Tensor) -> Tensor:
    """``(R_f f) ⊙ (R_g g) / sqrt(k)``, whose scalar products are in expectation those of ``multilinear_map``: (n, k).

    Long et al. 2018 (CDAN), arXiv:1705.10667, section 3.2 and theorem 1: for products of too many dimensions.

    Parameters
    ----------
    features, probabilities
        (n, d) and (n, c).
    of_features, of_probabilities
        (d, k) and (c, k): drawn once, with mean 0 and variance 1.
    """
    return (features @ of_features) * (probabilities @ of_probabilities) / of_features.shape[1] ** 0.5
