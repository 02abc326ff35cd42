"""A map of photos that can be moved about in, as a part of any page: points, thumbnails, and what is alike.

All that it needs is in it: no network, and no other part of the page.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from greffon.errors import ImageError, OptionError
from greffon.images import decode, enlarge, read_bytes, thumbnail
from greffon.progress import Progress
from greffon.report.labels import printable
from greffon.report.parts import asset, filled, write_page

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["MAP_ASSETS", "Atlas", "in_script", "make_atlas", "map_part", "map_report", "packed"]

#: The style and the script of the part, for the policy of a page that holds it.
MAP_ASSETS = ("map_part.css", "map_part.js")

#: Pixels on all sheets together, the longer side of a thumbnail at most and at least, and a sheet's own.
_PIXELS, _LARGEST, _SMALLEST, _SHEET = 32_000_000, 160, 24, 1792
#: What the sheets may weigh as text, in bytes, and the qualities that are tried until they do.
_WEIGHT, _QUALITIES = 11_500_000, (72, 55, 40, 25)

_WORDS = {
    "en": {
        "map": "Map of {n} photos. Arrow keys go from photo to photo, plus and minus zoom, 0 shows all.",
        "find": "Find by name", "found": "{n} found", "in": "Zoom in", "out": "Zoom out", "all": "Show all",
        "photos": "Photos", "alike": "Most like it", "hint": "Point at a photo, tap it, or use the arrow keys.",
        "script": "This map needs JavaScript, which is switched off here.", "none": "no picture", "groups": "Groups",
    },
    "fr": {
        "map": "Carte de {n} photos. Les flèches mènent d’une photo à l’autre, plus et moins zooment, 0 montre tout.",
        "find": "Chercher par nom", "found": "{n} trouvées", "in": "Agrandir", "out": "Réduire", "all": "Tout montrer",
        "photos": "Photos", "alike": "Les plus semblables", "hint": "Montrez une photo, touchez-la, ou prenez les flèches.",
        "script": "Cette carte a besoin de JavaScript, désactivé ici.", "none": "pas d’image", "groups": "Groupes",
    },
}  # fmt: skip


@final
@dataclass(frozen=True, slots=True, eq=False)
class Atlas:
    """Thumbnails on a few sheets, which are smaller and open sooner than as many pictures.

    Parameters
    ----------
    sheets
        JPEG files as base64.
    side
        Pixels from one thumbnail to the next; they stand in rows of ``columns``, ``columns`` rows a sheet.
    sizes
        uint8 (n, 2): width and height of each in pixels; 0 where a photo could not be read.
    """

    sheets: tuple[str, ...]
    side: int
    columns: int
    sizes: np.ndarray


def make_atlas(paths: Sequence[Path], *, progress: Progress | None = None) -> Atlas:
    """Draw the thumbnails of photos, as large as some 11 MB of text allow: 160 pixels of a thousand, 56 of ten thousand."""
    side = int(np.clip(math.sqrt(_PIXELS / max(1, len(paths))), _SMALLEST, _LARGEST))
    columns = _SHEET // side
    sizes = np.zeros((len(paths), 2), np.uint8)
    if progress is not None:
        progress.begin("Drawing thumbnails", len(paths))
    pictures: list[np.ndarray] = []
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(paths), columns**2):
            part = paths[start : start + columns**2]
            sheet = np.full((side * min(columns, -(-len(part) // columns)), side * columns, 3), 128, np.uint8)
            for i, small in enumerate(pool.map(lambda path: _thumbnail(path, side), part)):
                if small is not None:
                    top, left = i // columns * side, i % columns * side
                    tall, wide = small.shape[:2]
                    sheet[top : top + tall, left : left + wide] = small
                    sizes[start + i] = wide, tall
                if progress is not None:
                    progress.advance()
            pictures.append(sheet)
    if progress is not None:
        progress.end()
    sheets: tuple[str, ...] = ()
    for quality in _QUALITIES:
        sheets = tuple(base64.b64encode(thumbnail(one, side=_SHEET, quality=quality)).decode() for one in pictures)
        if sum(map(len, sheets)) <= _WEIGHT:
            break
    return Atlas(sheets, side, columns, sizes)


def _thumbnail(path: Path, side: int) -> np.ndarray | None:
    """uint8 (h, w, 3), the longer side of ``side`` pixels, or None where the photo cannot be read."""
    try:
        picture = decode(read_bytes(path), reduce_to=2 * side)
    except ImageError:
        return None
    tall, wide = picture.shape[:2]
    scale = side / max(tall, wide)
    return enlarge(picture, max(1, round(tall * scale)), max(1, round(wide * scale)))


def map_part(
    points: np.ndarray,
    names: Sequence[str],
    atlas: Atlas,
    *,
    near: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    group_names: Sequence[str] = (),
    marked: np.ndarray | None = None,
    marked_name: str = "",
    notes: Mapping[int, str] | None = None,
    lang: str = "en",
    alone: bool = False,
) -> Markup:
    """The map as a piece of HTML with its own style and script, to be put anywhere into a page; several of them as well.

    Parameters
    ----------
    points
        float (n, 2).
    names
        What is said of each photo; it is searched as well.
    atlas
        Of the same photos, in the same order: ``make_atlas``.
    near
        int (n, k): the photos most like each one; None: none are shown.
    groups, group_names
        int (n,): the group of each photo, which gives it its colour, -1 for none; and their names. None: one colour.
    marked, marked_name
        bool (n,): photos that have a ring, and what a button calls these, which then shows no others.
    notes
        What is said of some photos after their names.
    lang
        ``"en"`` or ``"fr"``.
    alone
        Whether the page is there for the map: then the wheel zooms at once, and not only when the map has been clicked.

    Raises
    ------
    OptionError
        Lengths that differ, more than 65,535 photos, or another language.
    """
    from markupsafe import Markup

    n = len(points)
    if not (len(names) == len(atlas.sizes) == n <= 65535):
        raise OptionError(f"map_part: {n} points, {len(names)} names and {len(atlas.sizes)} pictures; one number is needed, below 65,536")
    if lang not in _WORDS:
        raise OptionError(f"map_part: lang must be one of {', '.join(_WORDS)}, got {lang!r}")
    words = _WORDS[lang]
    data = {
        "n": n,
        "points": packed(_placed(points), "<u2"),
        "sizes": packed(atlas.sizes, "<u1"),
        "side": atlas.side,
        "columns": atlas.columns,
        "names": [printable(name) for name in names],
        "near": packed(near, "<u2") if near is not None and n else "",
        "k": 0 if near is None else int(near.shape[1]),
        "groups": packed(groups, "<i4") if groups is not None else "",
        "marked": packed(marked, "<u1") if marked is not None else "",
        "groupNames": [printable(name) for name in group_names],
        "notes": {str(i): printable(note) for i, note in (notes or {}).items()},
        "words": words,
        "alone": alone,
    }
    style, script = MAP_ASSETS
    values = {
        "data": Markup(in_script(data)),
        "sheets": atlas.sheets,
        "words": words,
        "n": n,
        "style": asset(style),
        "script": asset(script),
        "marked": marked_name if marked is not None else "",
    }
    return Markup(filled("map_part.html", values))


def _placed(points: np.ndarray) -> np.ndarray:
    """Points as whole numbers from 0 to 65535, y upwards, both axes by one scale."""
    if not len(points):
        return np.zeros((0, 2))
    points = np.nan_to_num(np.asarray(points, np.float64))
    low, high = points.min(0), points.max(0)
    span = float((high - low).max())
    moved = (points - (low + high) / 2) / span if span > 0 else np.zeros_like(points)
    return np.rint((np.stack([moved[:, 0], -moved[:, 1]], 1) + 0.5) * 65535)


def packed(values: np.ndarray, kind: str) -> str:
    """Numbers as base64, in a type that NumPy names: a script reads them at once, and they are short."""
    return base64.b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode()


def in_script(values: Any) -> str:
    """JSON that may stand in a script element: no name can end that."""
    return json.dumps(values, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")


def map_report(path: Path, part: Markup, title: str, lead: str, *, lang: str = "en") -> None:
    """Write a page that holds one map. Raises ModelError where the file cannot be written."""
    write_page(path, "map.html", {"part": part, "title": title, "lead": lead, "lang": lang})
