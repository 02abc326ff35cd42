"""Untrusted bytes become RGB pixels, and pixels what a network wants to see.

The only module that knows Pillow. Training, prediction and serving all come through ``decode``
and ``Preprocess.fit``, so an image looks the same to each of them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from greffon.errors import ImageError, OptionError

__all__ = ["FORMATS", "Limits", "Preprocess", "Signature", "decode", "read_bytes", "signature", "thumbnail"]

Image.init()
#: Formats that are told from their first bytes, as far as this Pillow was built with them. TGA and the like
#: have no such mark, and are not read.
FORMATS = tuple(
    name
    for name in ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000")
    if name in Image.OPEN
)

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

#: EXIF tag 0x0112: how the stored picture must be turned to stand upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest input that is looked at: encoded bytes, and decoded pixels (height × width)."""

    max_bytes: int = 256 * 2**20
    max_pixels: int = 2**30 // 12  # 89,478,485: where Pillow, too, begins to suspect a bomb


def read_bytes(path: Path, *, limits: Limits = Limits()) -> bytes:
    """The bytes of a file, or an ``ImageError`` if it cannot be read or is larger than the limit."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"{path}: cannot be read ({reason})") from error
    if len(data) > limits.max_bytes:
        raise ImageError(f"{path}: larger than {limits.max_bytes:,} bytes, the limit for one image file")
    return data


def decode(data: bytes, *, limits: Limits = Limits(), reduce_to: int = 0) -> np.ndarray:
    """Decode one image.

    EXIF orientation is applied, transparency is laid on white, 16-bit and float greys are scaled
    to 8 bits, an animation gives its first frame, and colour profiles are not applied.

    Parameters
    ----------
    data
        An encoded image. Its format is told from its content.
    limits
        Refuses larger input before it is decoded.
    reduce_to
        If not 0, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as its shorter side
        keeps this many pixels. Faster, but it changes pixels: by up to 62 levels in photos.

    Returns
    -------
    uint8 (h, w, 3), RGB.

    Raises
    ------
    ImageError
        Not an image, damaged, or over a limit. Never another exception, whatever the bytes.
    """
    if not data:
        raise ImageError("the file is empty")
    if len(data) > limits.max_bytes:
        raise ImageError(f"{len(data):,} bytes, over the limit of {limits.max_bytes:,}")
    try:
        return _decode(data, limits, reduce_to)
    except ImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"not an image of a known format ({', '.join(FORMATS)})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"more than {limits.max_pixels:,} pixels") from error
    except Exception as error:  # decoders of hostile bytes raise anything: struct.error, KeyError, MemoryError, ...
        reason = str(error) or type(error).__name__
        raise ImageError(f"damaged image ({reason.splitlines()[0][:200]})") from error


def _decode(data: bytes, limits: Limits, reduce_to: int) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > limits.max_pixels:
            raise ImageError(f"{width} × {height} pixels, over the limit of {limits.max_pixels:,}")
        if reduce_to and image.format == "JPEG":
            image.draft(None, _at_least(width, height, reduce_to))
        turn = _UPRIGHT.get(_orientation(image))
        image.load()
        rgb = _to_rgb(image)
        if turn is not None:
            rgb = rgb.transpose(turn)
        return np.asarray(rgb)


def _at_least(width: int, height: int, shorter: int) -> tuple[int, int]:
    side = max(1, min(width, height))
    return max(1, width * shorter // side), max(1, height * shorter // side)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a damaged EXIF block is no reason to lose the picture
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode == "F" or mode.startswith("I"):
        return Image.fromarray(_grey_levels(np.asarray(image))).convert("RGB")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _grey_levels(values: np.ndarray) -> np.ndarray:
    """Deep greys as uint8: 16-bit integers by 257, floats from [0, 1], [0, 255] or else their own range."""
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) * 255 + 32895) >> 16).astype(np.uint8)
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        scaled = finite * 255
    elif low >= 0 and high <= 255:
        scaled = finite
    elif low >= 0 and high <= 65535 and values.dtype.kind != "f":
        scaled = finite / 257
    else:
        scaled = (finite - low) * (255 / max(high - low, 1e-300))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """From any RGB image to what one network was trained to see. Travels with the model.

    ``fit`` does the geometry (uint8 to uint8), ``normalise`` the numbers: ``(pixel * scale - mean) / std``
    in the channel order of ``channels``. All sizes are integers.

    Parameters
    ----------
    height, width
        What the network sees, in pixels.
    resize
        ``"shortest"``: the shorter side becomes ``resize_to``, the shape is kept, and the middle is cut out.
        ``"squash"``: the whole image is pressed into (height, width).
    resize_to
        Length in pixels of the shorter side before the crop; only for ``"shortest"``.
    interpolation, antialias
        Of the resize. Without antialiasing, it samples at points, as OpenCV and old Keras do.
    channels, mean, std, scale
        ``"rgb"`` or ``"bgr"``; mean and std stand in that order.
    reduced_jpeg
        Whether a JPEG may be decoded at reduced scale. Off: it changes pixels.
    """

    height: int
    width: int
    resize: Literal["shortest", "squash"]
    resize_to: int
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]
    antialias: bool
    channels: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float
    reduced_jpeg: bool = False

    def __post_init__(self) -> None:
        if not (1 <= self.height <= 4096 and 1 <= self.width <= 4096):
            raise OptionError(f"Preprocess: the input size must be from 1 to 4096 pixels, got {self.height} × {self.width}")
        if self.resize == "shortest" and self.resize_to < max(self.height, self.width):
            raise OptionError(f"Preprocess: resize_to must be at least {max(self.height, self.width)}, got {self.resize_to}")
        if self.resize not in ("shortest", "squash") or self.interpolation not in _RESAMPLING:
            raise OptionError(f"Preprocess: unknown resize {self.resize!r} or interpolation {self.interpolation!r}")
        if self.channels not in ("rgb", "bgr") or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise OptionError("Preprocess: channels must be 'rgb' or 'bgr', with three means and three positive stds")

    def fit(self, image: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 3) of any size to uint8 (height, width, 3), both RGB."""
        picture = Image.fromarray(image)
        width, height = picture.size
        box = (0.0, 0.0, float(width), float(height))
        if self.resize == "shortest":
            # The crop is taken in the source's coordinates: the same samples as resizing everything and
            # then cutting, at a fraction of the work, and harmless where an image is 1 pixel by 60,000.
            shorter = min(width, height)
            full_width, full_height = width * self.resize_to // shorter, height * self.resize_to // shorter
            left, top = _middle(full_width - self.width), _middle(full_height - self.height)
            box = (
                left * width / full_width,
                top * height / full_height,
                (left + self.width) * width / full_width,
                (top + self.height) * height / full_height,
            )
        size = (self.width, self.height)
        method = _RESAMPLING[self.interpolation]
        if self.antialias:
            return np.asarray(picture.resize(size, method, box=box))
        if method not in (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC):
            raise OptionError("Preprocess: lanczos needs antialias=True")
        return np.asarray(picture.transform(size, Image.Transform.EXTENT, box, method))

    def read(self, data: bytes, *, limits: Limits = Limits()) -> np.ndarray:
        """Encoded bytes to uint8 (height, width, 3). Raises ImageError."""
        needed = self.resize_to if self.resize == "shortest" else max(self.height, self.width)
        return self.fit(decode(data, limits=limits, reduce_to=needed if self.reduced_jpeg else 0))

    def normalise(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, height, width, 3) RGB to float32 (n, 3, height, width) in the network's channel order."""
        pixels = images[..., ::-1] if self.channels == "bgr" else images
        values = pixels.astype(np.float32) * np.float32(self.scale)
        values = (values - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """The inverse of ``to_dict``. Raises OptionError for a key or a type that does not belong."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or set(values) - names or not names - {"reduced_jpeg"} <= set(values):
            raise OptionError(f"Preprocess: expected the keys {sorted(names)}, got {sorted(values)}")
        kinds = {"height": int, "width": int, "resize_to": int, "antialias": bool, "scale": (int, float), "reduced_jpeg": bool}
        for name, kind in kinds.items():
            if name in values and (not isinstance(values[name], kind) or (kind is int and isinstance(values[name], bool))):
                raise OptionError(f"Preprocess: {name} must be {kind}, got {values[name]!r}")
        try:
            triples = {name: tuple(float(number) for number in values[name]) for name in ("mean", "std")}
        except (TypeError, ValueError) as error:
            raise OptionError("Preprocess: mean and std must be three numbers each") from error
        return cls(**{**values, **triples})


def _middle(slack: int) -> int:
    """Half of ``slack``; the half of an odd number goes to the even side, as torchvision and timm round it."""
    half = slack // 2
    return half + (slack & half & 1)


@dataclass(frozen=True, slots=True)
class Signature:
    """What one cheap look at an image tells: its upright size, and small pictures to find its like by."""

    height: int
    width: int
    grey: np.ndarray  # uint8 (16, 16)
    colour: np.ndarray  # uint8 (4, 4, 3)


def signature(data: bytes, *, limits: Limits = Limits()) -> Signature:
    """Read every byte of an image at a fraction of the cost of ``decode``. Raises ImageError where that would.

    The small pictures are area averages of the whole image, JPEGs taken at reduced scale.
    """
    image = decode(data, limits=limits, reduce_to=64)
    with Image.open(io.BytesIO(data), formats=FORMATS) as head:
        height, width = (head.width, head.height) if _orientation(head) >= 5 else (head.height, head.width)
    small = Image.fromarray(image).resize((16, 16), Image.Resampling.BOX)
    return Signature(height, width, np.asarray(small.convert("L")), np.asarray(small.resize((4, 4), Image.Resampling.BOX)))


def thumbnail(image: np.ndarray, side: int = 96, quality: int = 70) -> bytes:
    """A JPEG no larger than ``side`` × ``side`` pixels of uint8 (h, w, 3)."""
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()
