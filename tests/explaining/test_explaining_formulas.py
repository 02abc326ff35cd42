"""Each method against its formula written out in loops, and against Captum where that is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from drawn import photo
from exporting_models import model_of
from greffon.backbones import stage_shapes
from greffon.explaining import heat_maps
from greffon.explaining.network import Network
from greffon.heads import LinearHead, Representation
from greffon.model import Model
from growing import drawn_network

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 96
PHOTOS = [photo(seed, 120, 100) for seed in range(2)]
TARGET = 2


@pytest.fixture(scope="module", params=["standard", "l2"])
def model(request: pytest.FixtureRequest) -> Model:
    return model_of("logistic", Representation("last", "mean", request.param), backbone=drawn_network("test_resnet", SIZE))


def channels(model: Model, image: np.ndarray) -> np.ndarray:
    """The last stage's output, float64 (c, h', w')."""
    pre = model.backbone.preprocess
    with torch.no_grad():
        return model.backbone.below("none")(torch.from_numpy(pre.normalise(pre.fit(image)[None])))[0].double().numpy()


def score(model: Model, maps: np.ndarray) -> float:
    """The score of the class, from the last stage's output."""
    features = maps.mean((1, 2))[None].astype(np.float64)
    if model.representation.norm == "l2":
        features = features / np.linalg.norm(features)
    z = (features - model.normaliser.mean) * model.normaliser.scale
    assert isinstance(model.head, LinearHead)
    return float((z @ model.head.weight[TARGET].astype(np.float64) + model.head.bias[TARGET])[0])


def slopes(model: Model, maps: np.ndarray) -> np.ndarray:
    """The derivative by each number of the last stage's output, by differences."""
    found = np.zeros_like(maps)
    step = 1e-4
    for at in np.ndindex(maps.shape):
        for sign in (1, -1):
            moved = maps.copy()
            moved[at] += sign * step
            found[at] += sign * score(model, moved) / (2 * step)
    return found


def enlarged(small: np.ndarray) -> np.ndarray:
    return functional.interpolate(torch.from_numpy(small)[None, None], size=(SIZE, SIZE), mode="bilinear")[0, 0].numpy()


def test_class_activation_maps_are_the_scores_of_places(model: Model) -> None:
    maps = channels(model, PHOTOS[0])
    assert isinstance(model.head, LinearHead)
    length = np.linalg.norm(maps.mean((1, 2))) if model.representation.norm == "l2" else 1.0
    z = (maps / length - model.normaliser.mean[:, None, None]) * model.normaliser.scale[:, None, None]
    places = np.einsum("k,kij->ij", model.head.weight[TARGET], z) + model.head.bias[TARGET]
    found = heat_maps(model, PHOTOS[:1], TARGET, "cam")
    assert places.mean() == pytest.approx(score(model, maps), abs=1e-6)
    assert found.maps[0] == pytest.approx(enlarged(places), abs=1e-3)
    assert found.maps[0].mean() == pytest.approx(found.scores[0, TARGET], abs=1e-4)


def test_grad_cam_by_differences(model: Model) -> None:
    maps = channels(model, PHOTOS[0])
    derived = slopes(model, maps)
    expected = np.zeros(maps.shape[1:])
    for k in range(len(maps)):
        expected += derived[k].mean() * maps[k]
    found = heat_maps(model, PHOTOS[:1], TARGET, "gradcam").maps[0]
    assert found == pytest.approx(enlarged(np.maximum(expected, 0)), abs=2e-3 * float(found.max()))


def test_grad_cam_plus_by_differences(model: Model) -> None:
    maps = channels(model, PHOTOS[1])
    derived = slopes(model, maps)
    expected = np.zeros(maps.shape[1:])
    for k in range(len(maps)):
        weight = 0.0
        for place in np.ndindex(maps.shape[1:]):
            slope = derived[k][place]
            alpha = slope**2 / (2 * slope**2 + (maps[k] * slope**3).sum()) if slope else 0.0
            weight += alpha * max(slope, 0.0)
        expected += weight * maps[k]
    found = heat_maps(model, PHOTOS[1:], TARGET, "gradcam++").maps[0]
    assert found == pytest.approx(enlarged(np.maximum(expected, 0)), abs=2e-3 * float(found.max()))


def test_grad_cam_is_the_class_activation_map_without_its_constant() -> None:
    """Selvaraju et al. 2017, section 3: with a linear head on means, Grad-CAM is the map up to a factor and a constant."""
    model = model_of("svm", backbone=drawn_network("test_resnet", SIZE))
    assert isinstance(model.head, LinearHead)
    constant = model.head.bias[TARGET] - model.head.weight[TARGET] @ (model.normaliser.mean * model.normaliser.scale)
    exact = heat_maps(model, PHOTOS[:1], TARGET, "cam").maps[0] - constant
    found = heat_maps(model, PHOTOS[:1], TARGET, "gradcam").maps[0]
    places = np.prod(_grid(model))
    positive = enlarged(np.maximum(_places(exact), 0)) / places
    assert found == pytest.approx(positive, abs=1e-3 * float(found.max()))


