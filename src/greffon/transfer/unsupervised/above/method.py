"""What a method of self-supervised training is, and the small networks that its loss is taken behind."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from torch import nn

from greffon.training import Objective

__all__ = ["SelfSupervised", "projector"]


class SelfSupervised(Protocol):
    """A method: a frozen dataclass of its numbers, which travel with the model as JSON."""

    #: Its fields are read by ``dataclasses.asdict``.
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def objective(self) -> Objective:
        """What the loop makes small."""
        ...


def projector(inputs: int, hidden: int, outputs: int, layers: int) -> nn.Sequential:
    """Linear layers with BatchNorm and ReLU between them: (n, inputs) to (n, outputs). It is thrown away after training.

    Chen et al. 2020 (SimCLR), section 4.2: what a loss of two views takes away, it takes from behind such a network, and not from
    the features in front of it. BatchNorm as in Barlow Twins and VICReg.
    """
    parts: list[nn.Module] = []
    for _ in range(layers - 1):
        parts += [nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
        inputs = hidden
    return nn.Sequential(*parts, nn.Linear(inputs, outputs, bias=False))
