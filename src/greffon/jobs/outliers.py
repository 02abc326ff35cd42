"""``greffon outliers``: the photos of an index that are least like the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from greffon.errors import OptionError
from greffon.progress import Progress, Silent
from greffon.report import NeighbourTile, Wall, check_sheet, path_in_table, write_table, write_walls
from greffon.transfer.unsupervised import Outliers, PhotoIndex, load_index, searcher
from greffon.transfer.unsupervised import outliers as strangest

__all__ = ["OutliersResult", "outliers"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class OutliersResult:
    """How far each photo lies from those nearest to it; see ``transfer.unsupervised.Outliers``."""

    index: PhotoIndex
    found: Outliers

    def to_dict(self, count: int) -> dict[str, Any]:
        """As JSON values, the strangest so many first."""
        rows = self.found.order[:count].tolist()
        return {
            "photos": len(self.index),
            "suspects": len(self.found.suspects()),
            "outliers": [
                {
                    "path": path_in_table(self.index.path(row)),
                    "distance": round(float(self.found.distance[row]), 5),
                    "score": round(float(self.found.score[row]), 3),
                }
                for row in rows
            ],
        }


def outliers(
    index: Path | str,
    *,
    count: int = 50,
    neighbours: int = 10,
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> OutliersResult:
    """Rank the photos of an index by how far they lie from those nearest to them.

    Parameters
    ----------
    index
        A folder that ``index`` made.
    count
        How many are written to ``out``; a CSV file gets all.
    neighbours
        The distance is the mean to so many.
    out
        A file to write: ``.csv`` with the columns path, distance, score; or a contact sheet, ``.html`` or ``.png``.

    Raises
    ------
    PhotoIndexError
        The index is damaged.
    GreffonError
        Of the kind that says what is wrong.
    """
    listener = progress or Silent()
    for name, value in (("--count", count), ("--neighbours", neighbours)):
        if value < 1:
            raise OptionError(f"{name} must be at least 1, got {value}")
    if out is not None:
        check_sheet(Path(out), (".csv", ".html", ".png"))
    opened = load_index(index)
    found = strangest(searcher(opened.vectors).among_themselves(neighbours, progress=listener))
    result = OutliersResult(opened, found)
    if out is not None:
        _write(Path(out), result, count)
    return result


def _write(out: Path, result: OutliersResult, count: int) -> None:
    index, found = result.index, result.found
    if out.suffix.lower() == ".csv":
        rows = [
            (path_in_table(index.path(row)), f"{found.distance[row]:.5f}", f"{found.score[row]:.3f}") for row in found.order.tolist()
        ]
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_table(out, ("path", "distance", "score"), rows)
        except OSError as error:
            raise OptionError(f"--out {out}: cannot be written ({error.strerror or error})") from error
        return
    tiles = tuple(
        NeighbourTile(index.path(row), f"{found.distance[row]:.3f}, score {found.score[row]:.1f}", index.names[row])
        for row in found.order[:count].tolist()
    )
    lead = (
        f"The photos of {index.root} that lie farthest from those nearest to them: the mean distance (1 minus cosine), and how far that is"
        " out of the ordinary (modified z-score; above 3.5 it is suspicious)."
    )
    write_walls(out, "Least like the others", lead, [Wall(f"{len(tiles)} of {len(index)} photos", "the strangest first", tiles)])
