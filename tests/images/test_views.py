"""Views: the plain one bit for bit, the others the same wherever, whenever and in whatever order."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn import photo
from greffon import images
from greffon.errors import OptionError
from greffon.images import PLAIN, POLICIES, Choice, Preprocess, Transform, View, randaugment, views

PRE = Preprocess(height=64, width=64, resize="shortest", resize_to=72, interpolation="bicubic", antialias=True,
                 channels="bgr", mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0), scale=1.0)  # fmt: skip
RANDOM = ("light", "standard", "strong")


def digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def looked(policy: str, image: np.ndarray, count: int = 6, seed: int = 0) -> list[np.ndarray]:
    return [view.fit(image, digest(image), PRE) for view in views(policy, count, seed)]


@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_the_plain_view_is_the_preprocessing(resize: Literal["shortest", "squash"]) -> None:
    pre = replace(PRE, resize=resize)
    for policy in POLICIES:
        first = views(policy, 1, seed=9)[0]
        for size in ((50, 80), (64, 64), (1, 300)):
            image = photo(1, *size)
            np.testing.assert_array_equal(first.fit(image, "x", pre), pre.fit(image))
            np.testing.assert_array_equal(View(POLICIES[policy], 3, 0).fit(image, "x", pre), pre.fit(image))


def test_the_second_view_of_flip_is_the_mirror_image() -> None:
    image = photo(2, 90, 130)
    plain, mirrored = looked("flip", image, 2)
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])


@pytest.mark.parametrize("policy", RANDOM)
def test_views_differ_from_each_other_by_number_seed_and_image(policy: str) -> None:
    image, other = photo(3, 90, 130), photo(3, 90, 130)
    other[0, 0] ^= 1
    some = [*looked(policy, image), *looked(policy, image, seed=1)[1:], *looked(policy, other)[1:]]
    assert all((a != b).mean() > 0.05 for a, b in combinations(some, 2))


@pytest.mark.parametrize("policy", RANDOM)
def test_a_view_does_not_depend_on_what_was_looked_at_before(policy: str) -> None:
    pictures = [photo(seed, 80, 100) for seed in range(4)]
    wanted = [looked(policy, one) for one in pictures]
    order = [(i, k) for i in range(4) for k in range(6)]
    for i, k in np.random.default_rng(0).permutation(order).tolist():
        np.testing.assert_array_equal(views(policy, 6)[k].fit(pictures[i], digest(pictures[i]), PRE), wanted[i][k])


PROGRAM = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
from drawn import photo
from greffon.images import Preprocess, views
pre = Preprocess.from_dict(json.loads(sys.argv[2]))
found = {}
for policy in ("strong", "light", "standard"):
    for view in reversed(views(policy, 6)):
        image = photo(4, 90, 130)
        pixels = view.fit(image, hashlib.sha256(image.tobytes()).hexdigest(), pre)
        found[policy + " " + view.name] = hashlib.sha256(pixels.tobytes()).hexdigest()
print(json.dumps(found))
"""


def test_another_process_sees_the_same() -> None:
    tests = str(Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", PROGRAM, tests, json.dumps(PRE.to_dict())], capture_output=True,
                          text=True, check=True)  # fmt: skip
    image = photo(4, 90, 130)
    found = {f"{policy} {view.name}": hashlib.sha256(view.fit(image, digest(image), PRE).tobytes()).hexdigest()
             for policy in RANDOM for view in views(policy, 6)}  # fmt: skip
    assert len(found) == 18
    assert json.loads(done.stdout) == found


