"""The feature methods by name, and how one of them is run on several representations of the same photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.heads import Normaliser, Representation
from greffon.transfer.transductive.adapting import (
    CorrelationAlignment,
    FeatureMethod,
    JointDistributions,
    PerDomainStatistics,
    SourceOnly,
    SubspaceAlignment,
    TransferComponents,
)
from greffon.transfer.transductive.domains import Labelled, Unlabelled
from greffon.transfer.transductive.graphs import LabelPropagation, ManifoldAlignment
from greffon.transfer.transductive.mixtures import ShiftedMixture
from greffon.transfer.transductive.structured import SelfTraining, StructuredPrediction
from greffon.transfer.transductive.transport import OptimalTransport

__all__ = ["LOOKS", "METHODS", "Domains", "look_at"]

#: Every feature method, with the settings whose guesses are joined: no label says which of them is right.
METHODS: Mapping[str, tuple[FeatureMethod, ...]] = {
    "source-only": (SourceOnly(),),
    "per-domain": (PerDomainStatistics(),),
    "coral": (CorrelationAlignment(),),
    "subspace": (SubspaceAlignment(dimensions=32), SubspaceAlignment(dimensions=64)),
    "tca": (TransferComponents(dimensions=32), TransferComponents(dimensions=64)),
    "jda": (JointDistributions(),),
    "bda": (JointDistributions(balance=0.2), JointDistributions(balance=0.8)),
    "optimal-transport": (OptimalTransport(),),
    "label-propagation": (LabelPropagation(),),
    "self-training": (SelfTraining(),),
    "meda": (ManifoldAlignment(),),
    "spl": (StructuredPrediction(), StructuredPrediction(centred=True)),
    "mixture": (ShiftedMixture(),),
}

#: What of the backbone's output the methods look at, one after the other. They err differently on each.
LOOKS = (
    Representation("last", "mean", "sqrt-l2"),
    Representation("last", "max", "l2"),
    Representation("last", "mean+max", "sqrt-l2"),
)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Domains:
    """Both domains in one representation."""

    representation: Representation
    source: Labelled
    target: Unlabelled


def look_at(
    source: np.ndarray, labels: np.ndarray, classes: int, target: np.ndarray, widths: Sequence[int],
    looks: Sequence[Representation] = LOOKS,
) -> tuple[Domains, ...]:  # fmt: skip
    """Pooled records of both domains in every representation, rows normalised one by one and not yet centred."""
    found = []
    for look in looks:
        own, other = (_rows(look.take(one, widths), look.norm) for one in (source, target))
        found.append(Domains(look, Labelled(own, labels, classes), Unlabelled(other)))
    return tuple(found)


def _rows(features: np.ndarray, norm: str) -> np.ndarray:
    """Each image's vector as the norm has it, by a normaliser that moves and scales nothing."""
    width = features.shape[1]
    return Normaliser(norm, np.zeros(width, np.float32), np.ones(width, np.float32)).apply(features)
