"""What may be done to a picture so that it shows the same thing in another way: a list of transforms, as plain data.

Every random number comes from ``Draws``, so an image's augmented view is a value like any other: it can be
computed twice, on two machines, in any order, and be the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from greffon.errors import OptionError
from greffon.images.preprocess import Preprocess

__all__ = ["Choice", "Draws", "Transform", "crop_box", "randaugment", "transformed", "transforms_from"]

#: The names of all transforms, and the range of their amounts; None for those that have no amount.
_AMOUNTS: dict[str, tuple[float, float] | None] = {
    "autocontrast": None,
    "blur": (0.0, 32.0),
    "brightness": (0.0, 10.0),
    "contrast": (0.0, 10.0),
    "crop": (0.01, 1.0),
    "equalize": None,
    "erase": (0.0, 1.0),
    "flip": None,
    "grey": None,
    "hue": (-0.5, 0.5),
    "identity": None,
    "posterize": (1.0, 8.0),
    "rotate": (-180.0, 180.0),
    "saturation": (0.0, 10.0),
    "sharpness": (0.0, 10.0),
    "shear_x": (-1.0, 1.0),
    "shear_y": (-1.0, 1.0),
    "solarize": (0.0, 256.0),
    "translate_x": (-1.0, 1.0),
    "translate_y": (-1.0, 1.0),
}

#: Width by height of what is cropped, and of what is erased.
_CROPPED = (3 / 4, 4 / 3)
_ERASED = (0.3, 3.3)


@final
@dataclass(frozen=True, slots=True)
class Transform:
    """One thing that is done to a picture, now and then, by an amount drawn evenly from ``low`` to ``high``.

    All but ``"crop"`` work on the picture at the size of the network. What comes in from outside its edge has the
    preprocessing's neutral colour.

    Parameters
    ----------
    name
        - ``"flip"``: left and right change places. ``"identity"``: nothing.
        - ``"crop"``: a part of the source instead of its middle. The amount is its share of the area; its width by its
          height is from 3/4 to 4/3, log-uniform. Only the first of a list can be a crop.
        - ``"rotate"``: degrees counter-clockwise about the middle. ``"shear_x"``, ``"shear_y"``: the tangent of the
          angle. ``"translate_x"``, ``"translate_y"``: a share of the width or height, to the right or downwards.
        - ``"brightness"``, ``"contrast"``, ``"saturation"``, ``"sharpness"``: Pillow's factors; 1 changes nothing.
        - ``"hue"``: a share of the colour circle. ``"grey"``: without colour.
        - ``"blur"``: a Gaussian's standard deviation in pixels.
        - ``"posterize"``: bits that are kept of each channel, rounded. ``"solarize"``: levels from here on are
          inverted. ``"autocontrast"``, ``"equalize"``: of each channel's histogram.
        - ``"erase"``: a rectangle becomes neutral. The amount is its share of the area; its width by its height is
          from 0.3 to 3.3 (random erasing, Zhong et al. 2020, arXiv:1708.04896).
    probability
        Of being done at all, 0 to 1.
    low, high
        The range of the amount; 0 for a transform that has none.
    """

    name: str
    probability: float = 1.0
    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in _AMOUNTS:
            raise OptionError(f"Transform: name must be one of {', '.join(_AMOUNTS)}, got {self.name!r}")
        if not 0 <= self.probability <= 1:
            raise OptionError(f"Transform: probability of {self.name!r} must be from 0 to 1, got {self.probability!r}")
        least, most = _AMOUNTS[self.name] or (0.0, 0.0)
        if not least <= self.low <= self.high <= most:
            expected = f"{least:g} ≤ low ≤ high ≤ {most:g}" if most > least else "left at 0: it has no amount"
            raise OptionError(
                f"Transform: low and high of {self.name!r} must be {expected}, got {self.low!r} and {self.high!r}"
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        # Equal transforms have equal JSON: no 1 beside 1.0, and no -0.0.
        numbers = {name: float(getattr(self, name)) + 0.0 for name in ("probability", "low", "high")}
        return {"name": self.name, **numbers}


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """``count`` of these transforms, one after the other, each drawn anew among all of them.

    In JSON: ``{"count": 2, "of": [...]}``.
    """

    count: int
    transforms: tuple[Transform, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 16 or not self.transforms:
            raise OptionError(
                f"Choice: count must be from 1 to 16, of at least one transform, got {self.count!r} of {len(self.transforms)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"count": self.count, "of": [one.to_dict() for one in self.transforms]}


def transforms_from(values: Any) -> tuple[Transform | Choice, ...]:
    """The inverse of ``to_dict`` for a list of transforms. Raises OptionError for whatever does not belong."""
    if not isinstance(values, list | tuple):
        raise OptionError(f"transforms: must be a list, got {type(values).__name__}")
    found: list[Transform | Choice] = []
    for value in values:
        if isinstance(value, Mapping) and set(value) == {"count", "of"}:
            among = transforms_from(value["of"])
            if type(value["count"]) is not int or any(isinstance(one, Choice) for one in among):
                raise OptionError("transforms: a choice must have a whole count, and transforms alone to choose among")
            found.append(Choice(value["count"], tuple(one for one in among if isinstance(one, Transform))))
        else:
            found.append(_transform_from(value))
    return tuple(found)


def _transform_from(value: Any) -> Transform:
    keys = ("name", "probability", "low", "high")
    if not isinstance(value, Mapping) or "name" not in value or not set(value) <= set(keys):
        got = list(value) if isinstance(value, Mapping) else repr(value)[:80]
        raise OptionError(f"transforms: each must have the keys {', '.join(keys)}, or count and of, got {got}")
    numbers = {key: value[key] for key in keys[1:] if key in value}
    if not isinstance(value["name"], str) or not all(type(number) in (int, float) for number in numbers.values()):
        raise OptionError(f"transforms: name must be a text, the others numbers, got {dict(value)!r}"[:300])
    return Transform(value["name"], **numbers)


def randaugment(count: int, magnitude: float) -> Choice:
    """``count`` of RandAugment's fourteen operations (Cubuk et al. 2020, arXiv:1909.13719), each as likely as another.

    Parameters
    ----------
    magnitude
        0 to 10, the largest: 30 degrees, a shear of 0.3, a move by 150/331 of a side, factors from 0.1 to 1.9, 4 bits,
        everything inverted (AutoAugment's ranges, arXiv:1805.09501). An amount is drawn evenly up to the magnitude, in
        either direction; it is not the magnitude itself, as in the paper.
    """
    if not 0 <= magnitude <= 10:
        raise OptionError(f"randaugment: magnitude must be from 0 to 10, got {magnitude!r}")
    part = magnitude / 10
    ways = {"rotate": 30.0, "shear_x": 0.3, "shear_y": 0.3, "translate_x": 150 / 331, "translate_y": 150 / 331}
    factors = ("saturation", "contrast", "brightness", "sharpness")
    return Choice(
        count,
        (
            *(Transform(name) for name in ("identity", "autocontrast", "equalize")),
            Transform("posterize", 1.0, 8 - 4 * part, 8.0),
            Transform("solarize", 1.0, 256 - 256 * part, 256.0),
            *(Transform(name, 1.0, -most * part, most * part) for name, most in ways.items()),
            *(Transform(name, 1.0, 1 - 0.9 * part, 1 + 0.9 * part) for name in factors),
        ),
    )


@final
class Draws:
    """Random numbers that a seed, an image's digest and a number stand for: everywhere, always the same.

    A Philox generator (Salmon et al. 2011) whose key is the sha256 of the three. Only its raw stream is used, which
    NumPy keeps as it is from version to version; the streams of its distributions it does not.
    """

    def __init__(self, seed: int, digest: str, number: int) -> None:
        name = hashlib.sha256(f"{seed} {number} {digest}".encode()).digest()
        self._generator = np.random.Philox(key=int.from_bytes(name[:16], "little"))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """From ``low`` up to but not including ``high``, in steps of 2**-53 of the way."""
        return low + (high - low) * ((self._raw() >> 11) * 2.0**-53)

    def below(self, count: int) -> int:
        """One of 0 to ``count`` - 1, a small number."""
        return self._raw() * count >> 64

    def _raw(self) -> int:
        return int(self._generator.random_raw())


def transformed(
    image: np.ndarray, transforms: Sequence[Transform | Choice], draws: Draws, preprocess: Preprocess
) -> np.ndarray:
    """uint8 (h, w, 3) of any size to uint8 (height, width, 3): the preprocessing's geometry, or a crop, and the rest."""
    steps = list(transforms)
    crop = steps.pop(0) if steps and isinstance(steps[0], Transform) and steps[0].name == "crop" else None
    if isinstance(crop, Transform) and draws.uniform() < crop.probability:
        top, left, height, width = crop_box(image.shape[0], image.shape[1], crop.low, crop.high, draws)
        fitted = replace(preprocess, resize="squash").fit(image[top : top + height, left : left + width])
    else:
        fitted = preprocess.fit(image)
    picture = Image.fromarray(fitted)
    for step in steps:
        for _ in range(step.count if isinstance(step, Choice) else 1):
            one = step.transforms[draws.below(len(step.transforms))] if isinstance(step, Choice) else step
            if draws.uniform() < one.probability:
                picture = _changed(picture, one.name, draws.uniform(one.low, one.high), draws, preprocess.neutral)
    return np.array(picture)


def crop_box(height: int, width: int, low: float, high: float, draws: Draws) -> tuple[int, int, int, int]:
    """A random part of a picture: its top, left, height and width, all in pixels.

    The algorithm of Szegedy et al. 2015 (arXiv:1409.4842) as in torchvision's ``RandomResizedCrop``: ten tries of an
    area and an aspect; where none fits, the largest part in the middle whose aspect is allowed.
    """
    found = _box(height, width, (low, high), _CROPPED, draws)
    if found is not None:
        return found
    if width / height < _CROPPED[0]:
        rows, columns = round(width / _CROPPED[0]), width
    elif width / height > _CROPPED[1]:
        rows, columns = height, round(height * _CROPPED[1])
    else:
        rows, columns = height, width
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def _box(
    height: int, width: int, shares: tuple[float, float], aspects: tuple[float, float], draws: Draws
) -> tuple[int, int, int, int] | None:
    for _ in range(10):
        area = height * width * draws.uniform(*shares)
        aspect = math.exp(draws.uniform(math.log(aspects[0]), math.log(aspects[1])))
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            return draws.below(height - rows + 1), draws.below(width - columns + 1), rows, columns
    return None


def _changed(
    picture: Image.Image, name: str, amount: float, draws: Draws, neutral: tuple[int, int, int]
) -> Image.Image:
    width, height = picture.size
    match name:
        case "flip":
            return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        case "rotate":
            return picture.rotate(amount, Image.Resampling.BILINEAR, fillcolor=neutral)
        case "shear_x":
            return _moved(picture, (1, amount, -amount * height / 2, 0, 1, 0), neutral)
        case "shear_y":
            return _moved(picture, (1, 0, 0, amount, 1, -amount * width / 2), neutral)
        case "translate_x":
            return _moved(picture, (1, 0, -amount * width, 0, 1, 0), neutral)
        case "translate_y":
            return _moved(picture, (1, 0, 0, 0, 1, -amount * height), neutral)
        case "brightness":
            return ImageEnhance.Brightness(picture).enhance(amount)
        case "contrast":
            return ImageEnhance.Contrast(picture).enhance(amount)
        case "saturation":
            return ImageEnhance.Color(picture).enhance(amount)
        case "sharpness":
            return ImageEnhance.Sharpness(picture).enhance(amount)
        case "hue":
            hue, *others = picture.convert("HSV").split()
            turned = hue.point([(level + int(amount * 255)) % 256 for level in range(256)])
            return Image.merge("HSV", (turned, *others)).convert("RGB")
        case "grey":
            return picture.convert("L").convert("RGB")
        case "blur":
            return picture.filter(ImageFilter.GaussianBlur(amount))
        case "posterize":
            return ImageOps.posterize(picture, round(amount))
        case "solarize":
            return ImageOps.solarize(picture, amount)  # type: ignore[arg-type]  # it is compared with levels
        case "autocontrast":
            return ImageOps.autocontrast(picture)
        case "equalize":
            return ImageOps.equalize(picture)
        case "erase":
            found = _box(height, width, (amount, amount), _ERASED, draws)
            if found is not None:
                top, left, rows, columns = found
                picture.paste(neutral, (left, top, left + columns, top + rows))
    return picture


def _moved(picture: Image.Image, matrix: tuple[float, ...], neutral: tuple[int, int, int]) -> Image.Image:
    """Each pixel from the place in the source that the matrix (a, b, c, d, e, f) gives: (ax + by + c, dx + ey + f)."""
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=neutral)
