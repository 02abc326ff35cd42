"""The labels given so far: folders of class folders, and tables whose labels somebody has filled in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from greffon.datasets import Dataset, read_dataset
from greffon.errors import DataError, OptionError
from greffon.report import check_folder_is_free, check_results_folder

__all__ = ["check_folders", "read_given"]


def read_given(sources: Sequence[Path]) -> Dataset | None:
    """All labelled photos of several folders and tables, as one data set; None where there are no sources.

    Raises
    ------
    DataError
        A source cannot be read, or has no label at all.
    """
    if not sources:
        return None
    found = [_read(source) for source in sources]
    names = list(dict.fromkeys(name for one in found for name in one.classes))
    number = {name: i for i, name in enumerate(names)}
    labels = [number[one.classes[int(i)]] for one in found for i in one.labels]
    return Dataset(
        root=sources[0],
        paths=tuple(path for one in found for path in one.paths),
        labels=np.array(labels, np.int64),
        classes=tuple(names),
        splits=tuple(role for one in found for role in one.splits),
        domains=("",) * len(labels),
        notes=tuple(note for one in found for note in one.notes),
        set_aside=tuple(fault for one in found for fault in one.set_aside),
    )


def _read(source: Path) -> Dataset:
    """The rows that have a label. Those of a table that have none are no fault: they are still to be filled in."""
    dataset = read_dataset(source, labelled=False)
    known = np.flatnonzero(dataset.labels >= 0)
    if not len(known):
        raise DataError(
            f"--labels {source}: none of its {len(dataset)} photos has a label yet",
            hint="Fill in the column 'label' of some, or give a folder with one folder of photos a class.",
        )
    return dataset.take(known).without_empty_classes()


def check_folders(photos: Path, labelled: Sequence[Path], out: Path) -> None:
    """Raises OptionError or DataError where these stand in each other's way, or labels would be written over."""
    for data in (photos, *labelled):
        check_results_folder(out, data)
    check_folder_is_free(out, ("suggestions.csv",))
    try:
        inside = [one for one in labelled if photos.is_dir() and one.is_dir() and photos.resolve().is_relative_to(one.resolve())]
        earlier = out / "suggestions.csv"
        filled = earlier.is_file() and _has_labels(earlier)
    except (OSError, ValueError, RuntimeError) as error:
        told = getattr(error, "strerror", None) or error
        raise OptionError(f"{', '.join(map(str, (photos, *labelled, out)))}: cannot be looked at ({told})") from error
    if inside:
        raise DataError(
            f"--labelled {inside[0]}: the photos to choose among ({photos}) lie in it, so their folder would be read as a class",
            hint="Put the labelled photos and the others into folders beside each other.",
        )
    if filled:
        raise OptionError(f"--out {out}: its suggestions.csv has labels filled in, which would be lost",
                          hint="Give a new folder for the next suggestions, and that file as --labels.")  # fmt: skip


def _has_labels(table: Path) -> bool:
    try:
        return bool((read_dataset(table, labelled=False).labels >= 0).any())
    except DataError:
        return False  # nothing that could be read as labels, so nothing to lose
