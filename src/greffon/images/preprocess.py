"""``Preprocess``: from any RGB image to what one network was trained to see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from PIL import Image

from greffon.errors import OptionError
from greffon.images.decoding import Limits, decode

__all__ = ["Preprocess"]

_LIMITS = Limits()
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


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
        Of the resize. Without antialiasing it samples at points, and rounds down, as Pillow's transform does:
        bilinear is torch's ``interpolate`` to within a level; bicubic has the sharper kernel (a = -1).
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
            raise OptionError(
                f"Preprocess: the input size must be from 1 to 4096 pixels, got {self.height} × {self.width}"
            )
        if self.resize not in ("shortest", "squash") or self.interpolation not in tuple(_RESAMPLING):
            raise OptionError(f"Preprocess: unknown resize {self.resize!r} or interpolation {self.interpolation!r}")
        if self.resize == "shortest" and not max(self.height, self.width) <= self.resize_to <= 65536:
            least = max(self.height, self.width)
            raise OptionError(f"Preprocess: resize_to must be from {least} to 65536, got {self.resize_to}")
        if self.interpolation == "lanczos" and not self.antialias:
            raise OptionError("Preprocess: lanczos needs antialias=True")
        if self.channels not in ("rgb", "bgr") or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise OptionError("Preprocess: channels must be 'rgb' or 'bgr', with three means and three positive stds")
        if not all(math.isfinite(number) for number in (*self.mean, *self.std, self.scale)):
            raise OptionError("Preprocess: mean, std and scale must be finite numbers")

    def fit(self, image: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 3) of any size from 1 × 1 to uint8 (height, width, 3), both RGB."""
        picture = Image.fromarray(image)
        method = _RESAMPLING[self.interpolation]
        size = (self.width, self.height)
        if self.resize == "squash":
            return np.array(self._resized(picture, size, (0.0, 0.0, float(picture.width), float(picture.height))))
        width, height = picture.size
        shorter = min(width, height)
        full_width, full_height = width * self.resize_to // shorter, height * self.resize_to // shorter
        left, top = _middle(full_width - self.width), _middle(full_height - self.height)
        right, bottom = left + self.width, top + self.height
        if self.antialias and max(width, height) <= 16 * shorter:
            # Bit for bit what timm and torchvision do.
            return np.array(picture.resize((full_width, full_height), method).crop((left, top, right, bottom)))
        # The crop is taken in the source's coordinates: the same samples, at a fraction of the work, and harmless where
        # an image is 1 pixel by 60,000. But Pillow may then resize the height before the width, with 8 bits between
        # the two, which in 2 of 10,000 pixels makes up to 6 levels (bicubic).
        across, down = width / full_width, height / full_height
        box = (left * across, top * down, min(right * across, width), min(bottom * down, height))
        return np.array(self._resized(picture, size, box))

    def _resized(
        self, picture: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]
    ) -> Image.Image:
        method = _RESAMPLING[self.interpolation]
        if self.antialias:
            return picture.resize(size, method, box=box)
        # To Pillow, lanczos exists only with antialiasing; the record does not allow it here.
        return picture.transform(size, Image.Transform.EXTENT, box, method)

    def seen_box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The part of a photo of this size that ``fit`` takes: left, top, width and height as shares of the photo's sides."""
        if self.resize == "squash":
            return 0.0, 0.0, 1.0, 1.0
        shorter = min(height, width)
        full_height, full_width = height * self.resize_to // shorter, width * self.resize_to // shorter
        across, down = self.width / full_width, self.height / full_height
        return (1 - across) / 2, (1 - down) / 2, across, down

    @property
    def neutral(self) -> tuple[int, int, int]:
        """The RGB colour, in levels, that ``normalise`` makes as good as zero: what is laid where there is no picture."""
        levels = [min(255, max(0, round(mean / self.scale))) if self.scale else 0 for mean in self.mean]
        red, green, blue = levels[::-1] if self.channels == "bgr" else levels
        return red, green, blue

    def decode(self, data: bytes, *, limits: Limits = _LIMITS) -> np.ndarray:
        """Encoded bytes to the picture that ``fit`` takes, uint8 (h, w, 3). Raises ImageError."""
        needed = self.resize_to if self.resize == "shortest" else max(self.height, self.width)
        return decode(data, limits=limits, reduce_to=needed if self.reduced_jpeg else 0)

    def read(self, data: bytes, *, limits: Limits = _LIMITS) -> np.ndarray:
        """Encoded bytes to uint8 (height, width, 3). Raises ImageError."""
        return self.fit(self.decode(data, limits=limits))

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
            got = list(values) if isinstance(values, Mapping) else type(values).__name__
            raise OptionError(f"Preprocess: expected the keys {sorted(names)}, got {got}")
        kinds = {
            "height": int,
            "width": int,
            "resize_to": int,
            "antialias": bool,
            "scale": (int, float),
            "reduced_jpeg": bool,
        }
        for name, kind in kinds.items():
            if name in values and (
                not isinstance(values[name], kind) or (kind is int and isinstance(values[name], bool))
            ):
                raise OptionError(f"Preprocess: {name} must be {kind}, got {values[name]!r}")
        if isinstance(values["scale"], bool):
            raise OptionError(f"Preprocess: scale must be a number, got {values['scale']!r}")
        triples: dict[str, tuple[float, ...]] = {}
        for name in ("mean", "std"):
            three = values[name]
            if (
                not isinstance(three, (list, tuple))
                or len(three) != 3
                or not all(type(n) in (int, float) for n in three)
            ):
                raise OptionError(f"Preprocess: {name} must be three numbers, got {three!r}")
            triples[name] = tuple(float(number) for number in three)
        return cls(**{**values, **triples})


def _middle(slack: int) -> int:
    """Half of ``slack``; the half of an odd number goes to the even side, as torchvision and timm round it."""
    half = slack // 2
    return half + (slack & half & 1)
