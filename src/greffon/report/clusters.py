"""``clusters.html``: clusters to look at, to name, to merge and to split; contact sheets; and how their number was estimated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.errors import ImageError
from greffon.images import decode, enlarge, read_bytes
from greffon.report.look import BLUE, GREEN, GREY, INK, ORANGE, new_figure, save_figure
from greffon.report.parts import photo_address, picture_address, write_page
from greffon.transfer.unsupervised import Count

__all__ = ["ClusterPhoto", "cluster_sheet", "clusters_report", "plot_count"]

#: Pixels of a photo on a contact sheet, photos in a row, and pixels between two.
_SIDE, _ACROSS, _GAP = 112, 8, 6


@final
@dataclass(frozen=True, slots=True)
class ClusterPhoto:
    """One photo, the text of its path in the table, and where it is."""

    path: Path
    text: str
    cluster: int
    confidence: float
    part: str
    nearest: int


def clusters_report(
    path: Path, photos: Sequence[ClusterPhoto], figures: Mapping[str, Any], curve: Path | None, *, most: int = 1500
) -> None:
    """Write the page of a clustering. Names, merges and splits are made in it, and saved from it as a file.

    Parameters
    ----------
    photos
        All of them, in any order.
    figures
        The values of ``metrics.json``.
    curve
        The PNG file of ``plot_count``, or None.
    most
        About so many photos are shown; of more, the surest, the least sure and some between.

    Raises
    ------
    ModelError
        The file cannot be written.
    """
    numbers = sorted({one.cluster for one in photos if one.cluster >= 0})
    if any(one.cluster < 0 for one in photos):
        numbers.append(-1)
    few = max(8, most // max(len(numbers), 1))
    values = {
        "figures": figures,
        "curve": picture_address(curve),
        "shown": min(len(photos), few * len(numbers)),
        "page": {"clustering": figures["clustering"], "clusters": [_wall([p for p in photos if p.cluster == c], c, few) for c in numbers]},
    }
    write_page(path, "clusters.html", values)


def _wall(photos: Sequence[ClusterPhoto], number: int, few: int) -> dict[str, Any]:
    """A cluster as the page's script reads it: its number, its size, those of its parts, and the photos that are shown."""
    ordered = sorted(photos, key=lambda one: (-one.confidence, one.text))
    words = {word for one in photos for word in _words(one.part)}
    others = [one.nearest for one in photos if one.nearest >= 0]
    return {
        "id": number,
        "size": len(photos),
        "confidence": float(np.mean([one.confidence for one in photos])),
        "parts": {word: sum(one.part == word or one.part.startswith(f"{word}.") for one in photos) for word in sorted(words)},
        "near": int(np.bincount(others).argmax()) if others else -1,
        "photos": [
            {"path": one.text, "name": one.path.name.encode("utf-8", "replace").decode(), "picture": photo_address(one.path, side=112),
             "confidence": round(one.confidence, 3), "part": one.part}
            for one in _some(ordered, few)
        ],
    }  # fmt: skip


def _words(part: str) -> list[str]:
    """Of the part 1.2: 1, and 1.2."""
    steps = part.split(".") if part else []
    return [".".join(steps[: i + 1]) for i in range(len(steps))]


def _some(ordered: Sequence[ClusterPhoto], few: int) -> list[ClusterPhoto]:
    """All, or half of ``few`` from the front, a quarter from the end, and the rest evenly from between."""
    if len(ordered) <= few:
        return list(ordered)
    front, tail = few // 2, few // 4
    between = np.linspace(front, len(ordered) - tail - 1, few - front - tail).astype(int)
    return [ordered[i] for i in sorted({*range(front), *between.tolist(), *range(len(ordered) - tail, len(ordered))})]


