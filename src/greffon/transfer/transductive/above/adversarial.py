"""Methods with an adversary: a discriminator learns to tell the domains apart, and the features to deceive it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from greffon.losses import domain_loss, entropies, multilinear_map, random_multilinear_map, reverse_gradient
from greffon.training import Objective, Seen
from greffon.transfer.transductive.above.method import ramp

__all__ = ["CDAN", "DANN"]

#: A tenth of what the other methods have: the features follow a discriminator that is learned as they move. Over five pairs of domains DANN
#: named 58 % of the target rightly with it, and 51 % with theirs (one run a pair; its epochs went up and down by up to 26 points).
_RATE = 1e-5


def _discriminator(inputs: int, hidden: int) -> nn.Sequential:
    """Two hidden layers, as in the authors' code of CDAN: (n, inputs) to (n, 1)."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
    )


@final
@dataclass(frozen=True, slots=True)
class DANN:
    """A discriminator of the features, whose gradient is reversed: Ganin et al. 2016, arXiv:1505.07818.

    Parameters
    ----------
    trade_off
        Of the discriminator's loss. The gradient that comes back from it is reversed times ``ramp``, so that it learns
        before it is listened to.
    hidden
        Width of the discriminator: 1024 in the paper for AlexNet; batches of some hundred photos do with less.
    """

    trade_off: float = 1.0
    hidden: int = 256
    learning_rate: ClassVar[float] = _RATE

    def objective(self) -> Objective:
        """``losses.domain_loss`` of reversed features."""
        return Objective(self._loss, self._modules)

    def _modules(self, features: int, classes: int) -> nn.Module:
        return _discriminator(features, self.hidden)

    def _loss(self, own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        assert source is not None
        of_source, of_target = (own(reverse_gradient(one.features, ramp(done)))[:, 0] for one in (source, target))
        return self.trade_off * domain_loss(of_source, of_target)


@final
class _Conditioned(nn.Module):
    """Features (n, d) and probabilities (n, c), multiplied, to the discriminator's score, (n, 1)."""

    def __init__(self, features: int, classes: int, hidden: int, most: int, random: int) -> None:
        super().__init__()
        self.exact = features * classes <= most
        if not self.exact:
            self.register_buffer("of_features", torch.randn(features, random))
            self.register_buffer("of_probabilities", torch.randn(classes, random))
        self.discriminator = _discriminator(features * classes if self.exact else random, hidden)

    def forward(self, features: Tensor, probabilities: Tensor) -> Tensor:
        if self.exact:
            return self.discriminator(multilinear_map(features, probabilities))
        of_features, of_probabilities = self.get_buffer("of_features"), self.get_buffer("of_probabilities")
        return self.discriminator(random_multilinear_map(features, probabilities, of_features, of_probabilities))


@final
@dataclass(frozen=True, slots=True)
class CDAN:
    """A discriminator of features times answers: Long et al. 2018, arXiv:1705.10667.

    The answers condition it and are not changed by it: they come without gradient, as in the authors' code.

    Parameters
    ----------
    entropy
        CDAN+E: images count by ``1 + exp(-entropy)`` of their answers, section 3.3.
    trade_off
        As of ``DANN``.
    hidden
        Width of the discriminator.
    most, random
        Where features times classes are more than ``most``, products of ``random`` random projections stand in: 4096 and
        1024 in the paper.
    """

    entropy: bool = False
    trade_off: float = 1.0
    hidden: int = 256
    most: int = 4096
    random: int = 1024
    learning_rate: ClassVar[float] = _RATE

    def objective(self) -> Objective:
        """``losses.domain_loss`` of reversed products, weighted or not."""
        return Objective(self._loss, self._modules)

    def _modules(self, features: int, classes: int) -> nn.Module:
        return _Conditioned(features, classes, self.hidden, self.most, self.random)

    def _loss(self, own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        assert source is not None
        scores, weights = [], []
        for one in (source, target):
            logits = one.logits.detach()
            scores.append(own(reverse_gradient(one.features, ramp(done)), functional.softmax(logits, dim=1))[:, 0])
            weights.append(1 + torch.exp(-entropies(logits)) if self.entropy else None)
        return self.trade_off * domain_loss(scores[0], scores[1], weights[0], weights[1])
