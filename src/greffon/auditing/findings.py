"""What an audit finds: one row a file and fault, and what each kind of fault means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from greffon.datasets import path_in_table

__all__ = ["KINDS", "Finding", "Kind"]


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: what it is called for people, and what to do about it."""

    title: str
    advice: str


#: Every kind, the gravest first. The keys stand in ``audit.csv`` and ``audit.json``.
KINDS: Mapping[str, Kind] = {
    "unreadable": Kind("files that cannot be read", "Take them out, or get them anew."),
    "duplicate-across-classes": Kind("the same file in several classes", "Decide which class is right. Training leaves all of them out."),
    "near-duplicate-across-classes": Kind("nearly the same photo in several classes", "One of the labels is wrong: decide which."),
    "duplicate-across-splits": Kind("the same file in several splits", "What was learned is no test. Keep it in one split."),
    "near-duplicate-across-splits": Kind("nearly the same photo in several splits", "What was learned is no test. Keep it in one split."),
    "label-error": Kind("possible label errors", "Look at the first ones: is it the class of its folder, or the suggested one? Of the last"
                        " ones most labels are right, and the model is wrong."),
    "shortcut": Kind("signs of a shortcut", "A model may learn this, not what is to be seen. Take all classes in the same way."),
    "confused-classes": Kind("classes that are hard to tell apart", "Join them, or say more clearly what belongs where."),
    "few-images": Kind("classes with too few photos", "Add photos, or leave the class out."),
    "imbalance": Kind("unequal classes", "Training weighs the classes evenly; more photos of the small ones are better."),
    "small-images": Kind("small photos", "The network sees them enlarged. Larger originals would show more."),
    "duplicate": Kind("further copies of a file", "Training uses each content once: they do no harm, and bring nothing."),
    "near-duplicate": Kind("nearly the same photos", "Training keeps them on one side of the split. They count for less than others."),
    "outlier": Kind("photos unlike all others", "Look whether they belong here."),
    "odd-size": Kind("photos of unusual size or shape", "Look whether they are icons, panoramas or cut wrongly."),
    "greyscale": Kind("greyscale photos among colour ones", "Look whether they belong here; their class may be learned by that."),
    "colour": Kind("colour photos among greyscale ones", "Look whether they belong here; their class may be learned by that."),
}


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of one file, or of a class or all the data where ``path`` is None.

    Parameters
    ----------
    kind
        A key of ``KINDS``.
    label
        The class that the file stands in, or that the finding is about; "" where there is none.
    suggested
        The class that the photo is taken for, where another one is; of confused classes, the other class.
    score
        Within a kind, the higher the graver; from 0 to 1, but for outliers and odd sizes, which count robust standard deviations.
    reason
        One sentence.
    exclude
        Whether ``--fix quarantine`` lists the file.
    facts
        Names and values that the reason was made of, for who says it in another language.
    """

    kind: str
    path: Path | None
    label: str
    suggested: str
    score: float
    reason: str
    exclude: bool = False
    facts: tuple[tuple[str, str | int | float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: the columns of ``audit.csv``, and whether it is to be excluded."""
        return {
            "path": path_in_table(self.path) if self.path is not None else None,
            "finding": self.kind,
            "class": self.label,
            "suggested": self.suggested,
            "score": round(self.score, 6),
            "reason": self.reason,
            "exclude": self.exclude,
        }
