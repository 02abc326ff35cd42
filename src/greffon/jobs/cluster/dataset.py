"""Named clusters become a data set that ``greffon train`` reads: a folder of links per class, or a table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from greffon.errors import OptionError
from greffon.report import check_folder_is_free, check_results_folder, path_in_table, write_table

__all__ = ["check_dataset", "write_dataset"]


def check_dataset(target: Path, data: Path) -> None:
    """Raises OptionError where a data set cannot be written, before the work."""
    if target.suffix.lower() == ".csv":
        if target.is_dir():
            raise OptionError(f"--to-dataset {target}: is a folder, expected a file to write, or a folder's name without .csv")
        return
    try:
        check_results_folder(target, data)
        check_folder_is_free(target, ())
    except OptionError as error:
        what = error.what.replace("--out ", "--to-dataset ", 1)
        raise OptionError(what, hint=error.hint) from error


def write_dataset(target: Path, rows: Sequence[tuple[Path, str]]) -> None:
    """Write photos with their names: ``target/NAME/photo.jpg`` as links to the files, or, where ``target`` ends in ``.csv``, a table of
    ``path,label``.

    Of photos with the same file name in a class the later ones get a number.

    Raises
    ------
    OptionError
        Nothing to write, or it cannot be written.
    """
    if not rows:
        raise OptionError(f"--to-dataset {target}: no photo is left to write", hint="Lower --threshold, or name more clusters.")
    try:
        if target.suffix.lower() == ".csv":
            target.parent.mkdir(parents=True, exist_ok=True)
            write_table(target, ("path", "label"), ((path_in_table(path), name) for path, name in rows))
            return
        taken: Counter[tuple[str, str]] = Counter()
        for path, name in rows:
            folder = target / name
            folder.mkdir(parents=True, exist_ok=True)
            word = path.name
            while taken[name, word.casefold()]:
                taken[name, path.name.casefold()] += 1
                word = f"{path.stem}-{taken[name, path.name.casefold()]}{path.suffix}"
            taken[name, word.casefold()] += 1
            (folder / word).symlink_to(os.path.abspath(path))  # noqa: PTH100  # a link to a link stays one
    except (OSError, NotImplementedError) as error:
        raise OptionError(f"--to-dataset {target}: cannot be written ({getattr(error, 'strerror', None) or error})",
                          hint="A name that ends in .csv writes a table instead of links.") from error  # fmt: skip
