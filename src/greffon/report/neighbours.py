"""Contact sheets of photos beside those that they are like: one self-contained HTML file, or a PNG."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from greffon.errors import ImageError, OptionError
from greffon.images import decode, read_bytes
from greffon.report.labels import printable
from greffon.report.look import BLUE, GREY, INK, new_figure, save_figure
from greffon.report.parts import photo_address, write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["NeighbourTile", "Wall", "check_sheet", "write_walls"]

#: Of a PNG: pictures in a row, their side in tiles of one inch and a half, and rows at most.
_COLUMNS, _SIDE, _ROWS = 7, 0.92, 40


@final
@dataclass(frozen=True, slots=True)
class NeighbourTile:
    """A photo on a sheet: what is said of it in bold and plain, and whether it is the one that was asked with."""

    path: Path
    said: str
    name: str
    asked: bool = False


@final
@dataclass(frozen=True, slots=True)
class Wall:
    """Photos that belong together, under a title."""

    title: str
    note: str
    tiles: tuple[NeighbourTile, ...]


def check_sheet(path: Path, kinds: Sequence[str] = (".html", ".png")) -> None:
    """Raises OptionError where a sheet cannot be written, before the work that it is about.

    What is looked at is the nearest folder above it that exists: nothing is made.
    """
    try:
        if path.is_dir() or path.suffix.lower() not in kinds:
            raise OptionError(f"--out {path}: expected a file that ends in {' or '.join(kinds)}")
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()  # a name that no file can have
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir():
            raise OptionError(f"--out {path}: {above} is a file, and no folder")
        if not os.access(above, os.W_OK | os.X_OK):
            raise OptionError(f"--out {path}: nothing can be written to {above}")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"--out {path}: cannot be written ({getattr(error, 'strerror', None) or error})") from error


def write_walls(path: Path, title: str, lead: str, walls: Sequence[Wall], *, most: int = 2000) -> None:
    """Write a contact sheet, ``.html`` or ``.png``.

    Parameters
    ----------
    lead
        A sentence or two under the title.
    most
        Photos on a page, at most; a PNG has some 280. What is left out is said.

    Raises
    ------
    OptionError, ModelError
        The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"--out {path}: cannot be written ({error.strerror or error})") from error
    if path.suffix.lower() == ".png":
        _draw(path, title, walls)
        return
    shown, left = [], most
    for wall in walls:
        if left <= 0:
            break
        shown.append((wall, [(one, photo_address(one.path, side=160)) for one in wall.tiles[:left]]))
        left -= len(wall.tiles)
    hidden = sum(len(wall.tiles) for wall in walls) - sum(len(tiles) for _, tiles in shown)
    write_page(path, "neighbours.html", {"title": title, "lead": lead, "walls": shown, "hidden": hidden})


def _draw(path: Path, title: str, walls: Sequence[Wall]) -> None:
    """The first walls, a row of seven under another."""
    heights = [0.34 + 1.3 * -(-len(wall.tiles) // _COLUMNS) for wall in walls]
    count = 0
    while count < len(walls) and (not count or sum(heights[: count + 1]) <= 1.3 * _ROWS):
        count += 1
    shown = [Wall(wall.title, wall.note, wall.tiles[: _COLUMNS * _ROWS]) for wall in walls[:count]]
    heights = [0.34 + 1.3 * -(-len(wall.tiles) // _COLUMNS) for wall in shown]
    more = f" (the first {count} of {len(walls)})" if count < len(walls) else ""
    total = sum(heights) or 1.0
    with new_figure(1.5 * _COLUMNS, 1.5 * total + 0.5) as (figure, axes):
        axes.axis("off")
        axes.set_xlim(0, _COLUMNS)
        axes.set_ylim(total, 0)
        top = 0.0
        for wall, height in zip(shown, heights, strict=True):
            note = f"   {wall.note}" if wall.note else ""
            axes.text(0, top + 0.2, printable(wall.title + note), fontsize=9.5, va="center", weight="bold")
            for i, tile in enumerate(wall.tiles):
                left, above = i % _COLUMNS, top + 0.34 + 1.3 * (i // _COLUMNS)
                _draw_tile(axes, tile, left, above)
            top += height
        figure.suptitle(printable(title + more), x=0.01, ha="left", fontsize=11.5)
        axes.set_aspect("equal")
        save_figure(figure, path)


def _draw_tile(axes: Axes, tile: NeighbourTile, left: float, above: float) -> None:
    try:
        picture = decode(read_bytes(tile.path), reduce_to=160)
    except ImageError:
        axes.text(left + _SIDE / 2, above + _SIDE / 2, "no picture", fontsize=8, color=GREY, ha="center", va="center")
    else:
        step = max(1, min(picture.shape[:2]) // 320)  # a photo that is no JPEG comes in full
        tall, wide = picture.shape[:2]
        h, w = _SIDE * tall / max(tall, wide), _SIDE * wide / max(tall, wide)
        x, y = left + (_SIDE - w) / 2, above + (_SIDE - h) / 2
        axes.imshow(picture[::step, ::step], extent=(x, x + w, y + h, y), aspect="auto", interpolation="antialiased")
    if tile.asked:
        edge = [left, left + _SIDE, left + _SIDE, left, left], [above, above, above + _SIDE, above + _SIDE, above]
        axes.plot(*edge, color=BLUE, linewidth=2)
    name = tile.name if len(tile.name) <= 24 else f"…{tile.name[-23:]}"
    axes.text(left, above + _SIDE + 0.1, printable(tile.said), fontsize=8.5, va="center", color=INK, weight="bold")
    axes.text(left, above + _SIDE + 0.23, printable(name), fontsize=6.5, va="center", color=GREY)
