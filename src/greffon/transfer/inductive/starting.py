"""Where fine-tuning begins: the features of the pretrained stages, and the module that is trained."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.backbones import Backbone
from greffon.errors import OptionError
from greffon.heads import Head, Normaliser, Representation, fit_head
from greffon.model.upper import feature_widths, upper_pooled
from greffon.training import Grown, Recipe, Samples, Source

__all__ = ["TRAINED", "Start", "check_trainable", "grown_on", "prepare"]

#: What the head of a fine-tuning is given, unless the user has chosen. Of seven folds of flowers, litter, photos and paintings,
#: vectors of length 1 named 0.5 points more rightly than standardised ones, and with a lower log-loss from the first epoch on.
TRAINED = Representation("last", "mean", "l2")


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
