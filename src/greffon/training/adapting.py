"""The second stream of the loop: images without labels, and what a method makes small with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from greffon.errors import DataError, OptionError
from greffon.training.groups import Group
from greffon.training.grown import Grown
from greffon.training.judging import Keep, TargetRow, judge_target
from greffon.training.recipe import Recipe
from greffon.training.source import Source

__all__ = ["Adaptation", "Objective", "Seen", "TargetStream"]

#: The learning rate of a method's own module, in that of the topmost stage.
_OWN = 10.0


@final
@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the network makes of the images of one domain in one step.

    Parameters
    ----------
    features
        float32 (n, d): what the linear layer sees, before dropout.
    logits
        float32 (n, c): the scores of the classes.
    labels
        int64 (n,): what ``Objective.relabel`` gave these images at the beginning of the epoch. Nobody else's labels come here.
    """

    features: Tensor
    logits: Tensor
    labels: Tensor | None = None


def _nothing(features: int, classes: int) -> nn.Module:
    return nn.Identity()


@final
@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """A method of adaptation, as the loop needs to know it: pure functions.

    Parameters
    ----------
    loss
        Of the method's own module, the labelled images (None where there are none), the target's images, and how far the
        training is, from 0 to 1: a scalar that is added to the classification loss of the labelled images.
    modules
        Of the number of features and of classes: what else is to be trained, such as a discriminator. Its random numbers
        come from the seed of the recipe. It has ten times the learning rate of the topmost stage, as in the papers: with the
        head's, a discriminator was sure of every image before the features had moved, and with the stage's own the features left
        it behind (its loss went to 2.6, where guessing has 0.69).
    relabel
        Of the features (m, d) and the scores (m, c) of all the target's plain images, at the beginning of every epoch:
        labels, int64 (m,). None: the method has no use for any.
    trains_head
        Whether the linear layer is trained.
    labelled
        Whether there are labelled images at all.
    """

    loss: Callable[[nn.Module, Seen | None, Seen, float], Tensor]
    modules: Callable[[int, int], nn.Module] = _nothing
    relabel: Callable[[Tensor, Tensor], Tensor] | None = None
    trains_head: bool = True
    labelled: bool = True


@final
@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """What ``fit`` needs to adapt to a target without labels.

    Parameters
    ----------
    target
        int64 (m,): its images, by their positions in the source. There is no field for labels.
    objective
        The method.
    keep
        How the epoch is chosen that is kept: see ``training.judging``.

    Raises
    ------
    DataError
        No positions, or none that could be.
    """

    target: np.ndarray
    objective: Objective
    keep: Keep = "last"

    def __post_init__(self) -> None:
        if self.target.ndim != 1 or not len(self.target) or self.target.dtype.kind not in "iu":
            raise DataError(f"target: positions must be whole numbers (m,), one or more, got {self.target.dtype} {self.target.shape}")
        if self.keep not in ("last", "information", "density"):
            raise OptionError(f"Adaptation: keep must be last, information or density, got {self.keep!r}")


@final
class TargetStream:
    """The target in one training run: its batches, the method's own module, its figures. It changes as the run goes."""

    def __init__(self, adaptation: Adaptation, grown: Grown, source: Source, recipe: Recipe, fabric: Any) -> None:
        self.adaptation = adaptation
        self._objective = adaptation.objective
        self._source, self._recipe, self._fabric = source, recipe, fabric
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(recipe.seed)
            self.own = self._objective.modules(grown.head.in_features, grown.head.out_features)
        self.own.to(fabric.device)
        self._labels: Tensor | None = None
        self._total, self._count = 0.0, 0

    def __len__(self) -> int:
        return len(self.adaptation.target)

    def groups(self, stage: int) -> list[Group]:
        """The parameters of the method's own module."""
        rate, decay = _OWN * self._recipe.learning_rate, self._recipe.weight_decay
        plain = tuple(p for p in self.own.parameters() if p.ndim <= 1)
        decayed = tuple(p for p in self.own.parameters() if p.ndim > 1)
        return [Group(stage, rate, one, some) for one, some in ((decay, decayed), (0.0, plain)) if some]

    def begin_epoch(self, network: nn.Module) -> None:
        """Give the target's images the method's labels, if it has use for any. ``network`` gives features and scores."""
        self._total, self._count = 0.0, 0
        self.own.train()
        if self._objective.relabel is not None:
            self._labels = self._objective.relabel(*self.look(network))

    def draw(self, number: int, sizes: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The target's images of every step of an epoch: which of them, int64 (k,), and in which views.

        All of them come before one comes again; an epoch that is shorter than the target has a part of them, drawn anew.
        """
        rng = np.random.default_rng([self._recipe.seed, number, 1])
        total = sum(sizes)
        order = np.concatenate([rng.permutation(len(self)) for _ in range(math.ceil(total / len(self)))])[:total]
        views = rng.integers(0, self._source.views, total)
        ends = np.cumsum(sizes)[:-1]
        return list(zip(np.split(order, ends), np.split(views, ends), strict=True))

    def loss(self, features: Tensor, logits: Tensor, which: np.ndarray, done: float) -> Tensor:
        """The method's loss of a step: labelled images first, then as many of the target as ``which`` names."""
        n = len(features) - len(which)
        labels = None if self._labels is None else self._labels[torch.from_numpy(which).to(self._labels.device)]
        source = Seen(features[:n], logits[:n]) if n else None
        loss = self._objective.loss(self.own, source, Seen(features[n:], logits[n:], labels), done)
        self._total += loss.item() * len(which)
        self._count += len(which)
        return loss

    def look(self, network: nn.Module, batch: int = 32) -> tuple[Tensor, Tensor]:
        """Features and scores of all the target's plain images, float32 (m, d) and (m, c)."""
        network.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(self), batch):
                some = self.adaptation.target[start : start + batch]
                parts.append(network(self._source.batch(some, np.zeros(len(some), np.int64)).to(self._fabric.device)))
        features, logits = zip(*parts, strict=True)
        return torch.cat(features), torch.cat(logits)

    def judge(self, network: nn.Module, before: Sequence[TargetRow]) -> TargetRow | None:
        """The figures of an epoch, or None where the scores are no numbers."""
        logits = self.look(network)[1]
        if not torch.isfinite(logits).all():
            return None
        return judge_target(logits, self._total / self._count if self._count else None, before)
