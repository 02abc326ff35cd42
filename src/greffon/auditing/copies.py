"""The same photo twice: by content and nearly, in one class or several, on one side of the split or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np

from greffon.auditing.contents import Contents
from greffon.auditing.findings import Finding

__all__ = ["CopySet", "copy_findings", "find_copies"]

#: Which copy stays where one photo stands in several splits: rather a photo fewer to learn from than a test that was learned.
_RANK = {"test": 0, "val": 1}


@final
@dataclass(frozen=True, slots=True)
class CopySet:
    """Files that show the same photo.

    Parameters
    ----------
    files
        Positions in the data set, two or more.
    exact
        Whether all have the same content. Of near-duplicates, only those whose contents differ make a set.
    across
        ``"classes"``, ``"splits"`` (of one class) or ``""``.
    """

    files: tuple[int, ...]
    exact: bool
    across: Literal["classes", "splits", ""]


def find_copies(contents: Contents, groups: np.ndarray) -> tuple[CopySet, ...]:
    """The sets of files with one content, and those of near-duplicates, in the order of their first files.

    Parameters
    ----------
    groups
        int64 (m,): contents with the same number are near-duplicates.
    """
    files = contents.files()
    found = [CopySet(tuple(own), True, _across(contents, own)) for own in files if len(own) > 1]
    order = np.argsort(groups, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        if len(members) > 1:
            own = sorted(file for content in members for file in files[int(content)])
            found.append(CopySet(tuple(own), False, _across(contents, own)))
    return tuple(sorted(found, key=lambda one: (one.files, not one.exact)))


def _across(contents: Contents, files: Sequence[int]) -> Literal["classes", "splits", ""]:
    dataset = contents.dataset
    if len({int(dataset.labels[i]) for i in files} - {-1}) > 1:
        return "classes"
    return "splits" if len({dataset.splits[i] for i in files}) > 1 else ""


def copy_findings(
    contents: Contents, sets: Sequence[CopySet], probabilities: np.ndarray | None, root: Path
) -> Iterator[Finding]:
    """A finding for every file of every set.

    Of a set in several classes, all files are to be excluded, for one of the labels is wrong; of one in several splits, all but
    those in the strongest (test, val, train); of further copies of one content, all but the first.

    Parameters
    ----------
    probabilities
        float64 (m, c), out of fold, or None.
    root
        Names in the reasons are relative to it.
    """
    dataset = contents.dataset
    for one in sets:
        kind = "-".join(filter(None, ("" if one.exact else "near", "duplicate", one.across and f"across-{one.across}")))
        strongest = min(_RANK.get(dataset.splits[i], 2) for i in one.files)
        kept = min(one.files, key=lambda i: (_RANK.get(dataset.splits[i], 2), i))
        likely = _likely(contents, one, probabilities)
        for i in one.files:
            others = [j for j in one.files if j != i]
            shown = ", ".join(_named(contents, j, one.across, root) for j in others[:3])
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            weaker = _RANK.get(dataset.splits[i], 2) > strongest
            out = one.across == "classes" or (one.across == "splits" and weaker) or (one.exact and i != kept)
            yield Finding(
                kind=kind,
                path=dataset.paths[i],
                label=dataset.classes[int(dataset.labels[i])] if dataset.labels[i] >= 0 else "",
                suggested=likely if one.across == "classes" else "",
                score=1.0,
                reason=f"{'the same file as' if one.exact else 'nearly the same as'} {shown}{more}",
                exclude=out,
                facts=(("others", shown), ("more", max(0, len(others) - 3))),
            )


def _likely(contents: Contents, one: CopySet, probabilities: np.ndarray | None) -> str:
    """Of the classes that a set stands in, the most probable by the photos themselves."""
    dataset = contents.dataset
    its = sorted({int(dataset.labels[i]) for i in one.files} - {-1})
    if probabilities is None or len(its) < 2:
        return ""
    mean = probabilities[sorted({int(contents.of[i]) for i in one.files})].mean(0)
    return dataset.classes[its[int(mean[its].argmax())]]


def _named(contents: Contents, i: int, across: str, root: Path) -> str:
    """A file, with the class or the split that it stands in where that is the point."""
    dataset = contents.dataset
    path = dataset.paths[i]
    name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    if across == "splits":
        return f"{name} ({dataset.splits[i] or 'no split'})"
    if across == "classes" and dataset.labels[i] >= 0:
        return f"{name} ({dataset.classes[int(dataset.labels[i])]})"
    return name
