"""Small models to export: every kind of head and of features, on small networks with drawn weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from drawn import photo
from greffon.activations import compute, make_engine
from greffon.backbones import Backbone
from greffon.heads import Normaliser, Representation, fit_head
from greffon.model import Model, feature_widths, upper_pooled
from greffon.model.upper import tap_of
from greffon.progress import Silent
from growing import drawn_network

__all__ = ["CLASSES", "MEAN", "PHOTOS", "model_of"]

CLASSES = ("Äpfel", "b c", "d")
MEAN = Representation("last", "mean", "standard")
PHOTOS = [photo(seed, 40 + 3 * seed, 61 - 2 * seed) for seed in range(12)]


def model_of(
    head: str = "logistic",
    representation: Representation = MEAN,
    *,
    backbone: Backbone | None = None,
    cut: str = "none",
    keep: str = "",
) -> Model:
    """A model whose head is fitted on twelve drawn photos of three classes."""
    body = backbone or drawn_network()
    tap = tap_of(cut, representation)
    records = compute(PHOTOS, body, tap, make_engine(body, tap, "float32", keep=keep), store=None, progress=Silent()).all()
    pooled = records if cut == "none" else upper_pooled(body, cut, records)
    features = representation.take(pooled, feature_widths(body, cut))
    normaliser = Normaliser.fit(features, representation.norm)
    grown = fit_head(head, normaliser.apply(features), np.arange(len(PHOTOS)) % 3, 3, 3.0)
    return Model(body, cut, CLASSES, representation, normaliser, replace(grown, temperature=0.8), "float32",
                 {"strategy": "test", "seed": 3}, {"accuracy": 0.5, "n": 12}, {"root": "/home/somebody/photos"}, keep=keep)  # fmt: skip
