"""Methods that bring the two domains' features together, or out to where they part, by their statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn
from torch.nn import functional

from greffon.losses import coral, joint_mmd, median_bandwidth, mmd, stepwise_norm
from greffon.training import Objective, Seen
from greffon.transfer.transductive.above.method import ramp

__all__ = ["AFN", "DAN", "JAN", "DeepCoral"]


@final
@dataclass(frozen=True, slots=True)
class DeepCoral:
    """Alike second-order statistics of the scores: Sun and Saenko 2016, arXiv:1607.01719, which has them of the last layer.

    Parameters
    ----------
    trade_off
        The paper wants the two losses to end at about the same size: of scores, 1 does that.
    """

    trade_off: float = 1.0
    learning_rate: ClassVar[float] = 1e-4

    def objective(self) -> Objective:
        """``losses.coral`` of the scores."""
        return Objective(self._loss)

    def _loss(self, own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        assert source is not None
        return self.trade_off * coral(source.logits, target.logits)


@final
@dataclass(frozen=True, slots=True)
class DAN:
    """Alike distributions of the features under several Gaussian kernels: Long et al. 2015, arXiv:1502.02791.

    The kernels are weighted alike, where the paper learns the weights by a quadratic programme; all pairs are taken, where it
    takes an estimate in linear time: batches are small here.

    Parameters
    ----------
    trade_off
        Of the paper.
    bandwidths
        Times the median of the squared distances. The paper has 2^-8 to 2^8 in steps of the root of 2; its far ends are 0 and 1
        for every pair of a batch, so we take the five in the middle of the authors' code.
    """

    trade_off: float = 1.0
    bandwidths: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    learning_rate: ClassVar[float] = 1e-4

    def objective(self) -> Objective:
        """``losses.mmd`` of the features."""
        return Objective(self._loss)

    def _loss(self, own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        assert source is not None
        median = median_bandwidth(source.features, target.features)
        return self.trade_off * mmd(source.features, target.features, [median * one for one in self.bandwidths])


@final
@dataclass(frozen=True, slots=True)
class JAN:
    """Alike joint distributions of features and answers: Long et al. 2017, arXiv:1605.06636.

    Parameters
    ----------
    trade_off
        What ``ramp`` leads to.
    bandwidths
        Of the features' kernels, times the median of the squared distances.
    answers_bandwidth
        Of the kernel of the probabilities, whose squared distances are from 0 to 2: 1.68 in the authors' code.
    """

    trade_off: float = 1.0
    bandwidths: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    answers_bandwidth: float = 1.68
    learning_rate: ClassVar[float] = 1e-4

    def objective(self) -> Objective:
        """``losses.joint_mmd`` of features and probabilities."""
        return Objective(self._loss)

    def _loss(self, own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        assert source is not None
        median = median_bandwidth(source.features, target.features)
        of_source, of_target = ([one.features, functional.softmax(one.logits, dim=1)] for one in (source, target))
        bandwidths = [[median * one for one in self.bandwidths], [self.answers_bandwidth]]
        return self.trade_off * ramp(done) * joint_mmd(of_source, of_target, bandwidths)


@final
@dataclass(frozen=True, slots=True)
class AFN:
    """Features of both domains reach further out, step by step: Xu et al. 2019 (SAFN), arXiv:1811.07456.

    The paper's features are those of new layers behind BatchNorm and ReLU; ours are the pretrained ones. On drawn domains and
    from photos to paintings it has gained nothing here.

    Parameters
    ----------
    trade_off
        0.05 in the paper, for SGD. AdamW takes no account of the size of a loss once it is the only one that is left: with
        0.05 the norms grew without end, and the source was forgotten. A hundredth of it is a gentle push.
    step
        1 in the paper.
    """

    trade_off: float = 0.0005
    step: float = 1.0
    learning_rate: ClassVar[float] = 1e-4

    def objective(self) -> Objective:
        """``losses.stepwise_norm`` of both domains' features."""
        return Objective(self._loss)

    def _loss(self, own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        assert source is not None
        return self.trade_off * (stepwise_norm(source.features, self.step) + stepwise_norm(target.features, self.step))
