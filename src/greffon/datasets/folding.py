"""What a cross-validation may see of a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from greffon.datasets.reading import read_dataset
from greffon.datasets.scanning import FactsBook, Scan, scan
from greffon.datasets.splitting import must_have_two_classes
from greffon.errors import DataError, OptionError
from greffon.progress import Progress

__all__ = ["scan_for_folds"]


def scan_for_folds(data: Path | str, k: int, *, book: FactsBook | None, progress: Progress) -> Scan:
    """Read a data set for k folds, and look at its images; those of a test split are not opened.

    Parameters
    ----------
    data
        As for ``read_dataset``, with labels.
    k
        How many folds there will be.
    book, progress
        See ``scan``. Told of everything that is left out.

    Raises
    ------
    OptionError
        Fewer than two folds.
    DataError
        Nothing but test images, fewer than two classes, or a class that has not an image for each fold, where
        near-duplicates count as one, as they stay in one fold.
    """
    if k < 2:
        raise OptionError(f"--folds must be at least 2, got {k}", hint="5 is usual; 10 where there are few images.")
    dataset = read_dataset(data)
    tested = len(dataset.where("test"))
    if tested == len(dataset):
        raise DataError(f"{dataset.root}: there is nothing but a test split, which is not looked at here")
    if tested:
        progress.say(f"the {tested} images of the test split are not looked at")
        dataset = dataset.take(np.flatnonzero([role != "test" for role in dataset.splits]))
    looked = scan(dataset, book=book, progress=progress)
    looked.tell(progress)
    looked = replace(looked, dataset=looked.dataset.without_empty_classes())
    must_have_two_classes(looked.dataset)
    _must_fill_the_folds(looked, k)
    return looked


def _must_fill_the_folds(looked: Scan, k: int) -> None:
    dataset = looked.dataset
    counts = [len(np.unique(looked.groups[dataset.labels == c])) for c in range(len(dataset.classes))]
    few = [f"{name!r} ({count})" for name, count in zip(dataset.classes, counts, strict=True) if count < k]
    if few:
        most = min(counts)
        fewer = f"Give --folds {most}, or " if most >= 2 else ""
        raise DataError(
            f"{dataset.root}: {k} folds need {k} images of every class, near-duplicates counted once;"
            f" too few has {', '.join(few[:5])}{' and others' if len(few) > 5 else ''}",
            hint=f"{fewer or 'Either '}add images to {'this class' if len(few) == 1 else 'these classes'}, or leave the folder out.",
        )
