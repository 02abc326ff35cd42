"""A list of files that are left out: ``audit --fix quarantine`` writes one, and whatever reads a data set can be given it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from greffon.datasets.reading import read_columns
from greffon.datasets.value import Dataset
from greffon.errors import DataError

__all__ = ["path_in_table", "without_excluded"]


def path_in_table(path: Path) -> str:
    """Its absolute path, so that a table can be read from anywhere. Bytes that are no UTF-8 become \\xNN."""
    return os.fsencode(os.path.abspath(path)).decode("utf-8", "backslashreplace")  # noqa: PTH100  # links stay links


def without_excluded(dataset: Dataset, excluded: Path | str | None) -> Dataset:
    """A data set without the files that a list names. Files are only left out: none is moved or opened.

    Parameters
    ----------
    excluded
        A CSV or Parquet file with a column ``path``; paths are absolute, or relative to the folder of the list. Other columns
        are not looked at. None: everything stays.

    Returns
    -------
    Dataset
        With a note of how many were left out, and one that names the paths of the list which are not in the data.

    Raises
    ------
    DataError
        The list cannot be read, has no column ``path``, or leaves nothing.
    """
    if excluded is None:
        return dataset
    file = Path(excluded).expanduser()
    columns = read_columns(file)
    if "path" not in columns:
        raise DataError(f"--exclude {file}: expected a column 'path', got {list(columns)}")
    listed = {path_in_table(file.parent / name): name for name in columns["path"] if name}
    kept = [i for i, path in enumerate(dataset.paths) if path_in_table(path) not in listed]
    set_aside = tuple(one for one in dataset.set_aside if path_in_table(one[0]) not in listed)
    there = {path_in_table(path) for path in (*dataset.paths, *(path for path, _ in dataset.set_aside))}
    if dataset.paths and not kept:
        raise DataError(f"--exclude {file}: names all {len(dataset)} files of {dataset.root}, so nothing is left")
    notes, found = list(dataset.notes), listed.keys() & there
    if found:
        notes.append(f"{len(found)} files are left out, as {file} lists them")
    strange = [name for key, name in listed.items() if key not in there]
    if strange:
        some = ", ".join(strange[:3]) + (f" and {len(strange) - 3} more" if len(strange) > 3 else "")
        notes.append(f"{len(strange)} paths that {file} lists are not in {dataset.root}, and leave nothing out: {some}")
    return replace(dataset.take(kept), set_aside=set_aside, notes=tuple(notes))
