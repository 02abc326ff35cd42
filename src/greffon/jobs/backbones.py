"""``greffon backbones``: which networks there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from greffon.backbones import entry, names
from greffon.backbones.weights import cached_file

__all__ = ["BackboneRow", "backbones"]


@final
@dataclass(frozen=True, slots=True)
class BackboneRow:
    """A row of the catalogue, for people."""

    name: str
    weights_of: str
    licence: str
    size: int
    here: bool  # whether greffon's cache has its weights


def backbones(pattern: str = "*") -> list[BackboneRow]:
    """The networks whose names match a pattern (``resnet*``), greffon's own rows first."""
    rows = []
    for name in names(pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"):
        row = entry(name)
        rows.append(
            BackboneRow(row.name, row.weights_of, row.licence, row.preprocess.height, cached_file(row).is_file())
        )
    return rows
