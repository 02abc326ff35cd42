"""What ``greffon label`` found: row by row, as JSON, and written into its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from greffon.activations import Choice
from greffon.datasets import Dataset, Scan
from greffon.errors import OptionError
from greffon.heads import Representation
from greffon.metrics import wilson_interval
from greffon.model import Model, save_model, write_json
from greffon.progress import Progress
from greffon.report import labelling_report, path_in_table, write_card, write_table
from greffon.transfer.transductive import Labelling, Spreading

__all__ = ["AGREE", "APART", "FAULT", "GIVEN", "LOW", "LabelResult", "LabelledPhoto", "write_labels"]

#: How a photo was decided, as ``labels.csv`` says it.
AGREE, GIVEN, FAULT = "spread+head agree", "given", "unreadable"
APART, LOW = "unsure: they disagree", "unsure: low confidence"


@final
@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """One photo, and what is thought of it; a row of ``labels.csv``.

    Parameters
    ----------
    label
        Empty where it is unsure or unreadable.
    confidence
        The probability of ``best``; 1 where the label was given.
    best, second
        The two most probable classes.
    decided
        How: ``spread+head agree``, ``given`` (the same photo stands among the labelled ones), ``unsure: they disagree``,
        ``unsure: low confidence``, or ``unreadable``.
    """

    path: Path
    label: str
    confidence: float
    best: str
    second: str
    decided: str


@final
@dataclass(frozen=True, slots=True, eq=False)
class LabelResult:
    """What was labelled, and how well the same did on labelled photos that were held out."""

    folder: Path
    photos: tuple[LabelledPhoto, ...]
    classes: tuple[str, ...]
    labelled: Scan
    representation: Representation
    spreading: Spreading
    labelling: Labelling
    model: Model
    plan: Choice  # of the engine
    computed: int  # records of the frozen part
    reused: int
    seconds: float

    def count(self, *decided: str) -> int:
        """How many photos were decided so."""
        return sum(photo.decided in decided for photo in self.photos)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: ``label.json``."""
        told = self.labelling
        held_out = {
            "n": told.tested,
            "accuracy": told.right / told.tested if told.tested else None,
            "accuracy_interval": list(wilson_interval(told.right, told.tested)),
            "labelled": told.tested_decided,
            "accuracy_of_labelled": told.right_decided / told.tested_decided if told.tested_decided else None,
            "accuracy_of_labelled_interval": list(wilson_interval(told.right_decided, told.tested_decided)),
        }
        return {
            "photos": len(self.photos),
            "labelled": self.count(AGREE),
            "unsure": self.count(APART, LOW),
            "given": self.count(GIVEN),
            "unreadable": [path_in_table(photo.path) for photo in self.photos if photo.decided == FAULT],
            "labelled_by_class": {
                name: sum(p.label == name and p.decided == AGREE for p in self.photos) for name in self.classes
            },
            "given_by_class": {
                name: int((self.labelled.dataset.labels == i).sum()) for i, name in enumerate(self.classes)
            },
            "held_out": held_out,
            "calibrated": told.calibrated,
            "training": dict(self.model.training),
            "seconds": round(self.seconds, 2),
        }


def write_labels(result: LabelResult, listener: Progress) -> None:
    """Everything into the folder; ``labels.csv``, by which it is known as ours, first."""
    folder, known = result.folder, result.labelled.dataset
    try:
        folder.mkdir(parents=True, exist_ok=True)
        columns = ("path", "label", "confidence", "best", "second", "decided")
        write_table(folder / "labels.csv", columns, (
            (path_in_table(row.path), row.label, f"{row.confidence:.4f}", row.best, row.second, row.decided) for row in result.photos
        ))  # fmt: skip
        found = [(row.path, row.label, "found") for row in result.photos if row.decided == AGREE]
        known_rows = [(path, known.classes[int(i)], "given") for path, i in zip(known.paths, known.labels, strict=True)]
        write_table(
            folder / "dataset.csv",
            ("path", "label", "source"),
            ((path_in_table(p), name, how) for p, name, how in (*known_rows, *found)),
        )
        write_json(folder / "label.json", result.to_dict())
    except OSError as error:
        raise OptionError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    save_model(result.model, folder / "model")
    write_card(folder / "model", result.model)
    listener.say("writing labels.html")
    _page(result, folder / "labels.html", known)


def _page(result: LabelResult, file: Path, known: Dataset) -> None:
    given = [
        [path for path, i in zip(known.paths, known.labels, strict=True) if i == c] for c in range(len(known.classes))
    ]
    shown = [row for row in result.photos if row.decided in (AGREE, APART, LOW)]
    tiles = [(row.path, row.best, row.confidence, row.second, bool(row.label)) for row in shown]
    labelling_report(file, known.classes, given, tiles, result.to_dict())
