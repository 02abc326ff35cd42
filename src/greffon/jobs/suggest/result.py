"""What ``greffon suggest`` chose: row by row, as JSON, and written into its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from greffon.activations import Choice
from greffon.datasets import Scan
from greffon.errors import OptionError
from greffon.heads import Representation
from greffon.model import write_json
from greffon.progress import Progress
from greffon.report import path_in_table, suggestions_page, suggestions_sheet, write_table
from greffon.transfer.unsupervised import Suggestion

__all__ = ["SuggestResult", "SuggestedPhoto", "reason_for", "write_suggestions"]


@final
@dataclass(frozen=True, slots=True)
class SuggestedPhoto:
    """A photo that is worth labelling; a row of ``suggestions.csv``.

    Parameters
    ----------
    rank
        From 1: the first is the most useful one.
    why
        In words.
    suggestion
        The same in figures.
    """

    path: Path
    rank: int
    why: str
    suggestion: Suggestion


@final
@dataclass(frozen=True, slots=True, eq=False)
class SuggestResult:
    """What was suggested, of how many, and what was labelled before."""

    folder: Path
    photos: tuple[SuggestedPhoto, ...]
    pool: int  # photos to choose among: readable, each content once, not labelled
    budget: int
    labelled: Scan | None
    representation: Representation
    plan: Choice  # of the engine
    unreadable: tuple[tuple[Path, str], ...]
    copies: int  # exact ones, left out
    seed: int
    computed: int  # records of the frozen part
    reused: int
    seconds: float

    def labelled_by_class(self) -> dict[str, int]:
        """How many photos of each class are labelled so far."""
        if self.labelled is None:
            return {}
        labels = self.labelled.dataset.labels
        return {name: int((labels == i).sum()) for i, name in enumerate(self.labelled.dataset.classes)}

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: ``suggest.json``."""
        return {
            "suggested": len(self.photos),
            "budget": self.budget,
            "pool": self.pool,
            "labelled_by_class": self.labelled_by_class(),
            "copies": self.copies,
            "unreadable": [path_in_table(path) for path, _ in self.unreadable],
            "suggestions": [
                {
                    "path": path_in_table(one.path),
                    "rank": one.rank,
                    "why": one.why,
                    "stands_for": one.suggestion.stands_for,
                    "doubt": None if one.suggestion.doubt < 0 else round(one.suggestion.doubt, 4),
                }
                for one in self.photos
            ],
            "representation": str(self.representation),
            "seed": self.seed,
            "plan": self.plan.to_dict(),
            "computed": self.computed,
            "reused": self.reused,
            "seconds": round(self.seconds, 2),
        }


def reason_for(one: Suggestion, classes: Sequence[str]) -> str:
    """Why a photo is suggested, in words."""
    like = f"stands for {one.stands_for} photos" if one.stands_for != 1 else "like no other photo"
    if one.best < 0:
        return like
    first, second = (f"{100 * share:.0f} %" for share in one.probable)
    return f"{classes[one.best]} {first} or {classes[one.second]} {second}; {like}"


def write_suggestions(result: SuggestResult, listener: Progress) -> None:
    """Everything into the folder; ``suggestions.csv``, by which it is known as ours, first."""
    folder, given = result.folder, result.labelled
    known = [] if given is None else [
        (path_in_table(path), given.dataset.classes[int(i)]) for path, i in zip(given.dataset.paths, given.dataset.labels, strict=True)
    ]  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rows = [(path_in_table(one.path), "", str(one.rank), one.why) for one in result.photos]
        write_table(folder / "suggestions.csv", ("path", "label", "rank", "why"), rows)
        if known:
            write_table(folder / "labelled.csv", ("path", "label"), known)
        else:
            (folder / "labelled.csv").unlink(missing_ok=True)
        write_json(folder / "suggest.json", result.to_dict())
    except OSError as error:
        raise OptionError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    listener.say("writing suggestions.html")
    tiles = [(one.path, one.rank, one.why) for one in result.photos]
    suggestions_page(folder / "suggestions.html", tiles, result.labelled_by_class(), known)
    suggestions_sheet(folder / "suggestions.png", [one.path for one in result.photos])
