"""Whether maps tell what they should: the place that decides, and nothing once the weights are random."""

from __future__ import annotations

import numpy as np
import pytest
from patched import CLASSES, COLOURS, SIDE, SQUARE, learned, patched, places, shaken, with_network
from scipy.stats import spearmanr

from drawn import photo
from greffon.explaining import METHODS, HeatMaps, Method, heat_maps, overlaid, peak_of
from greffon.heads import LinearHead
from greffon.model import Model
from growing import drawn_network

pytestmark = pytest.mark.usefixtures("one_thread")

ASKED = places(7, 3, list(COLOURS))
IMAGES = [patched(1000 + i, *one) for i, one in enumerate(ASKED)]
TARGETS = [CLASSES.index(one[0]) for one in ASKED]
#: A place of the last stage is so large, and the square may lie on its edge.
MARGIN = SIDE // 5


def within(heat: np.ndarray, top: int, left: int) -> tuple[float, float]:
    """The share of what speaks for the class around the square, and that of the area there."""
    near = np.zeros(heat.shape, bool)
    near[max(0, top - MARGIN) : top + SQUARE + MARGIN, max(0, left - MARGIN) : left + SQUARE + MARGIN] = True
    positive = np.maximum(heat.astype(np.float64), 0)
    return float(positive[near].sum() / positive.sum()), float(near.mean())


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_a_map_lies_on_what_decides(method: Method) -> None:
    found = heat_maps(learned(), IMAGES, TARGETS, method.name)
    assert (found.probabilities.argmax(1) == TARGETS).all()
    shares = np.array([within(found.maps[i], top, left) for i, (_, top, left) in enumerate(ASKED)])
    assert (shares[:, 0] > 1.8 * shares[:, 1]).all() and shares[:, 0].mean() > 0.6, shares
    for i, (_, top, left) in enumerate(ASKED):
        peak = peak_of(found.maps[i])
        assert peak is not None
        assert left - MARGIN <= peak[0] * SIDE <= left + SQUARE + MARGIN and top - MARGIN <= peak[1] * SIDE <= top + SQUARE + MARGIN


@pytest.mark.parametrize(
    ("head", "norm", "pool"),
    [
        ("knn", "standard", "mean"),
        ("logistic", "sqrt-l2", "mean"),
        ("ridge", "standard", "mean+max"),
        ("svm", "standard", "flatten"),
        ("centroid", "l2", "mean"),
    ],
)
def test_so_it_is_with_other_heads(head: str, norm: str, pool: str) -> None:
    found = heat_maps(learned(head, norm, pool), IMAGES, TARGETS)
    shares = np.array([within(found.maps[i], top, left) for i, (_, top, left) in enumerate(ASKED)])
    assert shares[:, 0].mean() > 1.8 * shares[:, 1].mean(), (found.method.name, shares)


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_random_weights_destroy_the_map(method: Method) -> None:
    """Adebayo et al. 2018, arXiv:1810.03292: a map that does not depend on the weights explains the picture, not the model."""
    model = learned()
    photos = [photo(seed, SIDE, SIDE) for seed in range(4)]
    found = heat_maps(model, photos, method=method.name)
    assert _likeness(found, with_network(model, shaken(model.backbone, 0.002)), photos) > 0.9
    assert _likeness(found, with_network(model, drawn_network("test_resnet", SIDE, 5)), photos) < 0.3


def _likeness(found: HeatMaps, model: Model, photos: list[np.ndarray]) -> float:
    """The mean rank correlation with the maps of another model, for the same classes."""
    other = heat_maps(model, photos, found.targets.tolist(), found.method.name).maps
    return float(np.mean([_alike(a, b) for a, b in zip(found.maps, other, strict=True)]))


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """The rank correlation of every fourth pixel; a map without any difference is like none."""
    a, b = one[2::4, 2::4].ravel(), other[2::4, 2::4].ravel()
    return float(np.asarray(spearmanr(a, b))[0]) if np.ptp(a) and np.ptp(b) else 0.0


def test_another_head_has_another_map() -> None:
    """The last of the layers, too: classes exchanged in the head are exchanged in the map."""
    from dataclasses import replace

    model = learned()
    assert isinstance(model.head, LinearHead)
    turned = replace(model, head=replace(model.head, weight=model.head.weight[[1, 2, 0, 3]], bias=model.head.bias[[1, 2, 0, 3]]))
    for method in METHODS:
        own = heat_maps(model, IMAGES[:1], 1, method.name).maps
        assert heat_maps(turned, IMAGES[:1], 0, method.name).maps == pytest.approx(own, abs=1e-5 * float(np.abs(own).max()))


def test_colours_lie_where_the_map_is_and_nowhere_else() -> None:
    heat = np.full((SIDE, SIDE), -1.0, np.float32)
    heat[100:140, 20:60] = 3
    picture = np.full((SIDE, SIDE, 3), 128, np.uint8)
    shown = overlaid(picture, heat).astype(int)
    coloured = np.ptp(shown, axis=2) > 20
    assert coloured[105:135, 25:55].mean() > 0.95 and not coloured[:80].any() and not coloured[:, 90:].any()
    assert peak_of(heat) == pytest.approx((0.25, 0.75), abs=0.08)
    against = overlaid(picture, -np.abs(heat))
    assert np.ptp(against) == 0 and peak_of(-np.abs(heat)) is None


def test_the_scale_is_as_readable_in_grey() -> None:
    from greffon.explaining import scale_colours

    light = scale_colours(64).astype(float) @ np.array([0.299, 0.587, 0.114])
    assert light[-1] - light.min() > 60 and (np.diff(light[8:]) >= -1).all()