def cluster_sheet(file: Path, number: int, photos: Sequence[ClusterPhoto], *, typical: int = 24, border: int = 16) -> None:
    """Draw a contact sheet of one cluster: its most typical photos, and those at its border.

    Parameters
    ----------
    file
        A ``.png`` file.
    number
        Of the cluster; -1: the photos in none.

    Raises
    ------
    OptionError
        The file cannot be written.
    """
    ordered = sorted(photos, key=lambda one: (-one.confidence, one.text))
    # Not the same photo twice: of a small cluster the border is what is left.
    edge = ordered[max(typical, len(ordered) - border) :][::-1] if len(ordered) > typical else []
    bands = [("the most typical", ordered[:typical]), ("at the border: the least sure", edge)]
    rows = sum(math.ceil(len(band) / _ACROSS) for _, band in bands)
    width, heads = _ACROSS * (_SIDE + _GAP), 26 * sum(bool(band) for _, band in bands) + 34
    height = rows * (_SIDE + _GAP) + heads
    sheet = np.full((height, width, 3), 255, np.uint8)
    texts: list[tuple[int, str]] = []
    top = 34
    for title, band in bands:
        if not band:
            continue
        texts.append((top + 16, f"{title} ({band[0].confidence:.2f} to {band[-1].confidence:.2f})"))
        top += 26
        for i, one in enumerate(band):
            row, column = divmod(i, _ACROSS)
            _place(sheet, one.path, top + row * (_SIDE + _GAP), column * (_SIDE + _GAP) + _GAP // 2)
        top += math.ceil(len(band) / _ACROSS) * (_SIDE + _GAP)
    name = f"Cluster {number}" if number >= 0 else "In no cluster"
    with new_figure(width / 150, height / 150) as (figure, axes):
        figure.set_layout_engine("none")
        axes.set_position((0, 0, 1, 1))
        axes.set_axis_off()
        axes.imshow(sheet, interpolation="none", extent=(0, width, height, 0), aspect="auto")
        axes.text(_GAP // 2, 20, f"{name}: {len(photos)} photos", fontsize=7.5, color=INK, va="center", weight="bold")
        for y, text in texts:
            axes.text(_GAP // 2, y, text, fontsize=5.5, color=INK, va="center")
        save_figure(figure, file)


def _place(sheet: np.ndarray, path: Path, top: int, left: int) -> None:
    """A photo into its square of the sheet, whole and in the middle; a grey square where it cannot be read."""
    try:
        image = decode(read_bytes(path), reduce_to=_SIDE)
    except ImageError:
        sheet[top : top + _SIDE, left : left + _SIDE] = 225
        return
    scale = _SIDE / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    y, x = top + (_SIDE - height) // 2, left + (_SIDE - width) // 2
    sheet[y : y + height, x : x + width] = enlarge(image, height, width)


def plot_count(count: Count, path: Path, *, title: str = "How many clusters") -> None:
    """Draw what the silhouette, the stability and the gap say of each number of clusters, and which was taken.

    Parameters
    ----------
    path
        A ``.png`` or ``.svg`` file.

    Raises
    ------
    OptionError
        The file cannot be written.
    """
    panels = (
        ("silhouette", count.silhouette, None, BLUE, "o"),
        ("stability", count.stability, None, GREEN, "s"),
        ("gap", count.gap, count.gap_error, ORANGE, "D"),
    )
    with new_figure(7.0, 6.4) as (figure, first):
        first.remove()
        grid = figure.subplots(len(panels), 1, sharex=True)
        for axes, (name, values, error, colour, marker), choice in zip(grid, panels, count.choices, strict=True):
            axes.errorbar(count.ks, values, yerr=error, color=colour, marker=marker, markersize=4, linewidth=1.4, capsize=2.5)
            place = int(np.flatnonzero(count.ks == choice)[0])
            axes.plot(choice, values[place], "o", markersize=12, markerfacecolor="none", markeredgecolor=colour, linestyle="none")
            axes.axvline(count.k, color=GREY, linestyle="--", linewidth=1.2)
            axes.set_ylabel(name)
            axes.margins(y=0.14)
            axes.set_title(f"{name} would take {choice}", fontsize=9, loc="left", color=INK)
        grid[-1].set_xlabel("number of clusters k")
        grid[-1].set_xticks(count.ks[:: 1 + len(count.ks) // 24])
        figure.suptitle(f"{title}: {count.k} was taken (dashed)", x=0.01, ha="left", fontsize=11.5)
        save_figure(figure, path)
