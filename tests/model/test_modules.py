"""Trunk and crown against ``Model.predict``, head by head; the maps against the scores that they add up to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from exporting_models import PHOTOS, model_of
from greffon.heads import HEADS, LinearHead, NeighbourHead, Representation
from greffon.model import Model
from greffon.model.modules import Crown, PooledCrown, Trunk, has_maps
from growing import drawn_network

pytestmark = pytest.mark.usefixtures("one_thread")

REPRESENTATIONS = (
    Representation("last", "mean", "standard"),
    Representation("last", "mean", "l2"),
    Representation("all", "mean", "standard"),
    Representation("all", "max", "sqrt-l2"),
    Representation("last", "mean+max", "standard"),
    Representation("last", "flatten", "l2"),
)


def said(model: Model, *, maps: bool = False) -> tuple[np.ndarray, ...]:
    pre = model.backbone.preprocess
    x = torch.from_numpy(pre.normalise(np.stack([pre.fit(image) for image in PHOTOS])))
    with torch.no_grad():
        return tuple(one.numpy() for one in Crown(model, maps=maps)(Trunk(model)(x)))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("representation", REPRESENTATIONS, ids=str)
def test_every_head_on_all_kinds_of_features(head: str, representation: Representation) -> None:
    model = model_of(head, representation)
    probabilities, features = said(model)
    assert np.abs(probabilities - model.predict(PHOTOS).probabilities).max() < 2e-5
    assert features.shape == (len(PHOTOS), len(model.normaliser.mean))


@pytest.mark.parametrize("stages", ["last", "all"])
@pytest.mark.parametrize("keep", ["", "bfloat16", "float16"])
def test_a_lower_cut_rounds_what_training_kept(keep: str, stages: Any) -> None:
    cut = drawn_network().stages[2]
    model = model_of(representation=Representation(stages, "mean", "standard"), cut=cut, keep=keep)
    at = model.backbone.position(cut)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = drawn_network().below(cut)(pixels)
        rounded = x.to(getattr(torch, keep)).float() if keep else x
        found = Trunk(model, start=at)(x)
        expected = Trunk(replace(model, keep=""), start=at)(rounded)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert torch.equal(x, rounded) == (not keep)
    # Where two ways to the cut differ in the last bit, some numbers are rounded the other way: how many depends on the processor.
    within = 1e-3 if keep else 2e-5
    assert np.abs(said(model)[0] - model.predict(PHOTOS).probabilities).max() < within


def test_a_cut_below_the_first_stage() -> None:
    model = model_of(representation=Representation("all", "mean+max", "standard"), cut="all")
    assert np.abs(said(model)[0] - model.predict(PHOTOS).probabilities).max() < 2e-5


@pytest.mark.parametrize("norm", ["standard", "l2"])
@pytest.mark.parametrize("stages", ["last", "all"])
def test_maps_add_up_to_the_scores(norm: Any, stages: Any) -> None:
    model = model_of("logistic", Representation(stages, "mean", norm))
    assert has_maps(model)
    probabilities, features, maps = said(model, maps=True)
    assert isinstance(model.head, LinearHead)
    scores = model.head.scores(model.normaliser.apply(features))
    assert maps.mean((2, 3)) == pytest.approx(scores, abs=2e-4)
    z = np.exp(maps.mean((2, 3)) / model.head.temperature)
    assert z / z.sum(1, keepdims=True) == pytest.approx(probabilities, abs=1e-4)


def test_a_map_is_the_weighted_sum_of_the_channels_at_its_place() -> None:
    model = model_of("ridge", Representation("last", "mean", "standard"))
    assert isinstance(model.head, LinearHead)
    pre = model.backbone.preprocess
    x = torch.from_numpy(pre.normalise(pre.fit(PHOTOS[1])[None]))
    with torch.no_grad():
        channels = model.backbone.below("none")(x)[0].double().numpy()
    maps = said(model, maps=True)[2][1]
    for c in range(3):
        for row in range(maps.shape[1]):
            for column in range(maps.shape[2]):
                z = (channels[:, row, column] - model.normaliser.mean) * model.normaliser.scale
                assert maps[c, row, column] == pytest.approx(float(z @ model.head.weight[c] + model.head.bias[c]), abs=1e-4)


@pytest.mark.parametrize(
    ("head", "representation"),
    [("knn", REPRESENTATIONS[0]), ("svm", Representation("last", "mean+max", "l2")), ("svm", Representation("last", "mean", "sqrt-l2"))],
)
def test_what_has_no_exact_maps_has_none(head: str, representation: Representation) -> None:
    assert not has_maps(model_of(head, representation))


def test_votes_are_counted_as_the_head_counts_them() -> None:
    model = model_of("knn", REPRESENTATIONS[0])
    assert isinstance(model.head, NeighbourHead) and model.head.k == 3
    told = model.head.probabilities(model.normaliser.apply(said(model)[1]))
    assert said(model)[0] == pytest.approx(told, abs=1e-6)


def test_a_crown_on_a_pooled_record() -> None:
    model = model_of(representation=Representation("all", "mean+max", "standard"))
    pre = model.backbone.preprocess
    x = torch.from_numpy(pre.normalise(np.stack([pre.fit(image) for image in PHOTOS])))
    with torch.no_grad():
        probabilities, features = PooledCrown(model)(model.backbone.below("none").pooled(x))
    assert probabilities.numpy() == pytest.approx(said(model)[0], abs=1e-5)
    assert features.numpy() == pytest.approx(said(model)[1], abs=1e-5)
