"""Fine-tuning: the cut stands below some stages, which are trained with a new head from what was kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from greffon.backbones import Backbone, blueprint
from greffon.errors import OptionError
from greffon.heads import Head, LinearHead, Normaliser, Representation, fit_head, fit_temperature
from greffon.model.upper import feature_widths, upper_pooled
from greffon.progress import Progress
from greffon.training import EpochRow, Grown, RateCurve, Recipe, Samples, Source, find_rate, fit

__all__ = [
    "FineTuned",
    "Start",
    "check_trainable",
    "fine_tune",
    "grown_on",
    "is_fine_tuned",
    "prepare",
    "suggested_rate",
    "tuned_backbone",
]

#: What the origin of tuned weights says, and that of weights that were trained on images alone.
_TUNED, _PRETRAINED = "fine-tuned with greffon", "trained without labels with greffon"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Where fine-tuning begins: the features of the pretrained stages, and how they are normalised.

    Parameters
    ----------
    features
        float32 (n, d): of the plain training images, normalised.
    """

    cut: str
    representation: Representation
    normaliser: Normaliser
    features: np.ndarray
    labels: np.ndarray
    classes: int

    def head(self, strength: float = 1.0, *, balanced: bool = False) -> Head:
        """Logistic regression on the features: a head to begin at."""
        return fit_head("logistic", self.features, self.labels, self.classes, strength, balanced=balanced)


@final
@dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """What fine-tuning gives: all that a ``Model`` needs, and how it went."""

    backbone: Backbone
    cut: str
    representation: Representation
    normaliser: Normaliser
    head: LinearHead
    recipe: Recipe
    history: tuple[EpochRow, ...]
    best_epoch: int
    stopped: str

    def probabilities(self, records: np.ndarray) -> np.ndarray:
        """Records at the cut, (n, ...), to float64 (n, c)."""
        features = self.representation.take(upper_pooled(self.backbone, self.cut, records), feature_widths(self.backbone, self.cut))
        return self.head.probabilities(self.normaliser.apply(features))


def prepare(
    network: Backbone, cut: str, source: Source, train: Samples, classes: int, representation: Representation, *, block: int = 256
) -> Start:
    """Run the pretrained stages above the cut once over the plain training images.

    Raises OptionError for features that cannot be trained through, and for a cut above the last stage.
    """
    if cut == "none":
        raise OptionError("fine-tuning needs a stage to train, got unfreeze 'none'", hint=f"The stages are: {', '.join(network.stages)}.")
    check_trainable(representation)
    parts = []
    for start in range(0, len(train), block):
        some = train.positions[start : start + block]
        maps = source.batch(some, np.zeros(len(some), np.int64)).cpu().numpy()
        parts.append(representation.take(upper_pooled(network, cut, maps), feature_widths(network, cut)))
    features = np.concatenate(parts)
    normaliser = Normaliser.fit(features, representation.norm)
    return Start(cut, representation, normaliser, normaliser.apply(features), train.labels, classes)


def check_trainable(representation: Representation) -> None:
    """Raise OptionError for features that cannot be trained through."""
    if representation.pool == "flatten" or representation.norm == "sqrt-l2":
        raise OptionError(
            f"fine-tuning trains through pooled features with the norm standard or l2, got {representation}",
            hint="Give --pool mean, max or mean+max, and --norm standard or l2, or leave them away.",
        )


def grown_on(network: Backbone, start: Start, recipe: Recipe) -> Grown:
    """A copy of the stages above the cut with a head that is to be learned; the backbone stays as it is."""
    span = copy.deepcopy(network.above(start.cut))
    below = network.position(start.cut) > 0
    return Grown(span, start.representation, start.normaliser, start.classes, with_input=below, dropout=recipe.dropout)


def fine_tune(
    network: Backbone,
    source: Source,
    start: Start,
    train: Samples,
    val: Samples | None,
    recipe: Recipe,
    *,
    progress: Progress,
    configuration: Mapping[str, Any] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    watch: Callable[[EpochRow], bool] | None = None,
) -> FineTuned:
    """Train the stages above the cut and a head, from the activations of ``source``.

    The epoch that is kept, and the temperature, are chosen on the validation images; without them the last epoch is
    kept, and the temperature is 1. The other parameters, and the errors, are those of ``training.fit``.
    """
    grown = grown_on(network, start, recipe)
    trained = fit(
        grown, source, train, val, recipe, progress=progress, configuration=configuration, checkpoint=checkpoint, resume=resume, watch=watch
    )
    tuned = FineTuned(
        backbone=tuned_backbone(network, start.cut, grown),
        cut=start.cut,
        representation=start.representation,
        normaliser=start.normaliser,
        head=grown.linear_head(),
        recipe=recipe,
        history=trained.history,
        best_epoch=trained.best_epoch,
        stopped=trained.stopped,
    )
    if val is None or not len(val):
        return tuned
    scores = np.log(np.maximum(_probabilities_of(tuned, source, val), 1e-300))
    return replace(tuned, head=replace(tuned.head, temperature=fit_temperature(scores, val.labels)))


def suggested_rate(network: Backbone, source: Source, start: Start, train: Samples, recipe: Recipe, *, progress: Progress) -> RateCurve:
    """The learning-rate range test for a recipe: see ``training.find_rate``."""
    return find_rate(grown_on(network, start, recipe), source, train, recipe, progress=progress)


def tuned_backbone(network: Backbone, cut: str, grown: Grown, *, labels: bool = True) -> Backbone:
    """The backbone with the trained stages in the place of its own; its old classifier does not go with them.

    ``labels``: whether those of images had a part in it. What the origin of the weights says of an earlier training of this or the other
    kind stays: stages that were not trained now may come from it.
    """
    tensors = network.tensors()
    stages = network.plan.stages[network.position(cut) :]
    for stage, trained in zip(stages, grown.span.stages, strict=True):
        for link, module in zip(stage.links, trained, strict=True):  # type: ignore[call-overload]  # a ModuleList
            for name, tensor in module.state_dict().items():
                tensors[f"{link}.{name}"] = tensor.detach().cpu().to(memory_format=torch.contiguous_format).clone()
    entry, names = network.plan.entry, ", ".join(stage.name for stage in stages)
    # The name stays, for it says how the network is built; whose weights they are is no longer the same.
    how = _TUNED if labels else _PRETRAINED
    earlier = [part for part in entry.weights_of.split("; ") if not part.endswith(how)]
    whose = "; ".join([*earlier, f"{names} {how}"])
    tuned = replace(entry, weights_of=whose, fingerprint="", wheel=None, download=None, hub="")
    return Backbone(blueprint(tuned), tensors)


def is_fine_tuned(network: Backbone) -> bool:
    """Whether greffon has trained some of its stages. They know the labels of the images that they were trained on: a
    cross-validation of what is above them, on the same images, is no measure of new ones.
    """
    return any(part.endswith(_TUNED) for part in network.plan.entry.weights_of.split("; "))


def _probabilities_of(tuned: FineTuned, source: Source, samples: Samples, block: int = 256) -> np.ndarray:
    parts = []
    for start in range(0, len(samples), block):
        some = samples.positions[start : start + block]
        parts.append(tuned.probabilities(source.batch(some, np.zeros(len(some), np.int64)).cpu().numpy()))
    return np.concatenate(parts)
