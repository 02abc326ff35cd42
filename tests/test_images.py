"""Pixels against Pillow, torch, timm, and formulas written out."""

from __future__ import annotations

import io
import json
import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import timm.data.transforms_factory
import torch
from PIL import Image, ImageOps

from drawn import encode, frames, photo, with_orientation
from greffon.errors import ImageError, OptionError
from greffon.images import Limits, Preprocess, decode, read_bytes, signature, thumbnail

PLAIN = Preprocess(height=224, width=224, resize="shortest", resize_to=256, interpolation="bilinear", antialias=True,
                   channels="rgb", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale=1.0)  # fmt: skip

# What EXIF orientations ask for, in numpy's words.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, 1),
}


def largest(a: np.ndarray, b: np.ndarray) -> int:
    """The largest difference in levels."""
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


# --- decode ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "WEBP", "DIB"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    picture = photo(1, 31, 47)
    decoded = decode(encode(picture, kind))
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, picture)


def test_jpeg_is_what_pillow_reads() -> None:
    data = encode(photo(2), "JPEG")
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "compression"), [("PNG", ""), ("WEBP", ""), ("TIFF", "raw"), ("TIFF", "tiff_lzw")])
def test_exif_orientation(kind: str, compression: str, orientation: int) -> None:
    picture = photo(3, 20, 33)
    data = with_orientation(picture, kind, orientation, compression)
    upright = TURNS[orientation](picture)
    assert np.array_equal(decode(data), upright)
    assert np.array_equal(decode(data), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    seen = signature(data)
    assert (seen.height, seen.width) == upright.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_a_jpeg_also_at_reduced_scale(orientation: int) -> None:
    data = with_orientation(photo(4, 400, 640), "JPEG", orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(decode(data), expected)
    seen = signature(data)
    assert (seen.height, seen.width) == expected.shape[:2]
    assert decode(data, reduce_to=100).shape[:2] == tuple(side // 4 for side in expected.shape[:2])


def test_a_nonsense_orientation_is_upright() -> None:
    picture = photo(5, 8, 9)
    assert np.array_equal(decode(with_orientation(picture, "PNG", 77)), picture)


def test_cmyk_by_formula() -> None:
    inks = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    data = encode(Image.fromarray(inks, "CMYK"), "TIFF")
    c, k = inks[..., :3].astype(float), inks[..., 3:].astype(float)
    assert np.abs(decode(data) - (255 - c) * (255 - k) / 255).max() <= 1.01


def test_cmyk_jpeg_with_and_without_adobes_mark() -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[..., 0], inks[..., 3] = 200, 30  # a dark cyan
    data = encode(Image.fromarray(inks, "CMYK"), "JPEG", quality=100)
    at = data.index(b"Adobe")
    bare = data[: at - 4] + data[at - 2 + struct.unpack(">H", data[at - 2 : at])[0] :]
    assert b"Adobe" not in bare
    wanted = np.array([(255 - 200) * (255 - 30) / 255, 255 - 30, 255 - 30])
    assert np.abs(decode(data) - wanted).max() <= 3
    assert np.abs(decode(bare) - wanted).max() <= 3


def test_palette_and_its_transparency() -> None:
    picture = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3), "P")
    picture.putpalette([0, 0, 0, 250, 10, 20, 30, 240, 50, 60, 70, 230, 1, 2, 3, 90, 91, 92])
    colours = np.array(picture.convert("RGB"))
    assert np.array_equal(decode(encode(picture, "PNG")), colours)
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=bytes([0, 255, 128, 255, 255, 255]))
    decoded = decode(file.getvalue())
    assert decoded[0, 0].tolist() == [255, 255, 255]
    assert largest(decoded[0, 2], np.rint(colours[0, 2] * (128 / 255) + 255 - 128).astype(int)) <= 1
    assert np.array_equal(decoded[1], colours[1])
    gif = io.BytesIO()
    picture.save(gif, "GIF", transparency=1)
    assert decode(gif.getvalue())[0, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_lies_on_white(kind: str) -> None:
    layer = np.random.default_rng(1).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    colour, alpha = layer[..., :3].astype(float), layer[..., 3:] / 255
    assert (
        np.abs(decode(encode(Image.fromarray(layer, "RGBA"), kind)) - (colour * alpha + 255 * (1 - alpha))).max() <= 1
    )


def test_grey_alpha_and_colour_keys() -> None:
    two = np.random.default_rng(2).integers(0, 256, (8, 8, 2), dtype=np.uint8)
    grey, alpha = two[..., 0].astype(float), two[..., 1] / 255
    decoded = decode(encode(Image.fromarray(two, "LA"), "PNG"))
    assert np.abs(decoded - (grey * alpha + 255 * (1 - alpha))[..., None]).max() <= 1
    for mode, key, pixels in (("RGB", (1, 2, 3), np.array([[[1, 2, 3], [1, 2, 4]]], np.uint8)),
                              ("L", 7, np.array([[7, 8]], np.uint8)),
                              ("I;16", 700, np.array([[700, 8 * 257]], np.uint16))):  # fmt: skip
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", transparency=key)
        decoded = decode(file.getvalue())
        assert decoded[0, 0].tolist() == [255, 255, 255], mode
        assert decoded[0, 1].max() <= 8, mode


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF big-endian", "PGM"])
@pytest.mark.parametrize("brightest", [65535, 255])
def test_16_bits_by_257(kind: str, brightest: int) -> None:
    values = (np.arange(65536) % (brightest + 1)).astype(np.uint16).reshape(256, 256)
    if kind == "PGM":
        data = b"P5 256 256 65535\n" + values.astype(">u2").tobytes()
    elif kind == "TIFF big-endian":
        data = encode(Image.fromarray(values.astype(">u2")), "TIFF")
        assert Image.open(io.BytesIO(data)).mode == "I;16B"
    else:
        data = encode(values, kind)
    assert np.array_equal(decode(data), np.repeat(np.rint(values / 257)[..., None], 3, axis=2))


def test_16_bit_colour_is_within_a_level() -> None:
    rgb = np.random.default_rng(3).integers(0, 65536, (9, 11, 3), dtype=np.uint16)
    ppm = b"P6 11 9 65535\n" + rgb.astype(">u2").tobytes()
    assert np.abs(decode(ppm) - rgb / 257).max() <= 1


def test_float_and_wide_greys() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    levels = np.arange(256).reshape(16, 16)
    for values in (
        ramp,
        ramp * 255,
        ramp * 9000 - 4000,
        levels.astype(np.int32),
        (ramp * 3e9 - 1.5e9).astype(np.int32),
    ):
        assert largest(decode(encode(values, "TIFF"))[..., 1], levels) <= 1
    holes = ramp.copy()
    holes[0, 1], holes[0, 2] = np.nan, np.inf
    assert decode(encode(holes, "TIFF"))[0, 1].tolist() == [0, 0, 0]
    wide = np.array([[np.finfo(np.float32).min, 0, np.finfo(np.float32).max]], np.float32)
    assert decode(encode(wide, "TIFF"))[0, :, 0].tolist() == [0, 128, 255]


def test_grey_and_black_and_white() -> None:
    grey = photo(6, 12, 13)[..., 0]
    assert np.array_equal(decode(encode(grey)), np.repeat(grey[..., None], 3, axis=2))
    bits = Image.fromarray(grey > 128)
    assert set(np.unique(decode(encode(bits, "PNG")))) == {0, 255}


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    colours = ([250, 0, 0], [0, 250, 0], [0, 0, 250])
    data = frames([np.full((20, 30, 3), colour, np.uint8) for colour in colours], kind)
    assert Image.open(io.BytesIO(data)).n_frames == 3  # type: ignore[attr-defined]
    assert largest(decode(data), np.full((20, 30, 3), [250, 0, 0], np.uint8)) <= 4


def test_reduced_jpegs_keep_their_shorter_side_and_other_formats_their_size() -> None:
    picture = photo(7, 600, 900)
    reduced = decode(encode(picture, "JPEG"), reduce_to=140)
    assert reduced.shape == (150, 225, 3)
    assert decode(encode(picture, "PNG"), reduce_to=140).shape == picture.shape
    assert decode(encode(picture, "JPEG"), reduce_to=601).shape == picture.shape


def test_limits(tmp_path: Path) -> None:
    data = encode(photo(8, 10, 20))
    assert decode(data, limits=Limits(max_pixels=200)).shape == (10, 20, 3)
    with pytest.raises(ImageError, match="199"):
        decode(data, limits=Limits(max_pixels=199))
    (tmp_path / "a.jpg").write_bytes(data)
    exact, short = Limits(max_bytes=len(data)), Limits(max_bytes=len(data) - 1)
    assert read_bytes(tmp_path / "a.jpg", limits=exact) == data
    assert decode(data, limits=exact).shape == (10, 20, 3)
    with pytest.raises(ImageError, match="larger"):
        read_bytes(tmp_path / "a.jpg", limits=short)
    with pytest.raises(ImageError, match="limit"):
        decode(data, limits=short)


# --- Preprocess ------------------------------------------------------------------------------------------------

SIZES = [(375, 500), (501, 333), (224, 224), (257, 311), (97, 1000), (600, 61), (63, 64)]


def timms(picture: np.ndarray, size: int, crop_pct: float, interpolation: str) -> np.ndarray:
    """timm's own evaluation transform, up to the point where pixels become numbers."""
    transform: Any = timm.data.transforms_factory.create_transform(
        (3, size, size), interpolation=interpolation, crop_pct=crop_pct
    )
    resize, crop = transform.transforms[:2]
    return np.asarray(crop(resize(Image.fromarray(picture))))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "resize_to"), [(224, 256), (224, 235), (97, 111)])
