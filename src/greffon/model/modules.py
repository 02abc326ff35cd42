"""From what the network sees to probabilities, as modules of PyTorch: the trunk below, and the crown that was grown on it."""

from __future__ import annotations

import copy
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from greffon.backbones import stage_shapes
from greffon.heads import LinearHead, NeighbourHead
from greffon.model.value import Model

__all__ = ["Crown", "PooledCrown", "Trunk", "has_maps", "taken_stages"]


def taken_stages(model: Model) -> range:
    """The numbers of the stages whose outputs the features are of; see ``feature_widths``."""
    stages = len(model.backbone.stages)
    if model.representation.stages == "last":
        return range(stages - 1, stages)
    return range(0 if model.cut == "none" else max(0, model.backbone.position(model.cut) - 1), stages)


def has_maps(model: Model) -> bool:
    """Whether scores are sums over the places of the last feature map, so that class activation maps are exact.

    So it is with a linear head on mean-pooled features, each image's vector as it is or divided by its length. Features of
    several stages need stages whose sides are whole multiples of the last one's.
    """
    taken = model.representation
    if not isinstance(model.head, LinearHead) or taken.pool != "mean" or taken.norm == "sqrt-l2":
        return False
    shapes = [stage_shapes(model.backbone.plan)[number][1] for number in taken_stages(model)]
    return all(h % shapes[-1][1] == 0 and w % shapes[-1][2] == 0 for _, h, w in shapes)


