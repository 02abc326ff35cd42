"""SimCLR: a view is told from those of all other images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from greffon.losses import nt_xent
from greffon.training import Objective, Seen
from greffon.transfer.unsupervised.above.method import projector

__all__ = ["SimCLR"]


@final
@dataclass(frozen=True, slots=True)
class SimCLR:
    """Each view finds its partner among the batch: Chen et al. 2020, arXiv:2002.05709.

    Parameters
    ----------
    temperature
        0.5 in the paper's table for small batches, 0.1 for its largest.
    hidden, outputs
        Of the projector of two layers: 2048 and 128 in the paper; some hundred photos do with less.
    """

    temperature: float = 0.2
    hidden: int = 512
    outputs: int = 128

    def objective(self) -> Objective:
        """``losses.nt_xent`` behind a projector."""
        return Objective(self._loss, self._modules, trains_head=False, labelled=False, looks=2)

    def _modules(self, features: int, classes: int) -> nn.Module:
        return projector(features, self.hidden, self.outputs, 2)

    def _loss(self, own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        first, second = own(target.features).chunk(2)
        return nt_xent(first, second, self.temperature)
