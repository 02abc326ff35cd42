"""The gate: an exported file must say of every image what the model says of it, or it is no export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.errors import ExportError
from greffon.images import decode, enlarge, read_bytes
from greffon.model import Model
from greffon.progress import Progress

__all__ = ["TOLERANCES", "Parity", "Runner", "Undecided", "check_batch", "check_parity", "compare", "drawn_images", "sample_photos"]

#: The most that a probability may be off in a cheaper precision; docs/export.md says what was measured.
TOLERANCES = {"float16": 0.01, "int8": 0.15}

#: How many photos ``sample_photos`` has, and how many of the drawn images have one size.
_SAMPLES, _ALIKE = 2, 3

#: A batch of photos, uint8 (n, h, w, 3), to probabilities (n, c).
Runner = Callable[[np.ndarray], np.ndarray]


@final
@dataclass(frozen=True, slots=True)
class Undecided:
    """An image of which the file names another class than the model, whose two best classes are as good as equal."""

    image: str
    model: str
    file: str
    gap: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"image": self.image, "model": self.model, "file": self.file, "gap": self.gap}


@final
@dataclass(frozen=True, slots=True)
class Parity:
    """How far a file is from its model.

    Parameters
    ----------
    tolerance
        The most that a probability may be off.
    images, photos
        How many were looked at, and how many of them are photos; the others are drawn.
    same
        How many have the same class.
    undecided
        Those of another class whose two best classes, to the model, lie within the tolerance.
    other
        Those of another class that do not: there must be none.
    largest, mean
        Of all probabilities, how far one is off; and the mean over the images of the one that is furthest off.
    furthest
        The image of ``largest``.
    only_run
        How many drawn images were run beside these, to see probabilities come out.
    """

    tolerance: float
    images: int
    photos: int
    same: int
    undecided: tuple[Undecided, ...]
    other: tuple[Undecided, ...]
    largest: float
    mean: float
    furthest: str
    only_run: int = 0

    @property
    def passed(self) -> bool:
        """Whether the file may be used."""
        return self.images > 0 and not self.other and self.largest <= self.tolerance

    def __str__(self) -> str:
        close = f", {len(self.undecided)} undecided between two classes" if self.undecided else ""
        return (
            f"the same class on {self.same} of {self.images} images ({self.photos} photos, {self.images - self.photos} drawn){close};"
            f" probabilities off by {self.largest:.2g} at most (allowed: {self.tolerance:.2g}), in {self.furthest}"
            + (f"; {self.only_run} drawn images only run" if self.only_run else "")
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "passed": self.passed,
            "tolerance": self.tolerance,
            "images": self.images,
            "photos": self.photos,
            "drawn": self.images - self.photos,
            "same_class": self.same,
            "undecided": [one.to_dict() for one in self.undecided],
            "other_class": [one.to_dict() for one in self.other],
            "largest_difference": self.largest,
            "mean_difference": self.mean,
            "furthest": self.furthest,
            "only_run": self.only_run,
        }


def compare(
    expected: np.ndarray, got: np.ndarray, names: Sequence[str], classes: Sequence[str], tolerance: float, *, photos: int = 0
) -> Parity:
    """What a file says, (n, c), beside what the model says, (n, c), of the images with these names, the photos first."""
    off = np.abs(expected - got).max(1)
    off[~np.isfinite(got).all(1)] = np.inf
    best, found = expected.argmax(1), np.nan_to_num(got, nan=-1).argmax(1)
    two = np.sort(expected, 1)[:, -2:]
    gaps = two[:, 1] - two[:, 0]
    others = [
        Undecided(names[int(i)], classes[int(best[i])], classes[int(found[i])], float(gaps[i])) for i in np.flatnonzero(best != found)
    ]
    furthest = int(off.argmax())
    return Parity(
        tolerance=tolerance,
        images=len(names),
        photos=photos,
        same=int((best == found).sum()),
        undecided=tuple(one for one in others if one.gap <= tolerance),
        other=tuple(one for one in others if one.gap > tolerance),
        largest=float(off[furthest]),
        mean=float(off.mean()),
        furthest=names[furthest],
    )


def check_parity(
    model: Model, run: Runner, photos: Sequence[Path], tolerance: float, progress: Progress, *,
    own: bool = False, batches: bool = True, drawn: bool = True
) -> tuple[Parity, Parity | None]:
    """Run a file and its model on photos and on drawn images, one by one, and some of one size at once.

    Photos that cannot be read are told and left out.

    Parameters
    ----------
    run
        The file.
    own
        Whether the model's frozen part runs in the precision that it was trained in, and not in float32.
    batches
        Whether the file takes several photos at once.
    drawn
        Whether the drawn images are compared. If not, they are run: in int8 anything may come out of what is no photo, since the
        ranges were taken from photos.

    Returns
    -------
    The comparison; and, where the model predicts in another precision by itself, that with its own predictions.

    Raises
    ------
    ExportError
        The file cannot be run, or says something else of a batch than of its images.
    """
    pre = model.backbone.preprocess
    extra = {**sample_photos(), **drawn_images(pre.height, pre.width, pre.resize_to)}
    names = [*(str(path) for path in photos), *extra]
    told = model.predict([*photos, *extra.values()], precision="" if own else "exact", progress=progress)
    for reason in told.failed.values():
        progress.warn(f"set aside: {reason}")
    kept = [i for i in range(len(names)) if i not in told.failed]
    got = []
    progress.begin("Comparing the file with the model", len(kept))
    try:
        for i in kept:
            image = decode(read_bytes(photos[i])) if i < len(photos) else extra[names[i]]
            got.append(run(image[None])[0])
            progress.advance()
        if batches:
            check_batch(run, list(extra.values())[-_ALIKE:], got[-_ALIKE:], tolerance)
    finally:
        progress.end()

    if not all(np.isfinite(row).all() and abs(row.sum() - 1) < 1e-3 for row in got):
        raise ExportError("the file gives something that is no probabilities")
    shown = sum(i < len(photos) + _SAMPLES for i in kept)
    judged = len(kept) if drawn else shown

    def beside(expected: np.ndarray) -> Parity:
        rows = kept[:judged]
        found = compare(expected[rows], np.stack(got[:judged]), [names[i] for i in rows], model.classes, tolerance, photos=shown)
        return replace(found, only_run=len(kept) - judged)

    exact = beside(told.probabilities)
    if own or model.precision == "float32":
        return exact, None
    return exact, beside(model.predict([*photos, *extra.values()], progress=progress).probabilities)


def check_batch(run: Runner, images: Sequence[np.ndarray], alone: Sequence[np.ndarray], tolerance: float) -> None:
    """Images of one size, at once and one by one. Raises ExportError where that makes a difference."""
    off = float(np.abs(run(np.stack(images)) - np.stack(alone)).max())
    if not off <= tolerance:
        raise ExportError(f"the file says something else of {len(images)} images at once than one by one: off by {off:.2g}")


def sample_photos() -> dict[str, np.ndarray]:
    """Two photos that scikit-learn brings along, so that real ones are looked at wherever the file is made."""
    from sklearn.datasets import load_sample_images

    found = load_sample_images()
    return {f"scikit-learn's {name}": np.asarray(image) for name, image in zip(("china.jpg", "flower.jpg"), found.images, strict=True)}


def drawn_images(height: int, width: int, resize_to: int) -> dict[str, np.ndarray]:
    """Soft colours, sharp boxes and grain, uint8 (h, w, 3), in sizes in which a resize may go wrong; the last are alike in size."""
    longest = max(resize_to, height, width)
    sizes = [(1, 1), (1, 97), (89, 1), (3, 2), (20, 500), (700, 31), (480, 200), (height, width), (longest, longest),
             (longest - 1, longest + 1), (2 * longest + 1, 3 * longest - 2), (1201, 1601)]  # fmt: skip
    sizes += [(317, 241)] * _ALIKE
    return {f"drawn, {h} by {w} (number {seed})": _drawn(h, w, seed) for seed, (h, w) in enumerate(sizes)}


def _drawn(height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = enlarge(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), height, width).astype(np.int16)
    for _ in range(6):
        top, left = rng.integers(0, height), rng.integers(0, width)
        pixels[top : top + height // 4 + 1, left : left + width // 5 + 1] = rng.integers(0, 256, 3)
    return np.clip(pixels + rng.integers(-6, 7, pixels.shape, dtype=np.int16), 0, 255).astype(np.uint8)
