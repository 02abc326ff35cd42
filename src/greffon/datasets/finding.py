"""Images by the names that people type: files, folders, patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from greffon.datasets.reading import read_dataset
from greffon.errors import DataError

__all__ = ["find_images"]


def find_images(names: Iterable[str | Path]) -> list[Path]:
    """Files as they are, folders with all images in them, and patterns such as ``photos/*.jpg``; each file once.

    Raises
    ------
    DataError
        A name or a pattern that nothing matches, or nothing at all.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        try:
            is_folder, is_file = path.is_dir(), path.exists()
        except (OSError, ValueError) as error:
            raise DataError(f"{str(name)[:200]}: cannot be looked at ({error})") from error
        if is_folder:
            found.update(dict.fromkeys(read_dataset(path, labelled=False).paths))
        elif is_file or path.is_symlink():
            found[path] = None
        else:
            matches = sorted(glob.glob(str(name), recursive=True))  # noqa: PTH207  # patterns may be absolute
            if not matches:
                raise DataError(f"{name}: there is no such file, folder or match")
            found.update(dict.fromkeys(Path(match) for match in matches if Path(match).is_file()))
    if not found:
        raise DataError(
            "no images were named", hint="Name files, folders or patterns, or - for a list on standard input."
        )
    return list(found)
