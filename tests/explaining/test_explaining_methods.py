"""What every method keeps, whichever it is: the methods are found in their table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from drawn import encode, photo
from exporting_models import model_of
from greffon.errors import OptionError
from greffon.explaining import METHODS, Method, chosen_method, heat_maps, methods_for
from greffon.heads import HEADS, LinearHead, Representation
from greffon.images import Preprocess
from greffon.model import Model
from growing import drawn_network

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 96
PHOTOS = [photo(seed, 90 + 20 * seed, 130 - 5 * seed) for seed in range(3)]
REPRESENTATIONS = (
    Representation("last", "mean", "standard"),
    Representation("last", "mean", "l2"),
    Representation("all", "mean", "standard"),
    Representation("all", "max", "sqrt-l2"),
    Representation("last", "mean", "sqrt-l2"),
    Representation("last", "mean+max", "standard"),
    Representation("last", "flatten", "l2"),
)


def small(head: str = "logistic", representation: Representation = REPRESENTATIONS[0], **more: Any) -> Model:
    return model_of(head, representation, backbone=drawn_network("test_resnet", SIZE), **more)


@pytest.fixture(scope="module")
def plain() -> Model:
    return small()


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_a_method_keeps_its_word(method: Method, plain: Model) -> None:
    before = {name: tensor.clone() for name, tensor in plain.backbone.tensors().items()}
    found = heat_maps(plain, PHOTOS, 1, method.name)
    assert found.method is method and found.maps.dtype == np.float32 and found.maps.shape == (3, SIZE, SIZE)
    assert np.isfinite(found.maps).all() and found.targets.tolist() == [1, 1, 1] and not found.failed
    assert np.array_equal(heat_maps(plain, PHOTOS, 1, method.name).maps, found.maps), "the same call gives the same maps"
    assert found.maps.any((1, 2)).all() and (found.maps.min() < 0) == method.signed
    alone = heat_maps(plain, PHOTOS[1:2], [1], method.name)
    assert alone.maps[0] == pytest.approx(found.maps[1], abs=2e-4 * float(np.abs(found.maps[1]).max()))
    other = heat_maps(plain, PHOTOS, 2, method.name)
    assert not np.allclose(other.maps, found.maps), "another class has another map"
    if method.adds_up:
        own = found.scores[:, 1]
        assert np.all(np.abs(found.gaps) <= 0.021 * np.abs(own - _empty_score(plain, 1)) if method.adds_up == "sum" else
                      np.abs(found.gaps) < 1e-4 * np.abs(own).max())  # fmt: skip
    else:
        assert np.isnan(found.gaps).all()
    after = plain.backbone.tensors()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(tensor.requires_grad for tensor in after.values())


def _empty_score(model: Model, target: int) -> float:
    """The score of a picture of zeros, by the model's own arithmetic."""
    with torch.no_grad():
        pooled = model.backbone.below("none").pooled(torch.zeros(1, 3, SIZE, SIZE)).numpy()
    features = model.normaliser.apply(model.representation.take(pooled, model.backbone.widths()))
    return float(model.head.scores(features)[0, target])


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("representation", REPRESENTATIONS, ids=str)
def test_every_head_on_all_kinds_of_features(head: str, representation: Representation) -> None:
    model = small(head, representation)
    able = methods_for(model)
    assert able and chosen_method("auto", model) is able[0]
    assert able[-1].name == ("integrated-gradients" if isinstance(model.head, LinearHead) else "occlusion")
    found = heat_maps(model, PHOTOS[:2])
    assert np.isfinite(found.maps).all()
    assert found.probabilities == pytest.approx(model.predict(PHOTOS[:2]).probabilities, abs=2e-5)
    for method in METHODS:
        if method not in able:
            with pytest.raises(OptionError, match=rf"{method.name.replace('+', '.')} cannot explain this model") as caught:
                heat_maps(model, PHOTOS[:1], 0, method.name)
            assert all(one.name in caught.value.hint for one in able)
        elif head == "logistic" and (method.from_places or "sqrt" in representation.norm):
            assert np.isfinite(heat_maps(model, PHOTOS[:1], 0, method.name).maps).all()


