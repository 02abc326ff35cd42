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
from greffon.training.judging import FeatureRow, Judge, Keep, Looked, TargetRow, judge_target
from greffon.training.recipe import Recipe
from greffon.training.source import Source

__all__ = ["Adaptation", "Objective", "Seen", "TargetStream"]

#: Images at most by whose features an epoch is judged.
_MOST = 2000

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
    shares
        float32 (n,): of all the target's images, the share that was given the same label.
    """

    features: Tensor
    logits: Tensor
    labels: Tensor | None = None
    shares: Tensor | None = None


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
    looks
        In how many different views each of the target's images comes in a step: its rows come view by view, so that with two the
        first half of the features are of the one view, the second half of the other.
    fresh
        Whether the method's own module is drawn anew at the beginning of every epoch.
    settle
        Of the own module, and of the features (m, d) and the labels (m,) that ``relabel`` saw and gave: where the epoch begins, without
        gradients. None: at what was drawn.
    judge
        Of what the target's images look like after an epoch: how epochs are compared. The last view is then kept out of
        training, where there are more views than it needs. None: by the scores, see ``training.judging``.
    """

    loss: Callable[[nn.Module, Seen | None, Seen, float], Tensor]
    modules: Callable[[int, int], nn.Module] = _nothing
    relabel: Callable[[Tensor, Tensor], Tensor] | None = None
    trains_head: bool = True
    labelled: bool = True
    looks: int = 1
    fresh: bool = False
    settle: Callable[[nn.Module, Tensor, Tensor], None] | None = None
    judge: Judge | None = None


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

    def check(self, labelled: int, recipe: Recipe) -> None:
        """Raise DataError or OptionError where it cannot be done with so many labelled images, or this recipe."""
        if self.objective.labelled != bool(labelled):
            wanted = "labelled images to learn from" if self.objective.labelled else "the target alone, and no labelled images"
            raise DataError(f"this method of adaptation takes {wanted}, got {labelled}")
        if recipe.gradual and not self.objective.trains_head:
            raise OptionError(f"Recipe: gradual must be 0 where the head is not trained, got {recipe.gradual}")
        if recipe.patience and self.objective.judge is None:
            raise OptionError(f"Recipe: patience must be 0 for adaptation, got {recipe.patience}",
                              hint="Validation is of the source, and does not tell when the target is learned.")  # fmt: skip


@final
class TargetStream:
    """The target in one training run: its batches, the method's own module, its figures. It changes as the run goes."""

    def __init__(self, adaptation: Adaptation, grown: Grown, source: Source, recipe: Recipe, fabric: Any) -> None:
        self.adaptation = adaptation
        self._objective = adaptation.objective
        self._grown, self._source, self._recipe, self._fabric = grown, source, recipe, fabric
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(recipe.seed)
            self.own = self._objective.modules(grown.head.in_features, grown.head.out_features)
        self.own.to(fabric.device)
        self._labels: Tensor | None = None
        self._before: Tensor | None = None
        self._total, self._count = 0.0, 0
        objective, views = self._objective, source.views
        #: The view that is judged by and, where enough are left, not trained on.
        self._kept_out = views - 1 if objective.judge is not None else 0
        self._views = views - 1 if self._kept_out and views > max(objective.looks, 1) else views
        if objective.looks > self._views:
            raise OptionError(f"--views must be {objective.looks} or more for this method, got {views}")

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
        if self._objective.fresh:
            drawn = self._objective.modules(self._grown.head.in_features, self._grown.head.out_features)
            self.own.load_state_dict(drawn.state_dict())
        if self._objective.relabel is None:
            return
        features, logits = self.look(network)
        self._labels = self._objective.relabel(features, logits)
        if self._objective.settle is not None:
            with torch.no_grad():
                self._objective.settle(self.own, features, self._labels)

    def draw(self, number: int, sizes: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The target's images of every step of an epoch: which of them, int64 (k,), and in which views.

        All of them come before one comes again; an epoch that is shorter than the target has a part of them, drawn anew. Where a
        method looks at several views of each, k is so many times the step's size: all images in a first view, then all of
        them in a second one.
        """
        rng = np.random.default_rng([self._recipe.seed, number, 1])
        total = sum(sizes)
        order = np.concatenate([rng.permutation(len(self)) for _ in range(math.ceil(total / len(self)))])[:total]
        ends = np.cumsum(sizes)[:-1]
        if self._objective.looks == 1:
            views = rng.integers(0, self._views, total)
            return list(zip(np.split(order, ends), np.split(views, ends), strict=True))
        different = np.argsort(rng.random((total, self._views)), axis=1)[:, : self._objective.looks]
        return [
            (np.tile(some, self._objective.looks), looks.T.ravel())
            for some, looks in zip(np.split(order, ends), np.split(different, ends), strict=True)
        ]

    def loss(self, features: Tensor, logits: Tensor, which: np.ndarray, done: float) -> Tensor:
        """The method's loss of a step: labelled images first, then as many of the target as ``which`` names."""
        n = len(features) - len(which)
        labels = shares = None
        if self._labels is not None:
            labels = self._labels[torch.from_numpy(which).to(self._labels.device)]
            shares = torch.bincount(self._labels)[labels].float() / len(self._labels)
        source = Seen(features[:n], logits[:n]) if n else None
        loss = self._objective.loss(self.own, source, Seen(features[n:], logits[n:], labels, shares), done)
        self._total += loss.item() * len(which)
        self._count += len(which)
        return loss

    def look(self, network: nn.Module, batch: int = 32) -> tuple[Tensor, Tensor]:
        """Features and scores of all the target's plain images, float32 (m, d) and (m, c)."""
        return self._look(network, self.adaptation.target, 0, batch)

    def _look(self, network: nn.Module, positions: np.ndarray, view: int, batch: int = 32) -> tuple[Tensor, Tensor]:
        """Features and scores of one view of some images."""
        network.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(positions), batch):
                some = positions[start : start + batch]
                parts.append(network(self._source.batch(some, np.full(len(some), view, np.int64)).to(self._fabric.device)))
        features, logits = zip(*parts, strict=True)
        return torch.cat(features), torch.cat(logits)

    @property
    def _loss(self) -> float | None:
        """The method's, its mean over the epoch up to here."""
        return self._total / self._count if self._count else None

    def judge(self, network: nn.Module, before: Sequence[TargetRow]) -> TargetRow | None:
        """The figures of an epoch, or None where the scores are no numbers."""
        logits = self.look(network)[1]
        if not torch.isfinite(logits).all():
            return None
        return judge_target(logits, self._loss, before)

    def judge_features(self, network: nn.Module, judge: Judge, before: Sequence[FeatureRow]) -> FeatureRow | None:
        """The figures of an epoch without classes, or None where the features are no numbers."""
        plain, _ = self._look(network, self._judged, 0)
        other = self._look(network, self._judged, self._kept_out)[0] if self._kept_out else plain
        if not (torch.isfinite(plain).all() and torch.isfinite(other).all()):
            return None
        row = judge(Looked(plain, other, self._before), self._loss, before)
        self._before = plain
        return row

    def stand_at(self, network: nn.Module) -> None:
        """After going on from a checkpoint: what the last judged epoch looked like, which the next one is compared with."""
        if self._objective.judge is not None:
            self._before, _ = self._look(network, self._judged, 0)

    @property
    def _judged(self) -> np.ndarray:
        """The images that epochs are judged by: all of them, or so many of many."""
        target = self.adaptation.target
        return target[np.linspace(0, len(target) - 1, min(len(target), _MOST)).astype(np.int64)]
