"""What a look at each file tells: sizes, colours, counts. No network has a part in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from greffon.auditing.contents import Contents
from greffon.auditing.findings import Finding
from greffon.datasets import Facts

__all__ = ["class_findings", "colour_findings", "is_grey", "robust_scores", "size_findings", "unreadable_findings"]

#: A class with fewer different photos than this cannot be judged, and hardly learned.
_FEW = 20
#: Times that the largest class may have as many photos as the smallest.
_UNEQUAL = 3.0
#: Pixels of the shorter side below which a photo is small.
_SMALL = 64


def robust_scores(values: np.ndarray, least: float) -> np.ndarray:
    """How many robust standard deviations each value lies from the median, with its sign; float64 (n,).

    The modified z-score of Iglewicz and Hoaglin (1993), How to Detect and Handle Outliers: the deviation is 1.4826 times the
    median of the absolute deviations, here at least ``least``, for where half of the values are the same that median is 0.
    """
    if not len(values):
        return np.zeros(0)
    centre = np.median(values)
    return (values - centre) / max(1.4826 * float(np.median(np.abs(values - centre))), least)


def is_grey(facts: Facts) -> bool:
    """Whether a photo has no colour: in none of its 4 × 4 parts do the means of the channels differ by more than 3 levels."""
    colour = np.frombuffer(facts.colour, np.uint8).reshape(16, 3).astype(np.int64)
    return bool((colour.max(1) - colour.min(1)).max() <= 3)


def unreadable_findings(contents: Contents, failed: Sequence[tuple[Path, str]]) -> Iterator[Finding]:
    """A finding for every file that cannot be read; ``failed`` are those that only the network could not, with the reason."""
    dataset = contents.dataset
    label = {path: dataset.classes[int(i)] if i >= 0 else "" for path, i in zip(dataset.paths, dataset.labels, strict=True)}
    for path, reason in (*contents.scan.unreadable, *failed):
        yield Finding("unreadable", path, label.get(path, ""), "", 1.0, reason, exclude=path in label)


def size_findings(contents: Contents) -> Iterator[Finding]:
    """Photos whose number of pixels or whose shape lies far from the others', and one finding where most are small."""
    height = np.array([f.height for f in contents.scan.facts], np.float64)
    width = np.array([f.width for f in contents.scan.facts], np.float64)
    if not len(height):
        return
    pixels, shape = (robust_scores(values, _usual(values)) for values in (np.log(height * width) / 2, np.log(width / height)))
    worst = np.maximum(np.abs(pixels), np.abs(shape))
    files = contents.files()
    for i in np.flatnonzero(worst > 3.5):
        what = "size" if abs(pixels[i]) >= abs(shape[i]) else "shape"
        usual = f"{np.median(width):.0f} × {np.median(height):.0f}"
        for file in files[int(i)]:
            yield Finding("odd-size", contents.dataset.paths[file], _class(contents, file), "", float(worst[i]),
                          f"{width[i]:.0f} × {height[i]:.0f} pixels, an unusual {what}; in the middle they have {usual}")  # fmt: skip
    small = np.minimum(height, width) < _SMALL
    if small.mean() >= 0.5:
        yield Finding("small-images", None, "", "", float(small.mean()),
                      f"{int(small.sum())} of {len(small)} photos have a side of fewer than {_SMALL} pixels")  # fmt: skip


def _usual(values: np.ndarray) -> float:
    """The deviation that is nothing odd: that of the middle four fifths, were they normal, and a tenth even if all are alike.

    Where half of the photos have one size and the others many, the median deviation is 0, and yet none is odd.
    """
    low, high = np.quantile(values, [0.1, 0.9])
    return max(0.1, float(high - low) / 2.563)


def colour_findings(contents: Contents) -> Iterator[Finding]:
    """The greyscale photos where most have colour, or those with colour where most are grey; none where both are common."""
    grey = np.array([is_grey(facts) for facts in contents.scan.facts], bool)
    if not len(grey) or grey.all() or not grey.any():
        return
    share = float(grey.mean())
    rare, kind, what = (grey, "greyscale", "greyscale") if share <= 0.5 else (~grey, "colour", "in colour")
    if rare.mean() > 0.2:
        return
    files = contents.files()
    for i in np.flatnonzero(rare):
        for file in files[int(i)]:
            yield Finding(kind, contents.dataset.paths[file], _class(contents, file), "", float(1 - rare.mean()),
                          f"{what}, as {int(rare.sum())} of {len(rare)} photos are")  # fmt: skip


def class_findings(classes: Sequence[str], labels: np.ndarray, groups: np.ndarray) -> Iterator[Finding]:
    """Classes with few photos, and classes of very different sizes; near-duplicates (``groups``, int64 (m,)) count once."""
    counts = [len(np.unique(groups[labels == c])) for c in range(len(classes))]
    for name, count in zip(classes, counts, strict=True):
        if count < _FEW:
            yield Finding("few-images", None, name, "", 1 - count / _FEW,
                          f"{count} different photo{'' if count == 1 else 's'}; intervals of what is said of them are wide",
                          facts=(("count", count),))  # fmt: skip
    present = [count for count in counts if count]
    if len(present) > 1 and max(present) >= _UNEQUAL * min(present):
        most, least = classes[int(np.argmax(counts))], classes[counts.index(min(present))]
        yield Finding("imbalance", None, least, "", 1 - min(present) / max(present),
                      f"{most} has {max(present)} different photos, {least} has {min(present)}:"
                      f" {max(present) / min(present):.1f} times as many",
                      facts=(("most", most), ("count", max(present)), ("least", least), ("few", min(present))))  # fmt: skip


def _class(contents: Contents, file: int) -> str:
    label = int(contents.dataset.labels[file])
    return contents.dataset.classes[label] if label >= 0 else ""