def test_the_crop_of_a_policy_is_drawn_for_each_image() -> None:
    """Of a picture whose pixels say where they are, the middle of each view and its width, over many digests."""
    ramp = np.zeros((128, 128, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(128), np.arange(128)[:, None]
    view = View((Transform("crop", 1.0, 0.35, 1.0),), 0, 1)
    seen = [view.fit(ramp, str(i), PRE).astype(float) for i in range(400)]
    width = np.array([one[32, -1, 0] - one[32, 0, 0] for one in seen]) / 126
    height = np.array([one[-1, 32, 1] - one[0, 32, 1] for one in seen]) / 126
    assert 0.30 < (width * height).min() < 0.40
    assert 0.9 < (width * height).max() <= 1.01
    assert abs(np.mean([one[32, 32, 0] for one in seen]) - 64) < 3


def test_extreme_pictures_are_quick() -> None:
    for size in ((1, 1), (1, 4000), (4000, 1), (2, 60_000), (3000, 4000)):
        image = np.full((*size, 3), 77, np.uint8)
        began = time.perf_counter()
        for view in views("strong", 6):
            assert view.fit(image, "x", PRE).shape == (64, 64, 3)
        assert time.perf_counter() - began < 6, size


sizes = st.one_of(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.sampled_from([(1, 1), (1, 4000), (4000, 1), (2, 700), (700, 3)]),
)
ANY = (
    Transform("crop", 0.8, 0.01, 1.0), Transform("flip", 0.5),
    Choice(3, (*randaugment(1, 10).transforms, Transform("hue", 1.0, -0.5, 0.5), Transform("grey"),
               Transform("blur", 1.0, 0.0, 32.0), Transform("erase", 1.0, 0.0, 1.0), Transform("rotate", 1.0, -180, 180),
               Transform("posterize", 1.0, 1, 8), Transform("shear_x", 1.0, -1, 1), Transform("translate_y", 1.0, -1, 1))),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    size=sizes,
    transforms=st.sampled_from([*POLICIES.values(), ANY]),
    seed=st.integers(0, 2**63 - 1),
    number=st.integers(0, 2**63 - 1),
    shape=st.tuples(st.sampled_from([1, 7, 32]), st.sampled_from([1, 9, 40])),
    resize=st.sampled_from(["shortest", "squash"]),
    kernel=st.sampled_from([("nearest", True), ("bilinear", False), ("bilinear", True), ("bicubic", False), ("lanczos", True)]),
)
def test_whatever_the_picture(
    size: tuple[int, int], transforms: Any, seed: int, number: int, shape: tuple[int, int], resize: Any, kernel: Any
) -> None:
    image = np.random.default_rng(seed % 1000).integers(0, 256, (*size, 3), np.uint8)
    image.setflags(write=False)
    pre = replace(PRE, height=shape[0], width=shape[1], resize_to=45, resize=resize, interpolation=kernel[0], antialias=kernel[1])
    view = View(transforms, seed, number)
    found = view.fit(image, "d", pre)
    assert (found.shape, found.dtype) == ((*shape, 3), np.uint8)
    np.testing.assert_array_equal(found, View.from_dict(json.loads(json.dumps(view.to_dict()))).fit(image, "d", pre))


# --- names, lists, JSON ----------------------------------------------------------------------------------------


def test_a_name_is_the_number_and_a_digest_of_the_recipe() -> None:
    """Written out, for stores that exist already: a recipe must not get another name, nor another recipe its name."""
    recipe = b'{"seed":5,"transforms":[{"high":0.0,"low":0.0,"name":"flip","probability":0.5}],"way":1}'
    assert View((Transform("flip", 0.5),), 5, 3).name == f"v3-{hashlib.sha256(recipe).hexdigest()[:12]}"
    assert {PLAIN.name, View((), 4, 7).name, View((Transform("flip"),), 4, 0).name} == {"plain"}


def test_equal_recipes_share_a_name_and_others_do_not() -> None:
    assert View((Transform("rotate", 1, -5, 5),), 0, 1).name == View((Transform("rotate", 1.0, -5.0, 5.0),), 0, 1).name
    several = [View((Transform("flip", p), Transform(name, 1.0, 0, high)), seed, number)
               for p in (0.5, 1.0) for name in ("rotate", "shear_x") for high in (0.5, 1.0)
               for seed in (0, 1) for number in (1, 2, 11)]  # fmt: skip
    order = View((Transform("flip"), Transform("grey")), 0, 1), View((Transform("grey"), Transform("flip")), 0, 1)
    one_of = View((Choice(1, (Transform("flip"),)),), 0, 1), View((Choice(2, (Transform("flip"),)),), 0, 1)
    assert len({view.name for view in (*several, *order, *one_of)}) == len(several) + 4
    for policy in RANDOM:
        assert views(policy, 8)[:3] == views(policy, 3)


def test_views_of_a_policy() -> None:
    assert list(POLICIES) == ["none", "flip", "light", "standard", "strong"]
    found = views("standard", 5, 7)
    assert found[0] == PLAIN
    assert [(view.seed, view.number) for view in found[1:]] == [(7, 1), (7, 2), (7, 3), (7, 4)]
    assert views("none", 1) == (PLAIN,)
    with pytest.raises(OptionError, match="policy must be one of none, flip, light, standard, strong, got 'magic'"):
        views("magic", 3)
    for count in (0, -1, True, 2.0):
        with pytest.raises(OptionError, match="count must be a whole number from 1"):
            views("light", count)  # type: ignore[arg-type]  # on purpose
    for policy, most in (("none", 1), ("flip", 2)):
        with pytest.raises(OptionError, match=f"no more than {most} different views"):
            views(policy, most + 1)


def test_test_time_views() -> None:
    some = images.test_time_views(6)
    assert (len(some), len({view.name for view in some})) == (6, 6)
    assert images.test_time_views(3) == some[:3]
    assert some[:1] == images.test_time_views(1) == (PLAIN,)
    image = photo(5, 100, 90)
    seen = [view.fit(image, "d", PRE) for view in some]
    np.testing.assert_array_equal(seen[1], PRE.fit(image)[:, ::-1])
    for view, pixels in zip(some[2:], seen[2:], strict=True):
        crop = View(view.transforms[:1], view.seed, view.number).fit(image, "d", PRE)
        np.testing.assert_array_equal(pixels, crop[:, ::-1] if view.number % 2 else crop)
        assert (pixels != seen[0]).mean() > 0.2
    for count in (0, -3):
        with pytest.raises(OptionError, match="must be a whole number from 1"):
            images.test_time_views(count)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "expected the keys transforms, seed and number, got list"),
        ({"transforms": []}, "expected the keys"),
        ({"transforms": [], "seed": 0, "number": 0, "more": 1}, "expected the keys"),
        ({"transforms": [], "seed": -1, "number": 0}, "seed must be a whole number"),
        ({"transforms": [], "seed": 0, "number": 1.0}, "number must be a whole number"),
        ({"transforms": [], "seed": True, "number": 0}, "seed must be a whole number"),
        ({"transforms": "flip", "seed": 0, "number": 0}, "must be a list"),
        ({"transforms": [{"name": "turn"}], "seed": 0, "number": 0}, "name must be one of"),
    ],
)
def test_a_view_that_cannot_be(values: Any, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        View.from_dict(values)
    assert said in caught.value.what


def test_a_crop_comes_first_or_not_at_all() -> None:
    crop = Transform("crop", 1.0, 0.5, 1.0)
    for transforms in ((Transform("flip"), crop), (crop, crop), (Choice(1, (crop,)),), (crop, Choice(1, (Transform("flip"), crop)))):
        with pytest.raises(OptionError, match="only the first of the transforms can be a crop"):
            View(transforms, 0, 1)
    View((crop, Transform("flip")), 0, 1)
