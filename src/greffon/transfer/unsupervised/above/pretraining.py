"""Self-supervised training above the cut: the table of methods, and the function that trains with one of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from greffon.backbones import Backbone
from greffon.errors import BackboneError, DataError, OptionError
from greffon.heads import Normaliser, Representation
from greffon.model.upper import feature_widths, upper_pooled
from greffon.progress import Progress
from greffon.training import Adaptation, Grown, Recipe, Samples, Source, Trained, fit
from greffon.transfer.unsupervised.above.clustering import DeepCluster
from greffon.transfer.unsupervised.above.contrastive import SimCLR
from greffon.transfer.unsupervised.above.judging import judge_epoch
from greffon.transfer.unsupervised.above.method import SelfSupervised
from greffon.transfer.unsupervised.above.redundancy import BarlowTwins, VICReg

__all__ = ["LEAST_IMAGES", "SELF_SUPERVISED", "features_above", "pretrain_above", "ready_to_pretrain"]

#: Every method by its name.
SELF_SUPERVISED: Mapping[str, SelfSupervised] = {
    "simclr": SimCLR(),
    "vicreg": VICReg(),
    "barlow": BarlowTwins(),
    "deepcluster": DeepCluster(),
}

#: Fewer images teach nothing: a method needs others to tell one from.
LEAST_IMAGES = 8

#: What a loss reads: the pooled last stage, every feature standardised.
_LOOK = Representation("last", "mean", "standard")


def features_above(network: Backbone, cut: str, source: Source, positions: np.ndarray, block: int = 128) -> np.ndarray:
    """The mean of the last stage's map, of the plain view of images: float32 (k, d)."""
    width = feature_widths(network, cut)[-1]
    parts = [np.zeros((0, width), np.float32)]
    for start in range(0, len(positions), block):
        some = positions[start : start + block]
        maps = source.batch(some, np.zeros(len(some), np.int64)).numpy()
        parts.append(_LOOK.take(upper_pooled(network, cut, maps), feature_widths(network, cut)))
    return np.concatenate(parts)


def ready_to_pretrain(network: Backbone, cut: str, source: Source, images: np.ndarray) -> Grown:
    """A copy of the stages above the cut, and the normalisation of what they give now; ``network`` stays as it is.

    Parameters
    ----------
    images
        int64 (m,): positions in the source.

    Raises
    ------
    BackboneError
        The cut stands above the last stage, or there is no such stage.
    DataError
        Too few images, or images that all look the same to the network.
    """
    if network.position(cut) == len(network.stages):
        raise BackboneError(f"there is no stage above the cut {cut!r}, so nothing to train",
                            hint=f"Give one of {', '.join(network.stages)}, or all.")  # fmt: skip
    if len(images) < LEAST_IMAGES:
        raise DataError(f"self-supervised training needs {LEAST_IMAGES} different images or more, got {len(images)}")
    features = features_above(network, cut, source, images)
    spread = float(np.abs(features - features[0]).max())
    if not spread > 1e-4 * max(float(np.abs(features).max()), 1e-30):
        raise DataError(f"all {len(images)} images look the same to the network: there is nothing to tell apart")
    span = copy.deepcopy(network.above(cut))
    return Grown(span, _LOOK, Normaliser.fit(features, _LOOK.norm), 1, with_input=network.position(cut) > 0)


def pretrain_above(
    grown: Grown,
    source: Source,
    images: np.ndarray,
    method: str | SelfSupervised,
    recipe: Recipe,
    *,
    progress: Progress,
    configuration: Mapping[str, Any] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Trained:
    """Train the stages above the cut on views of images without labels. ``grown`` is trained in place.

    The epoch that is kept is the best by figures without labels (``judge_epoch``); epoch 0 is the pretrained network, so that
    a run that gains nothing leaves it as it was.

    Parameters
    ----------
    source
        Activations at the cut, in views. The last view is judged by and not trained on, where there are three or more.
    images
        int64 (m,): which images, by their positions in ``source``. There is no parameter for labels.
    method
        A name of ``SELF_SUPERVISED``, or a method with other numbers.
    configuration, checkpoint, resume
        As of ``training.fit``; the recipe and the method, with its numbers, are kept with the configuration.

    Raises
    ------
    OptionError
        There is no such method, or the recipe or the views do not suit it.
    ModelError, StoreError
        As of ``training.fit``.
    """
    if isinstance(method, str) and method not in SELF_SUPERVISED:
        raise OptionError(f"method must be one of {', '.join(SELF_SUPERVISED)}, got {method!r}")
    chosen = SELF_SUPERVISED[method] if isinstance(method, str) else method
    objective = replace(chosen.objective(), judge=judge_epoch)
    about = {"name": type(chosen).__name__, **asdict(chosen), "images": len(images)}
    nobody = Samples(np.zeros(0, np.int64), np.zeros(0, np.int64))
    return fit(
        grown,
        source,
        nobody,
        None,
        recipe,
        progress=progress,
        configuration={**(configuration or {}), "recipe": recipe.to_dict(), "method": about},
        checkpoint=checkpoint,
        resume=resume,
        adaptation=Adaptation(images, objective),
    )
