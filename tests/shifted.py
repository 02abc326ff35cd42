"""Two domains of drawn activations, whose classes are the same ones in other surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from greffon.heads import Representation
from greffon.training import Grown, Recipe, Samples
from greffon.transfer.inductive import Start, grown_on, prepare, record_shape
from growing import Held, drawn_network

__all__ = ["CUT", "NETWORK", "Domains", "accuracy", "begun", "features_of", "shifted"]

NETWORK = drawn_network()
CUT = "layer3"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Domains:
    """Both domains' images, the source's labels, a few of its images to validate on, and the target.

    ``truth``, the target's labels, is for the test alone.
    """

    source: Held
    labelled: Samples
    val: Samples
    target: np.ndarray
    truth: np.ndarray
    start: Start


def shifted(n: int = 96, m: int = 90, classes: int = 3, shift: float = 1.0, noise: float = 1.0, seed: int = 0) -> Domains:
    """Classes are directions in the channels. In the target every image is moved by one offset, and the channels are weaker."""
    rng = np.random.default_rng(seed)
    c, h, w = record_shape(NETWORK, CUT)
    v, labels = n // 4, rng.permutation(np.arange(n + n // 4 + m) % classes).astype(np.int64)
    centres = rng.normal(size=(classes, c, 1, 1))
    maps = centres[labels][None] + noise * rng.normal(size=(2, len(labels), c, h, w))
    offset, stretch = rng.normal(size=(c, 1, 1)), np.exp(-rng.uniform(0, 1, size=(c, 1, 1)))
    there = np.arange(n + v, n + v + m)
    maps[:, there] = maps[:, there] * stretch**shift + shift * offset
    source = Held(maps.astype(np.float32))
    labelled = Samples(np.arange(n), labels[:n])
    start = prepare(NETWORK, CUT, source, labelled, classes, Representation())
    return Domains(source, labelled, Samples(np.arange(n, n + v), labels[n : n + v]), there, labels[there], start)


def begun(domains: Domains, recipe: Recipe) -> Grown:
    """Stages with a head that was fitted on the source."""
    grown = grown_on(NETWORK, domains.start, recipe)
    grown.begin_at(domains.start.head())  # type: ignore[arg-type]  # logistic regression is linear
    return grown


def features_of(grown: Grown, domains: Domains, positions: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and scores of plain images."""
    with torch.no_grad():
        features = grown.eval().features(domains.source.batch(positions, np.zeros(len(positions), np.int64)))
        return features, grown.head(features)


def accuracy(grown: Grown, domains: Domains) -> float:
    """On the target."""
    return float((features_of(grown, domains, domains.target)[1].argmax(1).numpy() == domains.truth).mean())
