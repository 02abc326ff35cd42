"""What was chosen for a pass, and why: written down, so that resuming and repeating do the same."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from greffon.activations.comparing import Fidelity
from greffon.activations.engines import PRECISIONS
from greffon.errors import OptionError
from greffon.whole import whole_file

__all__ = ["Candidate", "Choice", "read_choice", "remember"]


@final
@dataclass(frozen=True, slots=True)
class Candidate:
    """One engine that could have been chosen. What was not measured is None.

    Parameters
    ----------
    precision
        One of ``PRECISIONS``.
    rate
        Images a second, measured on images of the pass.
    seconds
        What its calibration took.
    fidelity
        How near it comes to float32.
    accuracy, accuracy_float32, difference
        Of the nearest class mean on the same images, each left out in turn: with its features, with those of float32, and
        the 95 % interval of the difference.
    verdict
        In one sentence.
    """

    precision: str
    rate: float | None = None
    seconds: float | None = None
    fidelity: Fidelity | None = None
    accuracy: float | None = None
    accuracy_float32: float | None = None
    difference: tuple[float, float] | None = None
    verdict: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        values["fidelity"] = self.fidelity.to_dict() if self.fidelity else None
        values["difference"] = list(self.difference) if self.difference else None
        return values


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """The plan of a pass.

    Parameters
    ----------
    precision
        What was chosen.
    why
        In one sentence.
    images
        How many the choice was made for: images times views.
    candidates
        What it was chosen from, with what was measured.
    """

    precision: str
    why: str
    images: int
    candidates: tuple[Candidate, ...] = ()

    @property
    def fidelity(self) -> Fidelity | None:
        """That of the chosen precision or, where this is float32, of the last one that was found too far from it."""
        found = {one.precision: one.fidelity for one in self.candidates if one.fidelity is not None}
        return found.get(self.precision, next(reversed(found.values()), None))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "precision": self.precision,
            "why": self.why,
            "images": self.images,
            "candidates": [one.to_dict() for one in self.candidates],
        }

    @classmethod
    def from_dict(cls, values: Any) -> Choice:
        """The inverse of ``to_dict``. Raises OptionError where something is missing or of another type."""
        try:
            candidates = tuple(_candidate(one) for one in values["candidates"])
            choice = cls(values["precision"], values["why"], values["images"], candidates)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise OptionError(f"a plan of a pass is damaged ({type(error).__name__}: {str(error)[:160]})") from error
        right = choice.precision in PRECISIONS[1:] and isinstance(choice.why, str) and type(choice.images) is int
        if not right:
            raise OptionError(f"a plan of a pass is damaged: precision {str(choice.precision)[:40]!r}")
        return choice


def _candidate(values: Mapping[str, Any]) -> Candidate:
    fidelity, difference = values["fidelity"], values["difference"]
    numbers = [values[name] for name in ("rate", "seconds", "accuracy", "accuracy_float32")]
    numbers += [fidelity[name] for name in ("images", "cosine_mean", "cosine_lowest")] if fidelity is not None else []
    if not all(number is None or type(number) in (int, float) for number in numbers):
        raise TypeError("a figure that is no number")
    return Candidate(
        precision=str(values["precision"]),
        rate=values["rate"],
        seconds=values["seconds"],
        fidelity=Fidelity(**fidelity) if fidelity is not None else None,
        accuracy=values["accuracy"],
        accuracy_float32=values["accuracy_float32"],
        difference=(float(difference[0]), float(difference[1])) if difference is not None else None,
        verdict=str(values["verdict"]),
    )


def read_choice(file: Path) -> Choice | None:
    """A choice that ``remember`` wrote, or None where there is none, or a damaged one."""
    try:
        return Choice.from_dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, RecursionError):  # an OptionError is a ValueError
        return None


def remember(file: Path, choice: Choice) -> None:
    """Write a choice down, whole or not at all. A full disk is no reason to stop: it is made again the next time."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            part.write_text(json.dumps(choice.to_dict(), indent=1), "utf-8")
