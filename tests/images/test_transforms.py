"""Transforms against torchvision's tensor functions (another implementation), formulas, and a Philox written out."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from drawn import photo
from greffon.errors import OptionError
from greffon.images import Choice, Preprocess, Transform, randaugment
from greffon.images.transforms import Draws, crop_box, transformed, transforms_from

SIDE = 64
#: As large as the drawn pictures, so that its geometry changes nothing. Its neutral colour is (50, 100, 150).
SAME = Preprocess(height=SIDE, width=SIDE, resize="squash", resize_to=SIDE, interpolation="bilinear", antialias=True,
                  channels="bgr", mean=(150.0, 100.0, 50.0), std=(1.0, 1.0, 1.0), scale=1.0)  # fmt: skip
NEUTRAL = [50.0, 100.0, 150.0]


def applied(image: np.ndarray, name: str, amount: float = 0.0, digest: str = "") -> np.ndarray:
    return transformed(image, [Transform(name, 1.0, amount, amount)], Draws(0, digest, 1), SAME)


def gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    assert a.shape == b.shape
    assert a.dtype == b.dtype == np.uint8
    return np.abs(a.astype(int) - b.astype(int))


# --- random numbers --------------------------------------------------------------------------------------------


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox-4x64-10, from the paper (Salmon et al. 2011)."""
    mask, c, k = 2**64 - 1, list(counter), list(key)
    for _ in range(10):
        a, b = c[0] * 0xD2E7470EE14C6C93, c[2] * 0xCA5A826395121157
        c = [b >> 64 ^ c[1] ^ k[0], b & mask, a >> 64 ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return c


def test_the_stream_is_philox_keyed_by_seed_number_and_digest() -> None:
    # Random123's known answer for a key and a counter of zero.
    assert philox([0] * 4, [0] * 2) == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    name = hashlib.sha256(b"7 3 abc").digest()
    key = [int.from_bytes(name[:8], "little"), int.from_bytes(name[8:16], "little")]
    raw = [word for block in range(1, 4) for word in philox([block, 0, 0, 0], key)]
    draws = Draws(7, "abc", 3)
    assert [draws.uniform() for _ in raw] == [(word >> 11) / 2**53 for word in raw]
    draws = Draws(7, "abc", 3)
    assert [draws.below(10) for _ in raw] == [word * 10 // 2**64 for word in raw]


def test_numbers_are_even_and_differ_by_seed_number_and_digest() -> None:
    draws = Draws(0, "x", 1)
    assert stats.kstest([draws.uniform(-2, 5) for _ in range(5000)], stats.uniform(-2, 7).cdf).pvalue > 1e-3
    counts = np.bincount([draws.below(7) for _ in range(7000)], minlength=7)
    assert all(stats.binomtest(int(count), 7000, 1 / 7).pvalue > 1e-3 for count in counts)
    firsts = [Draws(*which).uniform() for which in itertools.product(range(10), map(str, range(10)), range(10))]
    assert len(set(firsts)) == 1000
    assert stats.kstest(firsts, stats.uniform.cdf).pvalue > 1e-3


# --- one transform at a time -----------------------------------------------------------------------------------


def _sheared(x: torch.Tensor, across: float, down: float) -> torch.Tensor:
    shear = [math.degrees(math.atan(across)), math.degrees(math.atan(down))]
    return tv.affine(x, 0.0, [0, 0], 1.0, shear, tv.InterpolationMode.BILINEAR, fill=NEUTRAL)


def _moved(x: torch.Tensor, right: float, down: float) -> torch.Tensor:
    return tv.affine(x, 0.0, [right * SIDE, down * SIDE], 1.0, [0.0, 0.0], tv.InterpolationMode.BILINEAR, fill=NEUTRAL)


#: Transform, amount, torchvision's function of a tensor, and the most levels between the two. Of geometry that samples
#: between pixels, 3 % may be further apart: along the edge, which Pillow does not blend with what is outside.
SAME_AS: list[tuple[str, float, Callable[[torch.Tensor], torch.Tensor], int]] = [
    ("flip", 0, tv.horizontal_flip, 0),
    ("identity", 0, lambda x: x, 0),
    ("brightness", 0.6, lambda x: tv.adjust_brightness(x, 0.6), 0),
    ("brightness", 1.7, lambda x: tv.adjust_brightness(x, 1.7), 0),
    ("contrast", 0.3, lambda x: tv.adjust_contrast(x, 0.3), 1),
    ("contrast", 1.9, lambda x: tv.adjust_contrast(x, 1.9), 1),
    ("saturation", 0.2, lambda x: tv.adjust_saturation(x, 0.2), 1),
    ("saturation", 1.8, lambda x: tv.adjust_saturation(x, 1.8), 1),
    ("sharpness", 0.1, lambda x: tv.adjust_sharpness(x, 0.1), 0),
    ("sharpness", 1.9, lambda x: tv.adjust_sharpness(x, 1.9), 0),
    ("hue", 0.1, lambda x: tv.adjust_hue(x, 0.1), 10),
    ("hue", -0.3, lambda x: tv.adjust_hue(x, -0.3), 10),
    ("grey", 0, lambda x: tv.rgb_to_grayscale(x, 3), 1),
    ("posterize", 3.4, lambda x: tv.posterize(x, 3), 0),
    ("solarize", 100, lambda x: tv.solarize(x, 100), 0),
    ("autocontrast", 0, tv.autocontrast, 1),
    ("equalize", 0, tv.equalize, 0),
    ("rotate", 25, lambda x: tv.rotate(x, 25, tv.InterpolationMode.BILINEAR, fill=NEUTRAL), 2),
    ("rotate", -70, lambda x: tv.rotate(x, -70, tv.InterpolationMode.BILINEAR, fill=NEUTRAL), 2),
    ("shear_x", 0.3, lambda x: _sheared(x, 0.3, 0), 2),
    ("shear_x", -0.2, lambda x: _sheared(x, -0.2, 0), 2),
    ("shear_y", 0.3, lambda x: _sheared(x, 0, 0.3), 2),
    ("translate_x", 0.25, lambda x: _moved(x, 0.25, 0), 0),
    ("translate_x", -0.5, lambda x: _moved(x, -0.5, 0), 0),
    ("translate_y", 0.125, lambda x: _moved(x, 0, 0.125), 0),
]


@pytest.mark.parametrize(("name", "amount", "reference", "levels"), SAME_AS)
def test_a_transform_is_torchvisions(
    name: str, amount: float, reference: Callable[[torch.Tensor], torch.Tensor], levels: int
) -> None:
    changes = 0.0
    for seed in range(3):
        image = photo(seed, SIDE, SIDE) // (1 + seed) + 5 * seed  # with histograms that do not fill their range
        before = image.copy()
        expected = reference(torch.from_numpy(image.copy()).permute(2, 0, 1)).permute(1, 2, 0).numpy()
        further = (gap(applied(image, name, amount), expected) > levels).mean()
        assert further <= (0.03 if name in ("rotate", "shear_x", "shear_y") else 0)
        np.testing.assert_array_equal(image, before)
        changes += gap(expected, image).mean()
    assert changes > 5 or name == "identity", "the reference changes the pictures"


def test_what_comes_in_from_outside_is_neutral() -> None:
    image = np.full((SIDE, SIDE, 3), 255, np.uint8)
    right = applied(image, "translate_x", 0.25)
    assert (right[:, : SIDE // 4] == NEUTRAL).all()
    assert (right[:, SIDE // 4 :] == 255).all()
    down = applied(image, "translate_y", 0.5)
    assert (down[: SIDE // 2] == NEUTRAL).all()
    assert (applied(image, "rotate", 45)[0, 0] == NEUTRAL).all()
    assert (applied(image, "shear_x", 0.5)[0, 0] == NEUTRAL).all() != (applied(image, "shear_x", -0.5)[0, 0] == NEUTRAL).all()


@pytest.mark.parametrize("sigma", [0.5, 1.5, 4.0])
def test_blur_is_nearly_a_gaussian(sigma: float) -> None:
    image = photo(3, SIDE, SIDE)
    expected = ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="nearest")
    assert np.abs(applied(image, "blur", sigma) - expected).mean() < 1.5
    assert gap(applied(image, "blur", 0), image).max() == 0


def test_erase_makes_a_rectangle_neutral() -> None:
    image = np.full((SIDE, SIDE, 3), 7, np.uint8)
    aspects = []
    for number in range(200):
        gone = (applied(image, "erase", 0.2, str(number)) == NEUTRAL).all(2)
        rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
        assert gone.sum() == len(rows) * len(columns) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert gone.sum() / SIDE**2 == pytest.approx(0.2, abs=0.02)
        aspects.append(len(columns) / len(rows))
    assert 0.28 < min(aspects) < 0.35
    assert 2.9 < max(aspects) < 3.5
    assert applied(image, "erase", 0.0).max() == 7


# --- crops -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(375, 500), (100, 100), (90, 260), (400, 150)])
@pytest.mark.parametrize(("low", "high"), [(0.35, 1.0), (0.05, 0.4)])
def test_crops_are_distributed_as_torchvisions(height: int, width: int, low: float, high: float) -> None:
    torch.manual_seed(0)
    reference = v2.RandomResizedCrop(224, scale=(low, high))
    theirs = [reference.make_params([torch.zeros(3, height, width)]) for _ in range(1500)]
    wanted = np.array([[one[key] for key in ("top", "left", "height", "width")] for one in theirs])
    draws = Draws(1, "a", 1)
    found = np.array([crop_box(height, width, low, high, draws) for _ in range(1500)])

    def figures(boxes: np.ndarray) -> list[np.ndarray]:
        top, left, rows, columns = boxes.T
        return [rows * columns, columns / rows, top, left, top + rows, left + columns]

    for mine, other in zip(figures(found), figures(wanted), strict=True):
        assert stats.kstest(mine, other).pvalue > 1e-3
    assert (found[:, :2] >= 0).all()
    assert (found[:, 0] + found[:, 2] <= height).all()
    assert (found[:, 1] + found[:, 3] <= width).all()


@pytest.mark.parametrize(("height", "width"), [(1, 4000), (4000, 1), (2, 90), (60, 3), (1, 1)])
def test_where_no_crop_fits_it_is_torchvisions_middle(height: int, width: int) -> None:
    reference = v2.RandomResizedCrop(224, scale=(1.0, 1.0)).make_params([torch.zeros(3, height, width)])
    box = crop_box(height, width, 1.0, 1.0, Draws(0, "", 1))
    assert box == tuple(reference[key] for key in ("top", "left", "height", "width"))


def test_a_crop_is_taken_from_the_source() -> None:
    """One pixel in the source's corner that the plain geometry would not show, at the source's sharpness."""
    image = photo(0, 300, 200)
    seen = set()
    for number in range(20):
        draws = Draws(0, str(number), 1)
        found = transformed(image, [Transform("crop", 1.0, 0.2, 0.9)], draws, SAME)
        again = Draws(0, str(number), 1)
        assert again.uniform() < 1  # whether at all
        top, left, height, width = crop_box(300, 200, 0.2, 0.9, again)
        part = torch.from_numpy(image[top : top + height, left : left + width].copy()).permute(2, 0, 1)
        expected = tv.resize(part, [SIDE, SIDE], tv.InterpolationMode.BILINEAR, antialias=True)
        assert gap(found, expected.permute(1, 2, 0).numpy()).max() <= 1
        seen.add((top, left, height, width))
    assert len(seen) == 20


# --- lists -----------------------------------------------------------------------------------------------------


def test_probability_and_amount() -> None:
    image = photo(5, SIDE, SIDE)
    mirrored = sum(
        bool((transformed(image, [Transform("flip", 0.3)], Draws(0, str(i), 1), SAME) != image).any()) for i in range(800)
    )
    assert stats.binomtest(mirrored, 800, 0.3).pvalue > 1e-3
    white = np.full((SIDE, SIDE, 3), 200, np.uint8)
    factors = [
        transformed(white, [Transform("brightness", 1.0, 0.5, 1.0)], Draws(0, str(i), 1), SAME)[0, 0, 0] / 200
        for i in range(800)
    ]
    assert stats.kstest(factors, stats.uniform(0.5, 0.5).cdf).pvalue > 1e-3


def test_transforms_are_done_in_their_order() -> None:
    image = photo(6, SIDE, SIDE)
    both = [Transform("solarize", 1.0, 128, 128), Transform("brightness", 1.0, 0.5, 0.5)]
    for steps in (both, both[::-1]):
        by_hand = image
        for step in steps:
            by_hand = applied(by_hand, step.name, step.low)
        np.testing.assert_array_equal(transformed(image, steps, Draws(0, "", 1), SAME), by_hand)
    assert (transformed(image, both, Draws(0, "", 1), SAME) != transformed(image, both[::-1], Draws(0, "", 1), SAME)).any()


def test_a_choice_takes_each_as_often_and_may_repeat() -> None:
    image = np.full((SIDE, SIDE, 3), 128, np.uint8)
    choice = Choice(2, tuple(Transform("brightness", 1.0, factor, factor) for factor in (0.5, 0.25, 1.0)))
    seen = [int(transformed(image, [choice], Draws(0, str(i), 1), SAME)[0, 0, 0]) for i in range(900)]
    # 128 times one of nine products of two factors.
    ways = {128: 1, 64: 2, 32: 3, 16: 2, 8: 1}
    assert set(seen) == set(ways)
    assert all(stats.binomtest(seen.count(level), 900, n / 9).pvalue > 1e-3 for level, n in ways.items())


def test_randaugment_has_the_papers_operations_and_ranges() -> None:
    space = v2.RandAugment._AUGMENTATION_SPACE
    assert len(randaugment(2, 9).transforms) == len(space) == 14
    names = {"color": "saturation", "shearx": "shear_x", "sheary": "shear_y", "translatex": "translate_x",
             "translatey": "translate_y"}  # fmt: skip
    theirs = {names.get(key.lower(), key.lower()): values for key, values in space.items()}
    for magnitude in (0, 4, 10):
        for one in randaugment(2, magnitude).transforms:
            values = theirs.pop(one.name)[0](11, 1, 1) if magnitude == 10 else theirs[one.name][0](11, 1, 1)
            if values is None:
                assert (one.low, one.high) == (0, 0)
                continue
            amount = float(values[magnitude])
            wanted = {
                "posterize": (8 - 4 * magnitude / 10, 8),
                "solarize": (256 * amount, 256),
            }.get(one.name, (-amount, amount))
            if one.name in ("brightness", "contrast", "saturation", "sharpness"):
                wanted = (1 - amount, 1 + amount)
            assert (one.low, one.high) == pytest.approx(wanted, abs=1e-4)
            if one.name == "posterize":
                assert round(one.low) == int(amount)
    assert theirs == {}
    with pytest.raises(OptionError, match="magnitude"):
        randaugment(2, 11)


def test_json_and_back() -> None:
    transforms = (Transform("crop", 1, 0.5, 1), Transform("flip", 0.5), randaugment(3, 5))
    values = [one.to_dict() for one in transforms]
    assert transforms_from(values) == transforms
    assert values[0] == {"name": "crop", "probability": 1.0, "low": 0.5, "high": 1.0}
    assert str(Transform("rotate", 1, -0.0, 0).to_dict()) == str(Transform("rotate", 1.0, 0.0, -0.0).to_dict())
    assert transforms_from([{"name": "flip"}]) == (Transform("flip"),)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("flip", "must be a list"),
        (None, "must be a list"),
        (["flip"], "must have the keys"),
        ([{}], "must have the keys"),
        ([{"name": "flip", "p": 0.5}], "must have the keys"),
        ([{"name": 3}], "name must be a text"),
        ([{"name": "flip", "probability": "1"}], "others numbers"),
        ([{"name": "flip", "probability": True}], "others numbers"),
        ([{"name": "zoom"}], "name must be one of"),
        ([{"name": "flip", "probability": 1.5}], "from 0 to 1, got 1.5"),
        ([{"name": "flip", "probability": math.nan}], "from 0 to 1"),
        ([{"name": "flip", "high": 1}], "it has no amount"),
        ([{"name": "crop", "low": 0, "high": 1}], "0.01 ≤ low ≤ high ≤ 1, got 0 and 1"),
        ([{"name": "crop", "low": 0.9, "high": 0.5}], "got 0.9 and 0.5"),
        ([{"name": "rotate", "low": -math.inf, "high": 0}], "-180"),
        ([{"name": "rotate", "low": 0, "high": math.nan}], "-180"),
        ([{"name": "posterize"}], "1 ≤ low"),
        ([{"count": 2}], "must have the keys"),
        ([{"count": 2, "of": []}], "at least one transform"),
        ([{"count": 0, "of": [{"name": "flip"}]}], "count must be from 1 to 16"),
        ([{"count": True, "of": [{"name": "flip"}]}], "whole count"),
        ([{"count": 1.0, "of": [{"name": "flip"}]}], "whole count"),
        ([{"count": 1, "of": [{"count": 1, "of": [{"name": "flip"}]}]}], "transforms alone"),
    ],
)
def test_what_does_not_belong_is_refused(values: Any, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        transforms_from(values)
    assert said in caught.value.what
