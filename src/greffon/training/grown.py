"""``Grown``: the stages above the cut and the new head, as one module to train."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from greffon.backbones import Span
from greffon.heads import LinearHead, Normaliser, Representation

__all__ = ["FeaturesAndScores", "Grown"]


@final
class Grown(nn.Module):
    """Activations at the cut, (n, c, h, w), to scores of the classes, (n, classes).

    The stages, the pooling and the normalisation of a ``Representation``, dropout, and a linear layer. The features
    reach the linear layer with a variance near 1 each, whatever their number: the rates of a recipe are made for that.

    Parameters
    ----------
    span
        The stages above the cut: trained in place.
    representation
        Its norm is ``"standard"`` or ``"l2"``: the derivative of a square root has no bound.
    normaliser
        Fitted on the features that the pretrained stages give; it stays as it is.
    classes
        How many there are. The linear layer begins at zero: all classes are as likely.
    with_input
        Whether the pooled activations at the cut themselves are a part of the features of all stages.
    dropout
        Of the features.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        span: Span,
        representation: Representation,
        normaliser: Normaliser,
        classes: int,
        *,
        with_input: bool,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.span = span
        self.representation = representation
        self.with_input = with_input
        self.dropout = nn.Dropout(dropout)
        self._root = float(len(normaliser.mean)) ** 0.5
        self.register_buffer("mean", torch.from_numpy(normaliser.mean.copy()))
        self.register_buffer("scale", torch.from_numpy(normaliser.scale.copy()) * self._root)
        self.head = nn.Linear(len(normaliser.mean), classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes)."""
        return self.scores(self.features(x))

    def scores(self, features: Tensor) -> Tensor:
        """``features``, (n, d), to (n, classes)."""
        return self.head(self.dropout(features))

    def features(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to what the linear layer sees, float32 (n, d)."""
        every = self.representation.stages == "all"
        parts = self._pooled(x) if every and self.with_input else []
        for number, stage in enumerate(self.span.stages):
            for link in stage:  # type: ignore[attr-defined]  # a ModuleList is iterable; nn.Module hides it
                x = link(x)
            if every or number == len(self.span.stages) - 1:
                parts = parts + self._pooled(x)
        rows = torch.cat(parts, 1)
        if self.representation.norm == "l2":
            rows = functional.normalize(rows, dim=1)
        return (rows - self.mean) * self.scale

    def _pooled(self, x: Tensor) -> list[Tensor]:
        pool = self.representation.pool
        mean = [x.mean((2, 3), dtype=torch.float32)] if pool != "max" else []
        return mean + ([x.amax((2, 3)).float()] if pool != "mean" else [])

    def linear_head(self) -> LinearHead:
        """The linear layer as a head that reads the normaliser's features."""
        weight = self.head.weight.detach().float() * self._root
        return LinearHead("logistic", weight.cpu().numpy().copy(), self.head.bias.detach().float().cpu().numpy().copy())

    def begin_at(self, head: LinearHead) -> None:
        """Begin training at a fitted linear head."""
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(head.weight) / self._root / head.temperature)
            self.head.bias.copy_(torch.from_numpy(head.bias) / head.temperature)


@final
class FeaturesAndScores(nn.Module):
    """Features and scores in one pass: what a method without labels sees of a ``Grown``."""

    def __init__(self, grown: Grown) -> None:
        super().__init__()
        self.grown = grown

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, c, h, w) to (n, d) and (n, classes)."""
        features = self.grown.features(x)
        return features, self.grown.scores(features)
