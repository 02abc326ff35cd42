"""``audit.html``: what was found in the data, with thumbnails. One self-contained file, no script, no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from greffon.auditing import CUES, Audit, Finding, Kind
from greffon.report.parts import photo_address, write_page

__all__ = ["Exhibit", "Section", "audit_report"]

#: How many photos of a kind are shown, and how many sets of copies with how many photos each.
_LABELS, _OTHERS, _SETS, _OF_SET, _PAIRS = 60, 24, 30, 6, 12


@final
@dataclass(frozen=True, slots=True)
class Exhibit:
    """A photo on the page: its name, its thumbnail ("" where that failed), what stands out, and the rest of the caption."""

    name: str
    picture: str
    strong: str
    more: str


@final
@dataclass(frozen=True, slots=True)
class Section:
    """A kind of fault on the page.

    Parameters
    ----------
    count
        Findings of this kind, of which some are shown.
    sentences
        Findings about classes or all the data, and files without a picture.
    rows
        Sets of photos that belong together.
    wall
        Photos by themselves.
    """

    key: str
    title: str
    advice: str
    count: int
    sentences: tuple[tuple[str, str], ...] = ()
    rows: tuple[tuple[Exhibit, ...], ...] = ()
    wall: tuple[Exhibit, ...] = ()


def audit_report(path: Path, audit: Audit, kinds: Mapping[str, Kind], figures: Mapping[str, Any]) -> None:
    """Write the page of an audit.

    Parameters
    ----------
    kinds
        ``audit.KINDS``.
    figures
        The values of ``audit.json``.

    Raises
    ------
    ModelError
        The file cannot be written.
    """
    sections = [_section(audit, key, kinds[key], count) for key, count in audit.counts().items()]
    values = {
        "figures": figures,
        "sections": sections,
        "pairs": figures["confused"][:_PAIRS] if len(audit.contents.dataset.classes) > 2 else figures["confused"],
        "cues": [(CUES[one["cue"]], one) for one in figures["shortcuts"]],
        "classes": list(figures["images_by_class"].items()),
        "largest": max(figures["images_by_class"].values(), default=1) or 1,
        "excluded": len(figures["excluded"]),
    }
    write_page(path, "auditing.html", values)


def _section(audit: Audit, key: str, kind: Kind, count: int) -> Section:
    own = [one for one in audit.findings if one.kind == key]
    if "duplicate" in key:
        return Section(key, kind.title, kind.advice, count, rows=_sets(audit, key))
    if key == "unreadable" or own[0].path is None:
        told = tuple((one.path.name if one.path else _about(one), one.reason) for one in own[:50])
        return Section(key, kind.title, kind.advice, count, sentences=told)
    most = _LABELS if key == "label-error" else _OTHERS
    return Section(key, kind.title, kind.advice, count, wall=tuple(_exhibit(one) for one in own[:most]))


def _about(one: Finding) -> str:
    return f"{one.label}, {one.suggested}" if one.suggested else one.label


def _exhibit(one: Finding) -> Exhibit:
    assert one.path is not None
    if one.kind == "label-error":
        strong, more = f"{one.label} → {one.suggested}?", one.reason.removeprefix("out of fold ")
    else:
        strong, more = one.label, one.reason
    return Exhibit(f"{one.path.parent.name}/{one.path.name}", photo_address(one.path), strong, more)


def _sets(audit: Audit, key: str) -> tuple[tuple[Exhibit, ...], ...]:
    dataset = audit.contents.dataset
    exact, across = not key.startswith("near-"), next((name for name in ("classes", "splits") if key.endswith(f"-{name}")), "")
    shown = []
    for one in [one for one in audit.copies if (one.exact, one.across) == (exact, across)][:_SETS]:
        row = [
            Exhibit(
                f"{dataset.paths[i].parent.name}/{dataset.paths[i].name}",
                photo_address(dataset.paths[i]),
                dataset.classes[int(dataset.labels[i])] if dataset.labels[i] >= 0 else "",
                dataset.splits[i],
            )
            for i in one.files[:_OF_SET]
        ]
        if len(one.files) > _OF_SET:
            row.append(Exhibit("", "", f"and {len(one.files) - _OF_SET} more", ""))
        shown.append(tuple(row))
    return tuple(shown)
