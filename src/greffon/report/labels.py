"""Names beside the points of a picture, so that none covers another, a point or a bar."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from greffon.transfer.inductive import BackboneFigures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

__all__ = ["label_groups", "label_points", "printable"]

#: Where a name may stand: its distance from its point, in points of print, and the ways to go, right and up.
_FAR = (10, 16, 24, 36, 50, 66, 84, 104, 126, 150)
_WAYS = ((1, 0), (-1, 0), (1, 0.6), (-1, 0.6), (1, -0.6), (-1, -0.6), (0.5, 1), (-0.5, 1), (0.5, -1), (-0.5, -1))

_LINE = "#767676"
#: Behind the name of a group; its rim has the group's colour.
_BOX = {"boxstyle": "round,pad=0.22", "facecolor": "white", "alpha": 0.88, "linewidth": 1.4}


def printable(name: str) -> str:
    """A name that may come from a file system whose bytes are not UTF-8."""
    return name.encode("utf-8", "replace").decode("utf-8")


def label_points(
    figure: Figure, axes: Axes, rows: Sequence[BackboneFigures], front: Sequence[tuple[float, float]]
) -> None:
    """Write each name beside its point, where it covers no other name, no point, no interval bar and not the front.

    Places are tried from near to far; a name that ends far from its point is tied to it by a thin line.
    """
    from matplotlib.transforms import Bbox

    figure.canvas.draw()  # only now is it known where things stand
    scale = figure.dpi / 72
    points = [(one.cost.seconds_per_1000, 100 * one.accuracy) for one in rows]
    taken: list[Bbox] = []
    for (x, y), one in zip(points, rows, strict=True):
        low, middle, high = axes.transData.transform([(x, 100 * one.interval[0]), (x, y), (x, 100 * one.interval[1])])
        taken.append(Bbox.from_extents(low[0] - 4 * scale, low[1], low[0] + 4 * scale, high[1]))
        taken.append(Bbox.from_extents(*(middle - 6 * scale), *(middle + 6 * scale)))
    corners = axes.transData.transform(front)
    for start, stop in pairwise(corners):
        taken += _steps(start, stop, 2 * scale)
    inside = axes.get_window_extent()
    names: list[Bbox] = []
    for (x, y), name in zip(points, _short([one.name for one in rows]), strict=True):
        best, least = (10.0, 0.0), float("inf")
        for offset in ((right * far, up * far) for far in _FAR for right, up in _WAYS):
            box, line = _label(axes, (x, y), name, offset, drawn=False)
            cover = _outside(box, inside) + sum(_overlap(box, other) for other in (*taken, *names))
            cover += sum(_overlap(step, other) for step in line for other in names)
            if cover < least:
                best, least = offset, cover
            if least == 0:
                break
        box, line = _label(axes, (x, y), name, best, drawn=True)
        names.append(box)
        taken += line


def label_groups(
    figure: Figure, axes: Axes, centres: Sequence[tuple[float, ...]], names: Sequence[str], colours: Sequence[str]
) -> None:
    """Write each name as near to the middle of its group as it covers no middle and no other name. Long names are cut."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    figure.canvas.draw()  # only now is it known where things stand
    inside = axes.get_window_extent()
    middles = axes.transData.transform(np.reshape(centres, (-1, 2)))
    reach = 4 * figure.dpi / 72  # a group of one point is not to vanish
    taken = [Bbox.from_extents(*(middle - reach), *(middle + reach)) for middle in middles]
    for centre, name, colour in zip(centres, names, colours, strict=True):
        short = printable(name if len(name) <= 20 else f"{name[:19]}…")
        text = axes.annotate(short, (centre[0], centre[1]), (0, 0), textcoords="offset points", ha="center", va="center",
                             fontsize=9, zorder=6, bbox=_BOX | {"edgecolor": colour})  # fmt: skip
        text.set_in_layout(False)
        text.update_positions(figure.canvas.get_renderer())  # type: ignore[attr-defined]  # Agg's canvas has one
        box = Text.get_window_extent(text).padded(3 * figure.dpi / 72)
        tries = [(right * far, up * far) for far in (*_FAR[:2], 20, *_FAR[2:]) for right, up in ((0, 1), (0, -1), *_WAYS)]
        best, least = tries[0], float("inf")
        for offset in tries:
            moved = box.translated(*(figure.dpi / 72 * step for step in offset))
            cover = _outside(moved, inside) + sum(_overlap(moved, other) for other in taken)
            if cover < least:
                best, least = offset, cover
            if least == 0:
                break
        text.set_position(best)
        taken.append(box.translated(*(figure.dpi / 72 * step for step in best)))


def _short(names: Sequence[str]) -> list[str]:
    """Of paths of model folders the last part, where that is the name of one alone."""
    last = [Path(name).name or name for name in names]
    return [short if last.count(short) == 1 else name for short, name in zip(last, names, strict=True)]


def _label(
    axes: Axes, point: tuple[float, float], name: str, offset: tuple[float, float], *, drawn: bool
) -> tuple[Bbox, list[Bbox]]:
    """A name at an offset, in points of print, from its point; kept in the picture, or tried only.

    Returns where it lies, in pixels, and the steps of the line that ties it to its point, where it is far from it.
    """
    from matplotlib.text import Text

    right = offset[0] >= 0
    far = max(map(abs, offset)) > 14
    line = {"arrowstyle": "-", "color": _LINE, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 5, "relpos": (0 if right else 1, 0.5)}
    text = axes.annotate(printable(name), point, offset, textcoords="offset points", ha="left" if right else "right", va="center",
                         fontsize=9, arrowprops=line if far else None, zorder=5)  # fmt: skip
    text.update_positions(axes.figure.canvas.get_renderer())  # type: ignore[union-attr]  # Agg's canvas has one
    box = Text.get_window_extent(text).padded(2)
    if not drawn:
        text.remove()
    start = axes.transData.transform(point)
    return box, _steps(start, np.array((box.x0 if right else box.x1, (box.y0 + box.y1) / 2))) if far else []


def _steps(start: np.ndarray, stop: np.ndarray, width: float = 2) -> list[Bbox]:
    """A line between two points, (2,) each, as a row of small boxes; in pixels."""
    from matplotlib.transforms import Bbox

    places = start + np.linspace(0.08, 1, 40)[:, None] * (stop - start)
    return [Bbox.from_extents(*(place - width / 2), *(place + width / 2)) for place in places]


def _overlap(one: Bbox, other: Bbox) -> float:
    """The area that two boxes share, in square pixels."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0) * max(height, 0)


def _outside(box: Bbox, frame: Bbox) -> float:
    """The area of a box that lies outside a frame, in square pixels."""
    return box.width * box.height - _overlap(box, frame)
