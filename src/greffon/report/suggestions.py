"""Photos that are worth labelling: a page to label them in, and a contact sheet. Each is one file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from greffon.errors import ImageError, ModelError
from greffon.images import decode, encode_png, read_bytes, thumbnail
from greffon.report.parts import photo_address, write_page
from greffon.report.results import path_in_table
from greffon.whole import whole_file

__all__ = ["Card", "suggestions_page", "suggestions_sheet"]

#: Pixels between two photos of the sheet, and their grey.
_GAP, _GREY = 6, 255


@final
@dataclass(frozen=True, slots=True)
class Card:
    """A photo to label."""

    path: str
    name: str
    picture: str  # a data address, or "" where the thumbnail failed
    rank: int
    why: str


def suggestions_page(
    path: Path,
    photos: Sequence[tuple[Path, int, str]],
    classes: Mapping[str, int],
    given: Sequence[tuple[str, str]],
    *,
    most: int = 1000,
) -> None:
    """Write the page to label in. It has a script of its own, and is forbidden to load anything.

    Parameters
    ----------
    photos
        Of each its path, rank, and why it is suggested.
    classes
        Those that are known, with how many photos they have so far.
    given
        Paths and labels that were given before: they stand in the table that the page saves, too.
    most
        The page shows so many photos, the first ones.

    Raises
    ------
    ModelError
        The file cannot be written.
    """
    cards = [Card(path_in_table(file), file.name, photo_address(file, side=256), rank, why) for file, rank, why in photos[:most]]
    data = {
        "rows": [[card.path, card.rank, card.why] for card in cards],
        "classes": list(classes),
        "given": [list(row) for row in given],
    }
    write_page(path, "suggestions.html", {"cards": cards, "data": data, "left": len(photos) - len(cards), "classes": classes})


def suggestions_sheet(path: Path, photos: Sequence[Path], *, side: int = 160, most: int = 200) -> None:
    """Write the first photos as one PNG, row by row, each within ``side`` × ``side`` pixels; one that cannot be read is grey.

    Raises ModelError where the file cannot be written.
    """
    shown = photos[:most]
    columns = min(len(shown), max(1, math.ceil(math.sqrt(1.5 * len(shown)))))
    rows = math.ceil(len(shown) / columns)
    sheet = np.full((rows * (side + _GAP) + _GAP, columns * (side + _GAP) + _GAP, 3), _GREY, np.uint8)
    for i, file in enumerate(shown):
        picture = _picture(file, side)
        height, width = picture.shape[:2]
        top = _GAP + i // columns * (side + _GAP) + (side - height) // 2
        left = _GAP + i % columns * (side + _GAP) + (side - width) // 2
        sheet[top : top + height, left : left + width] = picture
    try:
        with whole_file(path) as part:
            part.write_bytes(encode_png(sheet))
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror or error})") from error


def _picture(file: Path, side: int) -> np.ndarray:
    """A photo as uint8 (h, w, 3), no larger than ``side``."""
    try:
        return decode(thumbnail(decode(read_bytes(file), reduce_to=side), side=side, quality=90))
    except ImageError:
        return np.full((side, side, 3), 128, np.uint8)
