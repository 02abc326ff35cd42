"""A folder of figures: JSON for programs, and pictures of it for people."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from greffon.datasets import path_in_table
from greffon.errors import OptionError
from greffon.model import write_json
from greffon.whole import whole_file

__all__ = ["check_folder_is_free", "check_results_folder", "path_in_table", "write_results", "write_table"]


def check_results_folder(folder: Path, data: Path) -> None:
    """Raises OptionError where results cannot go into a folder, before the work that they come from.

    They do not go into the data either: the next run would take the pictures for some of it.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise OptionError(f"--out {folder}: is a file, expected a folder to write into")
        if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
            what = f"--out {folder}: lies in the data, where its pictures would pass for photos"
            raise OptionError(what, hint="Give a folder elsewhere.")
    except (OSError, ValueError) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"--out {folder}: cannot be used ({getattr(error, 'strerror', None) or error})") from error


def check_folder_is_free(folder: Path, ours: Sequence[str]) -> None:
    """Raises OptionError where a folder holds something else than an earlier result, known by one of the files ``ours``."""
    try:
        known = any((folder / name).is_file() for name in ours)
        if folder.is_file() or (folder.is_dir() and not known and any(folder.iterdir())):
            raise OptionError(f"--out {folder}: there is something else already", hint="Give a new folder, or an empty one.")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"--out {folder}: cannot be used ({getattr(error, 'strerror', None) or error})") from error


def write_table(file: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A CSV file, whole or not at all. Raises OSError."""
    with whole_file(file) as part, part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


def write_results(folder: Path, name: str, values: Mapping[str, Any], draw: Callable[[Path], None]) -> tuple[Path, ...]:
    """Write ``NAME.json``, and the same picture as ``NAME.png`` and ``NAME.svg``. Earlier ones are replaced.

    Parameters
    ----------
    values
        JSON values.
    draw
        Writes the picture to a path, in the format that its ending tells.

    Returns
    -------
    The three files.

    Raises
    ------
    OptionError
        Something cannot be written.
    """
    table = folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(table, values)
    except OSError as error:
        raise OptionError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    pictures = (folder / f"{name}.png", folder / f"{name}.svg")
    for picture in pictures:
        draw(picture)
    return table, *pictures