def _grid(model: Model) -> tuple[int, int]:
    return stage_shapes(model.backbone.plan)[-1][1][1:]


def _places(large: np.ndarray) -> np.ndarray:
    """The values in the middles of the places, where interpolation leaves them as they were; sides are odd multiples of 2 pixels."""
    h, w = _grid(model_of("svm", backbone=drawn_network("test_resnet", SIZE)))
    rows, columns = ((np.arange(n) + 0.5) * SIZE / n for n in (h, w))
    low_r, low_c = (rows - 0.5).astype(int), (columns - 0.5).astype(int)
    return np.mean([large[np.ix_(low_r + a, low_c + b)] for a in (0, 1) for b in (0, 1)], 0)


def test_occlusion_pixel_by_pixel(model: Model) -> None:
    pre = model.backbone.preprocess
    picture = torch.from_numpy(pre.normalise(pre.fit(PHOTOS[0])[None]))[0]
    side = SIZE // 4
    starts = [round(float(one)) for one in np.linspace(0, SIZE - side, 7)]
    lost = {}
    network = model.backbone.below("none")
    with torch.no_grad():
        whole = score(model, network(picture[None])[0].double().numpy())
        for top in starts:
            for left in starts:
                covered = picture.clone()
                for row in range(top, top + side):
                    for column in range(left, left + side):
                        covered[:, row, column] = 0
                lost[top, left] = whole - score(model, network(covered[None])[0].double().numpy())
    found = heat_maps(model, PHOTOS[:1], TARGET, "occlusion").maps[0]
    for row, column in ((0, 0), (5, 90), (47, 33), (50, 50), (95, 95), (95, 0)):
        over = [one for (top, left), one in lost.items() if top <= row < top + side and left <= column < left + side]
        assert found[row, column] == pytest.approx(np.mean(over), abs=1e-4)


def test_integrated_gradients_in_many_small_steps(model: Model) -> None:
    pre = model.backbone.preprocess
    picture = torch.from_numpy(pre.normalise(pre.fit(PHOTOS[1])[None]))[0]
    network = Network(model)
    total = torch.zeros_like(picture)
    steps = 150
    for i in range(steps):
        point = ((i + 0.5) / steps * picture).requires_grad_()
        total += torch.autograd.grad(network.scores(point[None].to(network.device))[0, TARGET], point)[0]
    expected = (picture * total / steps).sum(0).numpy()
    found = heat_maps(model, PHOTOS[1:], TARGET, "integrated-gradients")
    assert float(expected.sum()) == pytest.approx(found.maps[0].sum(), rel=0.03)
    # The way of a network with ReLU has corners, which 16 to 128 steps meet in other places than 150.
    assert np.corrcoef(expected.ravel(), found.maps[0].ravel())[0, 1] > 0.99


def test_completeness(model: Model) -> None:
    """Sundararajan et al. 2017, section 3: what all pixels add up to is the difference of the two scores."""
    found = heat_maps(model, PHOTOS, TARGET, "integrated-gradients")
    network = model.backbone.below("none")
    with torch.no_grad():
        empty = score(model, network(torch.zeros(1, 3, SIZE, SIZE))[0].double().numpy())
    for i, image in enumerate(PHOTOS):
        difference = score(model, channels(model, image)) - empty
        assert float(found.maps[i].sum()) == pytest.approx(difference, rel=0.021)
        assert found.gaps[i] == pytest.approx(float(found.maps[i].sum()) - difference, abs=1e-3)


def test_captum_says_the_same() -> None:
    attr = pytest.importorskip("captum.attr", reason="Captum is not installed")
    model = model_of("logistic", backbone=drawn_network("test_resnet", SIZE))
    network = Network(model)
    x = network.pixels(np.stack([model.backbone.preprocess.fit(image) for image in PHOTOS]))
    slow = attr.IntegratedGradients(network.scores).attribute(x, target=TARGET, n_steps=64, internal_batch_size=16)
    mine = heat_maps(model, PHOTOS, TARGET, "integrated-gradients").maps
    for i in range(len(x)):
        assert np.corrcoef(slow[i].sum(0).cpu().numpy().ravel(), mine[i].ravel())[0, 1] > 0.99
    patch, stride = SIZE // 4, SIZE // 8
    covered = attr.Occlusion(network.scores).attribute(
        x, target=TARGET, sliding_window_shapes=(3, patch, patch), strides=(3, stride, stride), baselines=0, perturbations_per_eval=8
    )
    assert covered[:, 0].cpu().numpy() == pytest.approx(heat_maps(model, PHOTOS, TARGET, "occlusion").maps, abs=1e-4)
    stage = network._trunk.stages[-1]
    assert isinstance(stage, nn.ModuleList)
    last = stage[-1]
    cam = attr.LayerGradCam(network.scores, last).attribute(x, target=TARGET, relu_attributions=True).detach()
    large = functional.interpolate(cam, size=(SIZE, SIZE), mode="bilinear")[:, 0].cpu().numpy()
    assert heat_maps(model, PHOTOS, TARGET, "gradcam").maps == pytest.approx(large, abs=1e-3 * float(large.max()))
