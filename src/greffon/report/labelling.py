"""``labels.html``: found labels to look at, class by class. One self-contained file, no script, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from greffon.report.parts import Tile, photo_address, write_page

__all__ = ["ClassWall", "labelling_report"]


@final
@dataclass(frozen=True, slots=True)
class ClassWall:
    """The photos of a class: as given, the surest and the least sure that were labelled, and those left open."""

    name: str
    labelled: int
    open: int
    given: tuple[Tile, ...]
    surest: tuple[Tile, ...]
    least: tuple[Tile, ...]
    unsure: tuple[Tile, ...]


def labelling_report(
    path: Path,
    classes: Sequence[str],
    given: Sequence[Sequence[Path]],
    photos: Sequence[tuple[Path, str, float, str, bool]],
    figures: Mapping[str, Any],
    *,
    most: int = 600,
) -> None:
    """Write the page of a labelling.

    Parameters
    ----------
    given
        The labelled photos of each class.
    photos
        Of each other one its path, most probable class, the probability of that, the second class, and whether it was given
        the label.
    figures
        The values of ``label.json``.
    most
        About so many photos are shown in all.

    Raises
    ------
    ModelError
        The file cannot be written.
    """
    few = max(2, min(8, most // (4 * len(classes))))
    walls = []
    for name, own in zip(classes, given, strict=True):
        mine = sorted((one for one in photos if one[1] == name), key=lambda one: -one[2])
        sure, unsure = [one for one in mine if one[4]], [one for one in mine if not one[4]]
        tail = sure[few:][-few:][::-1]
        walls.append(ClassWall(
            name, len(sure), len(unsure), tuple(_tile((one, name, 1.0, "", True)) for one in own[:few]),
            tuple(map(_tile, sure[:few])), tuple(map(_tile, tail)), tuple(map(_tile, unsure[:few])),
        ))  # fmt: skip
    write_page(path, "labelling.html", {"walls": walls, "figures": figures})


def _tile(one: tuple[Path, str, float, str, bool]) -> Tile:
    path, best, confidence, second, _ = one
    return Tile(path.name, photo_address(path), best, confidence, second)
