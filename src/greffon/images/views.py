"""Views: an image as it is, and V - 1 times in another way. Their activations are stored like any others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from greffon.errors import OptionError
from greffon.images.preprocess import Preprocess
from greffon.images.transforms import Choice, Draws, Transform, randaugment, transformed, transforms_from

__all__ = ["PLAIN", "POLICIES", "View", "test_time_views", "views"]

#: Of the way from a view's recipe to its pixels. It is part of a view's name, so activations of another way are
#: never taken for those of this one.
_WAY = 1

_JITTER = tuple(Transform(name, 1.0, 0.75, 1.25) for name in ("brightness", "contrast", "saturation"))
_STANDARD = (Transform("crop", 1.0, 0.35, 1.0), Transform("flip", 0.5), *_JITTER)

#: Lists of transforms by name, from the gentlest to the strongest.
POLICIES: Mapping[str, tuple[Transform | Choice, ...]] = {
    "none": (),
    "flip": (Transform("flip"),),
    "light": (Transform("crop", 1.0, 0.7, 1.0), Transform("flip", 0.5)),
    "standard": _STANDARD,
    "strong": (*_STANDARD, randaugment(2, 6)),
}


@final
@dataclass(frozen=True, slots=True)
class View:
    """One way to look at every image: as it is, or changed by transforms whose randomness is fixed.

    Parameters
    ----------
    transforms
        Done in their order. A crop can only be the first.
    seed, number
        With an image's digest they decide all that is random. ``number`` 0 is the plain view, whatever the transforms.
    """

    transforms: tuple[Transform | Choice, ...] = ()
    seed: int = 0
    number: int = 0

    def __post_init__(self) -> None:
        for name in ("seed", "number"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 2**63:
                raise OptionError(f"View: {name} must be a whole number from 0 to 2**63 - 1, got {value!r}")
        if any(one.name == "crop" for step in self.transforms[1:] for one in _parts(step)) or any(
            isinstance(step, Choice) and any(one.name == "crop" for one in step.transforms) for step in self.transforms
        ):
            raise OptionError("View: only the first of the transforms can be a crop, as it is taken from the source")

    @property
    def is_plain(self) -> bool:
        """Whether an image looks as it always does."""
        return not self.number or not self.transforms

    @property
    def name(self) -> str:
        """``"plain"``, or the number with a digest of transforms and seed: equal recipes have equal names."""
        if self.is_plain:
            return "plain"
        recipe = {"way": _WAY, "seed": self.seed, "transforms": [one.to_dict() for one in self.transforms]}
        text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
        return f"v{self.number}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def fit(self, image: np.ndarray, digest: str, preprocess: Preprocess) -> np.ndarray:
        """uint8 (h, w, 3) of any size to uint8 (height, width, 3), both RGB. The plain view is ``preprocess.fit``.

        Parameters
        ----------
        digest
            Of the image's content: two images have different random numbers, two copies of a file the same. A file and
            an array of its pixels have different digests, and so different crops.
        """
        if self.is_plain:
            return preprocess.fit(image)
        return transformed(image, self.transforms, Draws(self.seed, digest, self.number), preprocess)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        transforms = [one.to_dict() for one in self.transforms]
        return {"transforms": transforms, "seed": self.seed, "number": self.number}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> View:
        """The inverse of ``to_dict``. Raises OptionError for a key, a type or a range that does not belong."""
        if not isinstance(values, Mapping) or set(values) != {"transforms", "seed", "number"}:
            got = list(values) if isinstance(values, Mapping) else type(values).__name__
            raise OptionError(f"View: expected the keys transforms, seed and number, got {got}")
        return cls(transforms_from(values["transforms"]), values["seed"], values["number"])


def _parts(step: Transform | Choice) -> tuple[Transform, ...]:
    return step.transforms if isinstance(step, Choice) else (step,)


#: The image itself.
PLAIN = View()


def views(policy: str, count: int, seed: int = 0) -> tuple[View, ...]:
    """``count`` views of every image, the first of them plain.

    Raises
    ------
    OptionError
        No such policy, or it has fewer different views.
    """
    if policy not in POLICIES:
        raise OptionError(f"views: policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    transforms = POLICIES[policy]
    if type(count) is not int or count < 1:
        raise OptionError(f"views: count must be a whole number from 1, got {count!r}")
    different = 1 + bool(transforms)
    if count > different and all(_is_certain(step) for step in transforms):
        raise OptionError(
            f"views: the policy {policy!r} has no more than {different} different views, got a count of {count}",
            hint=f"Ask for {different}, or for another policy: {', '.join(POLICIES)}.",
        )
    return (PLAIN, *(View(transforms, seed, number) for number in range(1, count)))


def _is_certain(step: Transform | Choice) -> bool:
    """Whether nothing about it is random."""
    if isinstance(step, Choice) or step.name in ("crop", "erase"):
        return False
    return step.probability in (0, 1) and step.low == step.high


def test_time_views(count: int) -> tuple[View, ...]:
    """``count`` views to average a prediction over: plain, its mirror image, then mild crops, every other one mirrored.

    Raises OptionError where ``count`` is less than 1.
    """
    if type(count) is not int or count < 1:
        raise OptionError(f"views: must be a whole number from 1, got {count!r}")
    flip, crop = Transform("flip"), Transform("crop", 1.0, 0.7, 1.0)
    others = [View((crop, flip) if number % 2 else (crop,), 0, number) for number in range(2, count)]
    return (PLAIN, View((flip,), 0, 1), *others)[:count]
