"""Methods that ask for sure answers of the target's images, and that all classes are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn
from torch.nn import functional

from greffon.losses import class_confusion, information_maximisation, pseudo_labels
from greffon.training import Objective, Seen

__all__ = ["MCC", "Shot"]


@final
@dataclass(frozen=True, slots=True)
class MCC:
    """The target's images give no probability to two classes at once: Jin et al. 2020, arXiv:1912.03699.

    Parameters
    ----------
    trade_off
        1 in the paper.
    temperature
        2.5 in the paper.
    """

    trade_off: float = 1.0
    temperature: float = 2.5
    learning_rate: ClassVar[float] = 1e-4

    def objective(self) -> Objective:
        """``losses.class_confusion`` of the target's scores."""
        return Objective(self._loss)

    def _loss(self, own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        return self.trade_off * class_confusion(target.logits, self.temperature)


@final
@dataclass(frozen=True, slots=True)
class Shot:
    """From the source's model alone, without its photos: Liang et al. 2020, arXiv:2002.08546.

    The head stays as the source left it; the stages below it learn features of the target that it is sure of, with all
    classes in use, and that agree with the labels of the nearest centres, drawn anew in every epoch.

    Parameters
    ----------
    trade_off
        Of the cross-entropy with the pseudo labels beside the information maximisation: 0.3 in the paper.
    """

    trade_off: float = 0.3
    learning_rate: ClassVar[float] = 1e-4

    def objective(self) -> Objective:
        """``losses.information_maximisation`` and the cross-entropy with ``losses.pseudo_labels``."""
        return Objective(self._loss, relabel=pseudo_labels, trains_head=False, labelled=False)

    def _loss(self, own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        assert target.labels is not None
        agreement = functional.cross_entropy(target.logits, target.labels)
        return information_maximisation(target.logits) + self.trade_off * agreement