def test_fit_is_timms_evaluation_transform(
    interpolation: Literal["bilinear", "bicubic"], size: int, resize_to: int
) -> None:
    pre = replace(PLAIN, height=size, width=size, resize_to=resize_to, interpolation=interpolation)
    for height, width in SIZES:
        picture = photo(height, height, width)
        theirs = timms(picture, size, size / (resize_to + 0.5), interpolation)
        assert np.array_equal(pre.fit(picture), theirs), (height, width)  # measured: not one level


def test_fit_of_needles_is_close_to_it() -> None:
    for height, width in ((40, 900), (900, 40)):
        picture = photo(height, height, width)
        assert largest(PLAIN.fit(picture), timms(picture, 224, 224 / 256.5, "bilinear")) <= 1


@pytest.mark.parametrize("resize_to", [64, 65, 66, 67])
def test_the_crop_stands_where_timm_puts_it(resize_to: int) -> None:
    # With no scaling, one pixel off would be plain to see; nothing less than equality will do.
    pre = replace(PLAIN, height=64, width=64, resize_to=resize_to)
    for longer in range(resize_to, resize_to + 9):
        for shape in ((resize_to, longer), (longer, resize_to)):
            picture = photo(longer, *shape)
            assert np.array_equal(pre.fit(picture), timms(picture, 64, 64 / (resize_to + 0.5), "bilinear")), shape


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
def test_squash_is_pillows_resize(interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"]) -> None:
    pre = replace(PLAIN, height=60, width=90, resize="squash", interpolation=interpolation)
    picture = photo(9, 211, 123)
    theirs = Image.fromarray(picture).resize((90, 60), Image.Resampling[interpolation.upper()])
    assert np.array_equal(pre.fit(picture), np.asarray(theirs))


@pytest.mark.parametrize("shape", [(211, 123), (40, 51), (64, 200)])
@pytest.mark.parametrize("resize", ["squash", "shortest"])
def test_without_antialiasing_it_is_torchs_interpolate(
    shape: tuple[int, int], resize: Literal["squash", "shortest"]
) -> None:
    pre = replace(PLAIN, height=60, width=60, resize=resize, resize_to=71, antialias=False)
    picture = photo(10, *shape)
    full = (60, 60) if resize == "squash" else tuple(side * 71 // min(shape) for side in shape)
    top, left = (round((side - 60) / 2) for side in full)
    values = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    theirs = torch.nn.functional.interpolate(values, full, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
    assert np.abs(pre.fit(picture) - theirs[top : top + 60, left : left + 60].numpy()).max() <= 1.01  # rounded down


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1), (1, 1), (3, 20_000)])
@pytest.mark.parametrize("antialias", [True, False])
def test_needles_cost_nothing(shape: tuple[int, int], antialias: bool) -> None:
    begin = time.perf_counter()
    for resize in ("shortest", "squash"):
        fitted = replace(PLAIN, resize=resize, antialias=antialias).fit(photo(11, *shape))
        assert fitted.shape == (224, 224, 3)
        assert fitted.flags.owndata and fitted.flags.writeable
    assert time.perf_counter() - begin < 2  # the whole of it at 256 pixels would be 256 × 15,360,000


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_normalise_against_a_loop(channels: Literal["rgb", "bgr"]) -> None:
    pre = replace(PLAIN, height=3, width=4, resize_to=4, channels=channels, mean=(1.5, 20.0, 0.3), std=(0.5, 2.0, 7.0),
                  scale=1 / 3)  # fmt: skip
    images = np.random.default_rng(4).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    values = pre.normalise(images)
    assert values.dtype == np.float32 and values.shape == (2, 3, 3, 4) and values.flags.c_contiguous
    for n, c, y, x in np.ndindex(values.shape):
        pixel = float(images[n, y, x, c if channels == "rgb" else 2 - c])
        assert values[n, c, y, x] == pytest.approx((pixel / 3 - pre.mean[c]) / pre.std[c], rel=1e-5, abs=1e-5)


