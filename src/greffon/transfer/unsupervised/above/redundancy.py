"""Methods without negative pairs: views alike, and features that do not repeat each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from greffon.losses import barlow_twins, vicreg
from greffon.training import Objective, Seen
from greffon.transfer.unsupervised.above.method import projector

__all__ = ["BarlowTwins", "VICReg"]


@final
@dataclass(frozen=True, slots=True)
class VICReg:
    """Variance, invariance, covariance: Bardes et al. 2022, arXiv:2105.04906.

    Parameters
    ----------
    invariance, variance, covariance
        Of the three terms: 25, 25 and 1 in the paper.
    hidden, outputs
        Of the expander of three layers: 8192 in the paper, for batches of 2048; covariances of small batches are noise in so many
        dimensions.
    """

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    hidden: int = 512
    outputs: int = 512

    def objective(self) -> Objective:
        """``losses.vicreg`` behind an expander."""
        return Objective(self._loss, self._modules, trains_head=False, labelled=False, looks=2)

    def _modules(self, features: int, classes: int) -> nn.Module:
        return projector(features, self.hidden, self.outputs, 3)

    def _loss(self, own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        first, second = own(target.features).chunk(2)
        return vicreg(
            first, second, invariance=self.invariance, variance=self.variance, covariance=self.covariance
        )


@final
@dataclass(frozen=True, slots=True)
class BarlowTwins:
    """The cross-correlation of two views is to be the identity: Zbontar et al. 2021, arXiv:2103.03230.

    Parameters
    ----------
    off_diagonal
        λ, 0.005 in the paper.
    hidden, outputs
        Of the projector of three layers: 8192 in the paper; see ``VICReg``.
    """

    off_diagonal: float = 0.005
    hidden: int = 512
    outputs: int = 512

    def objective(self) -> Objective:
        """``losses.barlow_twins`` behind a projector."""
        return Objective(self._loss, self._modules, trains_head=False, labelled=False, looks=2)

    def _modules(self, features: int, classes: int) -> nn.Module:
        return projector(features, self.hidden, self.outputs, 3)

    def _loss(self, own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        first, second = own(target.features).chunk(2)
        return barlow_twins(first, second, self.off_diagonal)
