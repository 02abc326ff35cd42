"""``greffon duplicates``: groups of photos of an index that are the same, or nearly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.errors import OptionError
from greffon.progress import Progress, Silent
from greffon.report import NeighbourTile, Wall, check_sheet, path_in_table, write_table, write_walls
from greffon.transfer.unsupervised import Duplicates, PhotoIndex, load_index, near_duplicates, searcher

__all__ = ["DuplicatesResult", "duplicates"]

#: Each photo is compared with so many of those that are nearest to it.
_NEAR = 10


@final
@dataclass(frozen=True, slots=True, eq=False)
class DuplicatesResult:
    """Photos that are the same but for recompression, resizing or mirroring.

    Parameters
    ----------
    groups
        int64 (size,) each, positions in the index, the largest group first, in each the largest photo first.
    exact
        bool (size,) each: whether another of its group has the very same content.
    mirrored
        bool (size,) each: whether it is the mirror image of the first of its group.
    """

    index: PhotoIndex
    found: Duplicates
    groups: tuple[np.ndarray, ...]
    exact: tuple[np.ndarray, ...]
    mirrored: tuple[np.ndarray, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        groups = [
            [
                {"path": path_in_table(self.index.path(row)), "exact": same, "mirrored": turned}
                for row, same, turned in zip(rows.tolist(), exact.tolist(), mirrored.tolist(), strict=True)
            ]
            for rows, exact, mirrored in zip(self.groups, self.exact, self.mirrored, strict=True)
        ]
        return {"photos": len(self.index), "in_groups": sum(map(len, self.groups)), "groups": groups}


def duplicates(
    index: Path | str, *, out: Path | str | None = None, progress: Progress | None = None
) -> DuplicatesResult:
    """Find groups of photos that are the same but for recompression, resizing or mirroring.

    Parameters
    ----------
    index
        A folder that ``index`` made.
    out
        A file to write: ``.csv`` with the columns group, path, exact, mirrored; or a contact sheet, ``.html`` or ``.png``.

    Raises
    ------
    PhotoIndexError
        The index is damaged.
    GreffonError
        Of the kind that says what is wrong.
    """
    listener = progress or Silent()
    if out is not None:
        check_sheet(Path(out), (".csv", ".html", ".png"))
    opened = load_index(index)
    near = searcher(opened.vectors).among_themselves(_NEAR, progress=listener)
    found = near_duplicates(near, opened.pictures)
    groups = tuple(rows[np.argsort(-opened.pictures.side[rows], kind="stable")] for rows in found.sets())
    digests = [opened.digests[rows] for rows in groups]
    exact = tuple((of[:, None] == of[None]).all(2).sum(1) > 1 for of in digests)
    result = DuplicatesResult(opened, found, groups, exact, _mirrored(found, groups))
    if out is not None:
        _write(Path(out), result)
    return result


def _mirrored(found: Duplicates, groups: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Whether each is the mirror image of the first of its group: along the pairs, twice mirrored is as it was."""
    ways: dict[int, list[tuple[int, bool]]] = {}
    for (i, j), turned in zip(found.pairs.tolist(), found.mirrored.tolist(), strict=True):
        ways.setdefault(i, []).append((j, turned))
        ways.setdefault(j, []).append((i, turned))
    told = []
    for rows in groups:
        first = int(rows[0])
        known, waiting = {first: False}, [first]
        for row in waiting:
            for other, turned in ways.get(row, []):
                if other not in known:
                    known[other] = known[row] != turned
                    waiting.append(other)
        told.append(np.array([known.get(int(row), False) for row in rows], bool))
    return tuple(told)


def _write(out: Path, result: DuplicatesResult) -> None:
    index = result.index
    if out.suffix.lower() == ".csv":
        rows = [
            (str(number), path_in_table(index.path(row)), str(same).lower(), str(turned).lower())
            for number, parts in enumerate(zip(result.groups, result.exact, result.mirrored, strict=True))
            for row, same, turned in zip(*(part.tolist() for part in parts), strict=True)
        ]
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_table(out, ("group", "path", "exact", "mirrored"), rows)
        except OSError as error:
            raise OptionError(f"--out {out}: cannot be written ({error.strerror or error})") from error
        return
    walls = []
    for number, (rows, exact, mirrored) in enumerate(zip(result.groups, result.exact, result.mirrored, strict=True)):
        tiles = tuple(
            NeighbourTile(
                index.path(row),
                "identical file" if same else "mirrored" if turned else f"{index.pictures.side[row]} px",
                index.names[row],
            )
            for row, same, turned in zip(rows.tolist(), exact.tolist(), mirrored.tolist(), strict=True)
        )
        walls.append(Wall(f"Group {number + 1}", f"{len(rows)} photos", tiles))
    count = sum(map(len, result.groups))
    lead = f"{count} of the {len(index)} photos of {index.root} are in {len(walls)} groups; the largest photo of each stands first."
    write_walls(out, "The same, or nearly", lead, walls)