def test_normalise_is_timms() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    transform = timm.data.transforms_factory.create_transform((3, 224, 224), mean=mean, std=std, crop_pct=224 / 256.5)
    picture = photo(12, 224, 224)
    pre = replace(PLAIN, resize_to=224, mean=mean, std=std, scale=1 / 255)
    theirs: Any = timm.data.transforms_factory.create_transform((3, 224, 224), mean=mean, std=std, crop_pct=1.0)
    assert len(transform.transforms) == 4  # type: ignore[union-attr]
    assert np.abs(pre.normalise(pre.fit(picture)[None])[0] - theirs(Image.fromarray(picture)).numpy()).max() < 1e-5


def test_read_reduces_only_when_it_is_told_to() -> None:
    picture = photo(13, 1200, 1600)
    data = encode(picture, "JPEG")
    assert np.array_equal(PLAIN.read(data), PLAIN.fit(decode(data)))
    reduced = replace(PLAIN, reduced_jpeg=True)
    assert np.array_equal(reduced.read(data), PLAIN.fit(decode(data, reduce_to=256)))
    assert not np.array_equal(reduced.read(data), PLAIN.read(data))


def test_the_record_travels_as_json() -> None:
    record = replace(PLAIN, channels="bgr", mean=(103.939, 116.779, 123.68), antialias=False, reduced_jpeg=True)
    assert Preprocess.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    old = {key: value for key, value in PLAIN.to_dict().items() if key != "reduced_jpeg"}
    assert Preprocess.from_dict(old) == PLAIN


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0}, {"width": 5000}, {"height": True}, {"height": 224.0}, {"resize_to": 200}, {"resize_to": 10**400},
        {"resize": "stretch"}, {"resize": []}, {"interpolation": "cubic"}, {"interpolation": {}}, {"channels": "gbr"},
        {"channels": ["rgb"]}, {"mean": [1, 2]}, {"mean": "123"}, {"mean": None}, {"std": [1, 1, 0]},
        {"std": [1, 1, float("nan")]}, {"mean": [float("inf"), 0, 0]}, {"scale": float("nan")}, {"scale": True},
        {"scale": "1"}, {"antialias": 1}, {"interpolation": "lanczos", "antialias": False}, {"colour": 1},
    ],
)  # fmt: skip
def test_bad_records(change: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="Preprocess"):
        Preprocess.from_dict({**PLAIN.to_dict(), **change})


