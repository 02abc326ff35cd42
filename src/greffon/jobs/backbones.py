"""``greffon backbones``: which networks there are."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import final

from greffon.backbones import names
from greffon.backbones.imported import find_entry, imported_names
from greffon.backbones.weights import stored

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
    """The networks whose names match a pattern (``resnet*``), those that were imported first, then greffon's own rows."""
    wanted = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    rows = []
    for name in (*(name for name in imported_names() if fnmatch.fnmatchcase(name, wanted)), *names(wanted)):
        row = find_entry(name)
        rows.append(BackboneRow(row.name, row.weights_of, row.licence, row.preprocess.height, stored(row).is_file()))
    return rows
