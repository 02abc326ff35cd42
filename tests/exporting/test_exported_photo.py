"""The resize, the crop and the numbers inside of a graph, against Pillow's: ``Preprocess.fit`` and ``normalise``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from drawn import photo
from greffon.errors import OptionError
from greffon.exporting.photo import PHOTO, can_be_exported
from greffon.images import Preprocess

pytest.importorskip("onnx")
onnxruntime: Any = pytest.importorskip("onnxruntime")

from greffon.exporting.graph import photo_graph  # noqa: E402
from greffon.exporting.torch_file import Photo  # noqa: E402

PLAIN = Preprocess(height=48, width=56, resize="shortest", resize_to=65, interpolation="bicubic", antialias=True,
                   channels="rgb", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale=1.0)  # fmt: skip
#: Odd and even, at and about the network's own, flat and tall; the last two are handed to Pillow as a crop alone.
SIZES = [(1, 1), (1, 40), (31, 3), (48, 56), (65, 65), (64, 66), (97, 131), (333, 500), (500, 333), (480, 200), (700, 260),
         (9, 150), (400, 13), (1700, 20), (20, 1700)]  # fmt: skip
def session(preprocess: Preprocess) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(photo_graph(preprocess).SerializeToString(), options)


def pixels(graph: Any, image: np.ndarray) -> np.ndarray:
    return graph.run(None, {PHOTO: image[None]})[0][0].transpose(1, 2, 0)


@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_it_is_pillows_resize(interpolation: Any, resize: Any) -> None:
    pre = replace(PLAIN, interpolation=interpolation, resize=resize)
    graph = session(pre)
    for seed, (height, width) in enumerate(SIZES):
        noise = np.random.default_rng(seed).integers(0, 2, (height, width, 3), dtype=np.uint8) * np.uint8(255)
        for image in (photo(seed, height, width), noise):
            assert np.array_equal(pixels(graph, image), pre.fit(image)), (height, width)


def test_sizes_agree_for_every_height_and_width() -> None:
    # A picture whose level is its place: one pixel more or less in the resized whole moves it by a level and more.
    pre = replace(PLAIN, interpolation="bilinear", height=24, width=24, resize_to=29)
    graph = session(pre)
    for height in range(20, 92, 3):
        for width in range(height % 7 + 20, 90, 11):
            rows, columns = np.mgrid[0:height, 0:width]
            image = np.stack([rows * 255 // height, columns * 255 // width, rows * 0], 2).astype(np.uint8)
            assert np.array_equal(pixels(graph, image), pre.fit(image)), (height, width)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_the_numbers_are_those_of_normalise(channels: Any) -> None:
    pre = replace(PLAIN, channels=channels, mean=(103.9, 116.7, 123.6), std=(1.0, 2.0, 0.5), scale=0.5)
    image = photo(3, 65, 65)
    got = session(pre).run(None, {PHOTO: image[None]})[0]
    assert got == pytest.approx(pre.normalise(pre.fit(image)[None]), abs=1e-5)


def test_several_photos_at_once_are_as_each_alone() -> None:
    graph = session(PLAIN)
    images = np.stack([photo(seed, 77, 131) for seed in range(3)])
    together = graph.run(None, {PHOTO: images})[0]
    for image, one in zip(images, together, strict=True):
        assert np.array_equal(graph.run(None, {PHOTO: image[None]})[0][0], one)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_torch_has_the_same_photo(interpolation: Any) -> None:
    pre = replace(PLAIN, interpolation=interpolation)
    graph, module = session(pre), Photo(pre)
    for seed, (height, width) in enumerate(SIZES):
        image = photo(seed, height, width)
        with torch.no_grad():
            there = module(torch.from_numpy(image[None]))[0].permute(1, 2, 0).numpy()
        assert np.array_equal(pixels(graph, image), there), (height, width)


@pytest.mark.parametrize("change", [{"antialias": False, "interpolation": "bilinear"}, {"interpolation": "nearest"}])
def test_what_has_no_graph_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="antialiased"):
        can_be_exported(replace(PLAIN, **change))