def test_auto_is_exact_where_that_can_be() -> None:
    chosen = {str(one): chosen_method("auto", small(representation=one)).name for one in REPRESENTATIONS}
    assert chosen == {str(one): "cam" if one.pool == "mean" and one.norm != "sqrt-l2" else "gradcam" for one in REPRESENTATIONS}
    assert chosen_method("auto", small("knn")).name == "occlusion"


def test_a_single_place_says_nothing() -> None:
    model = model_of(backbone=drawn_network("test_resnet", 32))
    assert chosen_method("auto", model).name == "occlusion"
    with pytest.raises(OptionError, match="gradcam cannot explain this model: its last stage has a single place") as caught:
        heat_maps(model, PHOTOS, method="gradcam")
    assert caught.value.hint == "These can: occlusion, integrated-gradients."


@pytest.mark.parametrize("keep", ["", "bfloat16"])
def test_a_model_with_trained_stages_is_explained_in_float32(keep: str) -> None:
    cut = drawn_network("test_resnet", SIZE).stages[2]
    model = small(cut=cut, keep=keep)
    found = heat_maps(model, PHOTOS)
    assert found.method.name == "cam" and np.abs(found.gaps).max() < 1e-3
    exact = np.abs(found.probabilities - model.predict(PHOTOS).probabilities).max()
    assert exact < (2e-5 if not keep else 0.03)
    if keep:  # nothing is rounded at the cut
        assert exact > 1e-6
    sums = heat_maps(model, PHOTOS[:1], method="integrated-gradients")
    assert abs(sums.gaps[0]) < 0.03 * abs(sums.scores[0, sums.targets[0]] - _empty_score(model, int(sums.targets[0])))


def test_photos_that_cannot_be_read_are_set_aside(tmp_path: Any, plain: Model) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(encode(PHOTOS[0]))
    bad.write_bytes(b"no image")
    found = heat_maps(plain, [bad, good, tmp_path / "gone.png", PHOTOS[0]])
    assert sorted(found.failed) == [0, 2] and "not an image" in found.failed[0]
    assert found.targets[0] == -1 and np.isnan(found.maps[[0, 2]]).all() and np.isnan(found.scores[0]).all()
    assert found.maps[1] == pytest.approx(found.maps[3], abs=1e-4)
    assert np.array_equal(found.pictures[1], plain.backbone.preprocess.fit(PHOTOS[0]))
    assert not heat_maps(plain, []).maps.size


def test_what_cannot_be_asked(plain: Model) -> None:
    for classes, message in ((3, "from 0 to 2, got 3 to 3"), ([0, -1, 0], "from 0 to 2, got -1 to 0"), ([0], "one for each of 3 photos"),
                             ([0.0, 1.0, 1.0], "must be a number, or one for each")):  # fmt: skip
        with pytest.raises(OptionError, match=message):
            heat_maps(plain, PHOTOS, classes)  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(OptionError, match="--method must be auto or one of cam, gradcam, gradcam\\+\\+, occlusion, integrated-gradients"):
        heat_maps(plain, PHOTOS, method="lime")


def test_derivatives_are_taken_where_the_caller_wants_none(plain: Model) -> None:
    expected = heat_maps(plain, PHOTOS[:1], 0, "gradcam").maps
    with torch.no_grad():
        assert np.array_equal(heat_maps(plain, PHOTOS[:1], 0, "gradcam").maps, expected)


def test_channels_in_the_other_order() -> None:
    """What the first stage takes is what ``Preprocess.normalise`` gives."""
    from greffon.explaining.network import Network

    model = small()
    pre: Preprocess = model.backbone.preprocess
    picture = pre.fit(PHOTOS[0])[None]
    assert np.array_equal(Network(model).pixels(picture).cpu().numpy(), pre.normalise(picture))