@final
class Trunk(nn.Module):
    """The stages: normalised images, float32 (n, 3, height, width), to the outputs that features are taken of, from below.

    Each is float32 (n, c, h, w), whatever the stages compute in.

    Parameters
    ----------
    model
        Its tensors are copied.
    dtype
        What the stages compute in.
    start
        How many stages are left to something else: the input is then what the last of these gives.
    keep
        What the activations at the cut are rounded to, as predicting does it, instead of the model's own.
    """

    def __init__(self, model: Model, dtype: torch.dtype = torch.float32, *, start: int = 0, keep: str = "") -> None:
        super().__init__()
        span = copy.deepcopy(model.backbone.below("none"))
        self.stages = nn.ModuleList(list(span.stages)[start:]).to("cpu", dtype).requires_grad_(False)
        self._start = start
        self._dtype = dtype
        self._taken = taken_stages(model)
        chosen = keep or model.keep
        self._rounded = model.backbone.position(model.cut) - 1 if chosen and model.tap.kind == "map" else -1
        self._keep = getattr(torch, chosen or "float32")
        self.eval()

    def forward(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        x = x.to(self._dtype)
        if self._start:
            x = self._given(x, self._start - 1, found)
        for number, stage in enumerate(self.stages, self._start):
            for link in stage:  # type: ignore[attr-defined]  # a ModuleList is iterable; nn.Module hides it
                x = link(x)
            x = self._given(x, number, found)
        return found

    def _given(self, x: Tensor, number: int, found: list[Tensor]) -> Tensor:
        """The output of a stage as the next one gets it; where the features are of it, it is found, too."""
        if number == self._rounded:
            x = x.to(self._keep).to(self._dtype)
        if number in self._taken:
            # Copied: the next stage may write into its input.
            found.append(x.float().clone())
        return x


@final
class Crown(nn.Module):
    """What stands on the trunk, in float32: outputs of stages to probabilities, features and maps.

    - probabilities (n, c), after temperature and softmax
    - features (n, d): as ``Representation.take`` gives them, before the normaliser
    - maps (n, c, h', w'), where asked for: class activation maps (Zhou et al. 2016, arXiv:1512.04150, equation 2), the bias
      in every place, so that the mean over h' and w' is the score of the class before the temperature

    Parameters
    ----------
    maps
        Only where ``has_maps``.
    """

    def __init__(self, model: Model, *, maps: bool) -> None:
        super().__init__()
        self._taken = model.representation
        self._maps = maps
        self.mean, self.scale = _constant(model.normaliser.mean), _constant(model.normaliser.scale)
        head = model.head
        self._temperature = float(head.temperature)
        self._k = head.k if isinstance(head, NeighbourHead) else 0
        if isinstance(head, NeighbourHead):
            self.known = _constant(head.features)
            self.lengths = _constant((head.features**2).sum(1))
            self.votes = _constant(np.eye(head.classes)[head.labels])
        else:
            self.weight, self.bias = _constant(head.weight), _constant(head.bias)
        self.eval()

    def forward(self, outputs: list[Tensor]) -> tuple[Tensor, ...]:
        features = self.features(outputs)
        probabilities = self.probabilities(features)
        return (probabilities, features, self.class_maps(outputs, features)) if self._maps else (probabilities, features)

    def features(self, outputs: list[Tensor]) -> Tensor:
        """Outputs of the trunk to (n, d), before the normaliser."""
        return torch.cat([part for output in outputs for part in self._pooled(output)], 1)

    def probabilities(self, features: Tensor) -> Tensor:
        """(n, d), before the normaliser, to (n, c)."""
        return torch.softmax(self.scores(features) / self._temperature, 1)

    def scores(self, features: Tensor) -> Tensor:
        """(n, d), before the normaliser, to (n, c), before the temperature."""
        z = self.normalised(features)
        return self._neighbours(z) if self._k else torch.nn.functional.linear(z, self.weight, self.bias)

    def normalised(self, features: Tensor) -> Tensor:
        """(n, d), before the normaliser, to (n, d) as the head sees them."""
        rows = features
        if self._taken.norm == "sqrt-l2":
            rows = torch.sign(rows) * torch.sqrt(torch.abs(rows))
        if self._taken.norm != "standard":
            rows = rows / _length(rows)
        return (rows - self.mean) * self.scale

    def _pooled(self, output: Tensor) -> list[Tensor]:
        if self._taken.pool == "flatten":
            return [output.flatten(1)]
        means = [output.mean((2, 3))] if self._taken.pool != "max" else []
        return means + ([output.amax((2, 3))] if self._taken.pool != "mean" else [])

    def _neighbours(self, z: Tensor) -> Tensor:
        distances = self.lengths - 2 * (z @ self.known.T)
        near = torch.topk(distances, self._k, 1, largest=False).indices
        votes = self.votes[near].sum(1)
        return torch.log((votes + 1 / self.votes.shape[1]) / (self._k + 1))

    def class_maps(self, outputs: list[Tensor], features: Tensor) -> Tensor:
        """Outputs of the trunk and their ``features`` to (n, c, h', w'); only where ``has_maps``."""
        h, w = outputs[-1].shape[2:]
        coarse = [torch.nn.functional.avg_pool2d(one, (one.shape[2] // h, one.shape[3] // w)) for one in outputs[:-1]]
        stacked = torch.cat([*coarse, outputs[-1]], 1)
        if self._taken.norm == "l2":
            stacked = stacked / _length(features)[:, :, None, None]
        z = (stacked - self.mean[:, None, None]) * self.scale[:, None, None]
        return torch.nn.functional.conv2d(z, self.weight[:, :, None, None], self.bias)


@final
class PooledCrown(nn.Module):
    """A crown on the pooled record of all stages, (n, sum of 2 c), as an engine gives it: to probabilities and features."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.crown = Crown(model, maps=False)
        widths = model.backbone.widths()
        columns = model.representation.take(np.arange(2 * sum(widths), dtype=np.float32)[None], widths)[0]
        self.columns = nn.Parameter(torch.from_numpy(columns.astype(np.int64)), requires_grad=False)
        self.eval()

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        features = pooled.index_select(1, self.columns)
        return self.crown.probabilities(features), features


def _length(rows: Tensor) -> Tensor:
    return torch.sqrt((rows * rows).sum(1, keepdim=True)).clamp_min(1e-12)


def _constant(values: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(values, np.float32)), requires_grad=False)
