"""Models of a tiny network with random weights, for the tests of model folders."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import timm
import torch

from drawn import photo
from greffon.activations import Tap, compute, make_engine
from greffon.backbones import Backbone, Entry, blueprint
from greffon.heads import Normaliser, Representation, fit_head
from greffon.images import Preprocess
from greffon.model import Model
from greffon.progress import Silent

CLASSES = ("Äpfel", "b/../c", "")
PHOTOS = [photo(seed, 40 + seed, 50) for seed in range(9)]


@functools.cache
def network(seed: int = 0, architecture: str = "test_resnet") -> Backbone:
    """A tiny network with random weights."""
    torch.manual_seed(seed)
    pre = Preprocess(height=64, width=64, resize="shortest", resize_to=72, interpolation="bilinear", antialias=True,
                     channels="rgb", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), scale=1 / 255)  # fmt: skip
    plan = blueprint(Entry(name="tiny", architecture=architecture, preprocess=pre, weights_of="nobody", licence="none"))
    state = timm.create_model(architecture).state_dict()
    return Backbone(plan, {key: state[key] for key in plan.trunk_keys()})


@functools.cache
def records_of(body: Backbone, tap: Tap) -> np.ndarray:
    return compute(PHOTOS, body, tap, make_engine(body, tap, "float32"), store=None, progress=Silent()).all()


MEAN = Representation("last", "mean", "l2")


def made(head: str = "logistic", representation: Representation = MEAN, backbone: Backbone | None = None) -> Model:
    body = backbone or network()
    tap = Tap("map", "none") if representation.pool == "flatten" else Tap("pooled")
    features = representation.take(records_of(body, tap), body.widths())
    normaliser = Normaliser.fit(features, representation.norm)
    y = np.arange(len(PHOTOS)) % 3
    grown = replace(fit_head(head, normaliser.apply(features), y, 3, 3.0), temperature=0.8)
    return Model(body, "none", CLASSES, representation, normaliser, grown, "float32",
                 {"seed": 0, "trials": []}, {"accuracy": 0.5}, {"fingerprint": "00", "images": 9})  # fmt: skip
