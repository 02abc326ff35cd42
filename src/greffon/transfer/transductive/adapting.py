"""The feature methods that align first and then learn on the source, and what all feature methods share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import numpy as np

from greffon.heads import fit_head
from greffon.transfer.transductive.aligning import (
    coral,
    directions_apart,
    joint_scatter,
    per_domain,
    subspace_alignment,
    transfer_components,
)
from greffon.transfer.transductive.domains import Labelled, Unlabelled

__all__ = [
    "CorrelationAlignment",
    "FeatureMethod",
    "JointDistributions",
    "PerDomainStatistics",
    "SourceOnly",
    "SubspaceAlignment",
    "TransferComponents",
    "learn_and_tell",
    "unit_scale",
]


class FeatureMethod(Protocol):
    """Classes for a target without labels. A frozen dataclass, whose fields are its knobs."""

    def probabilities(self, source: Labelled, target: Unlabelled, seed: int) -> np.ndarray:
        """float64 (m, classes) for the images of the target, rows of which sum to 1. The same seed gives the same."""
        ...


def learn_and_tell(
    x: np.ndarray, labels: np.ndarray, classes: int, target: np.ndarray, strength: float = 1.0
) -> np.ndarray:
    """Logistic regression on features (n, d), and what it says of others: float64 (m, classes).

    A class without images gets no probability; where one class alone has images, it gets all.
    """
    present = np.unique(labels)
    if len(present) < 2:
        return np.tile(np.eye(classes)[present[0]], (len(target), 1))
    head = fit_head("logistic", x.astype(np.float32), labels, classes, strength)
    return head.probabilities(target.astype(np.float32))


def unit_scale(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Moved and scaled so that ``like`` would have mean 0 and the mean squared length 1."""
    centre = like.mean(0)
    length = float(np.sqrt(((like - centre) ** 2).sum(1).mean()))
    return (x - centre) / (length if length > 1e-12 else 1.0)


def _learned(own: np.ndarray, source: Labelled, other: np.ndarray, strength: float) -> np.ndarray:
    """Learned on the source where an alignment has put it, in its units, and asked of the target there."""
    return learn_and_tell(unit_scale(own, own), source.labels, source.classes, unit_scale(other, own), strength)


@final
@dataclass(frozen=True, slots=True)
class SourceOnly:
    """No adaptation: what is learned on the source is asked of the target."""

    strength: float = 1.0

    def probabilities(self, source: Labelled, target: Unlabelled, seed: int) -> np.ndarray:
        return _learned(source.features, source, target.features, self.strength)


@final
@dataclass(frozen=True, slots=True)
class PerDomainStatistics:
    """See ``aligning.per_domain``."""

    strength: float = 1.0

    def probabilities(self, source: Labelled, target: Unlabelled, seed: int) -> np.ndarray:
        own, other = per_domain(source.features, target.features)
        return learn_and_tell(own, source.labels, source.classes, other, self.strength)


@final
@dataclass(frozen=True, slots=True)
class CorrelationAlignment:
    """See ``aligning.coral``."""

    regularisation: float = 1.0
    strength: float = 1.0

    def probabilities(self, source: Labelled, target: Unlabelled, seed: int) -> np.ndarray:
        own, other = coral(source.features, target.features, regularisation=self.regularisation)
        return _learned(own, source, other, self.strength)


@final
@dataclass(frozen=True, slots=True)
class SubspaceAlignment:
    """See ``aligning.subspace_alignment``."""

    dimensions: int = 64
    strength: float = 1.0

    def probabilities(self, source: Labelled, target: Unlabelled, seed: int) -> np.ndarray:
        own, other = subspace_alignment(source.features, target.features, dimensions=self.dimensions)
        return _learned(own, source, other, self.strength)


@final
@dataclass(frozen=True, slots=True)
class TransferComponents:
    """See ``aligning.transfer_components``."""

    dimensions: int = 64
    regularisation: float = 1.0
    strength: float = 1.0

    def probabilities(self, source: Labelled, target: Unlabelled, seed: int) -> np.ndarray:
        own, other = transfer_components(
            source.features, target.features, dimensions=self.dimensions, regularisation=self.regularisation
        )
        return _learned(own, source, other, self.strength)


@final
@dataclass(frozen=True, slots=True)
class JointDistributions:
    """Means of the domains and means of each class made alike, with pseudo-labels in the target that are renewed.

    ``balance`` 0.5 and weights as in Long et al. (2013, ICCV, equation 8) is joint distribution adaptation; other values
    weigh the marginal (0) against the conditional distributions (1): balanced distribution adaptation (Wang et al. 2017,
    arXiv:1807.00516, equation 6). With the linear kernel, as in ``aligning.transfer_components``.
    """

    balance: float = 0.5
    dimensions: int = 64
    regularisation: float = 1.0
    rounds: int = 10
    strength: float = 1.0

    def probabilities(self, source: Labelled, target: Unlabelled, seed: int) -> np.ndarray:
        x, y, other = source.features, source.labels, target.features
        scatter = joint_scatter(np.concatenate([x, other]))
        apart = x.mean(0, dtype=np.float64) - other.mean(0, dtype=np.float64)
        guess, labels = np.zeros((len(other), source.classes)), None
        for _ in range(self.rounds):
            differences = [(apart, 2 * (1 - self.balance))]
            for c in np.unique(y) if labels is not None else ():
                theirs = other[labels == c]
                if len(theirs):
                    between = x[y == c].mean(0, dtype=np.float64) - theirs.mean(0, dtype=np.float64)
                    differences.append((between, 2 * self.balance))
            directions = directions_apart(differences, scatter, self.dimensions, self.regularisation)
            own, told = x @ directions, other @ directions
            guess = learn_and_tell(unit_scale(own, own), y, source.classes, unit_scale(told, own), self.strength)
            if labels is not None and (guess.argmax(1) == labels).all():
                break
            labels = guess.argmax(1)
        return guess