@pytest.mark.parametrize("values", [None, [], "x", {}, {1: 2}])
def test_what_is_no_record_at_all(values: Any) -> None:
    with pytest.raises(OptionError, match="expected the keys"):
        Preprocess.from_dict(values)


# --- small pictures --------------------------------------------------------------------------------------------


def test_signature_is_an_area_average() -> None:
    picture = photo(14, 160, 320)
    seen = signature(encode(picture))
    grey = picture @ np.array([0.299, 0.587, 0.114])
    assert np.abs(seen.grey - grey.reshape(16, 10, 16, 20).mean((1, 3))).max() <= 1.5
    assert np.abs(seen.colour - picture.reshape(4, 40, 4, 80, 3).mean((1, 3))).max() <= 1.5
    jpeg = signature(encode(photo(14, 640, 1280), "JPEG"))
    whole = signature(encode(photo(14, 640, 1280), "PNG"))
    assert (jpeg.height, jpeg.width) == (640, 1280)
    assert largest(jpeg.grey, whole.grey) <= 4


def test_thumbnails_are_small_jpegs() -> None:
    small = decode(thumbnail(photo(15, 300, 200), side=50))
    assert small.shape == (50, 33, 3)
    assert max(decode(thumbnail(photo(15, 1, 9000))).shape[:2]) == 96
