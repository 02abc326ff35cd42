"""Fine-tuning: the cut stands below some stages, which are trained with a new head from what was kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from greffon.backbones import Backbone, blueprint
from greffon.heads import LinearHead, Normaliser, Representation, fit_temperature
from greffon.model.upper import feature_widths, upper_pooled
from greffon.progress import Progress
from greffon.training import EpochListener, EpochRow, Grown, RateCurve, Recipe, Samples, Source, find_rate, fit
from greffon.transfer.inductive.ordering import Launcher, TrainingOrder
from greffon.transfer.inductive.starting import Start, grown_on

__all__ = ["FineTuned", "fine_tune", "is_fine_tuned", "suggested_rate", "tuned_backbone"]

#: What the origin of tuned weights says, and that of weights that were trained on images alone.
_TUNED, _PRETRAINED = "fine-tuned with greffon", "trained without labels with greffon"


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

    def features(self, records: np.ndarray) -> np.ndarray:
        """Records at the cut, (n, ...), to what the head is given: float32 (n, d)."""
        pooled = upper_pooled(self.backbone, self.cut, records)
        return self.normaliser.apply(self.representation.take(pooled, feature_widths(self.backbone, self.cut)))

    def probabilities(self, records: np.ndarray) -> np.ndarray:
        """Records at the cut, (n, ...), to float64 (n, c)."""
        return self.head.probabilities(self.features(records))


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
    listener: EpochListener | None = None,
    launcher: Launcher | None = None,
) -> FineTuned:
    """Train the stages above the cut and a head, from the activations of ``source``.

    The epoch that is kept, and the temperature, are chosen on the validation images; without them the last epoch is
    kept, and the temperature is 1. The other parameters, and the errors, are those of ``training.fit``.

    Parameters
    ----------
    launcher
        Starts the loop in several processes; this process alone, if None. They read the activations where they are kept on the disk.
    """
    grown = grown_on(network, start, recipe)
    if launcher is None:
        trained = fit(
            grown, source, train, val, recipe, progress=progress, configuration=configuration, checkpoint=checkpoint, resume=resume,
            watch=watch, listener=listener,
        )  # fmt: skip
    else:
        order = TrainingOrder(network, start, source, train, val, recipe, configuration, checkpoint, resume)
        trained = launcher.train(order, progress=progress, listener=listener)
        grown.load_state_dict(trained.state)
        grown.requires_grad_(False).eval()
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
