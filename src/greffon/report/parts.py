"""What the pages share: photos and pictures as data addresses, and how a page is written."""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, final

from greffon.errors import ImageError, ModelError
from greffon.images import decode, read_bytes, thumbnail

__all__ = ["Tile", "drawn_address", "filled", "photo_address", "picture_address", "write_page"]


@final
@dataclass(frozen=True, slots=True)
class Tile:
    """A photo on the page, and what it is taken for."""

    name: str
    picture: str  # a data address, or "" where the thumbnail failed
    best: str
    confidence: float
    second: str
    before: str = ""  # what it was taken for before, where that was something else


def photo_address(path: Path, side: int = 128) -> str:
    """A photo's thumbnail as a data address, or "" where it cannot be read."""
    try:
        return _as_address(thumbnail(decode(read_bytes(path), reduce_to=side), side=side), "jpeg")
    except ImageError:
        return ""


def picture_address(file: Path | None) -> str:
    """A PNG file as a data address, or "" where there is none."""
    return _as_address(file.read_bytes(), "png") if file is not None and file.is_file() else ""


def filled(template: str, values: Mapping[str, Any]) -> str:
    """A template of this package with everything filled in, escaped but for what is ``Markup`` already."""
    from jinja2 import Environment, select_autoescape

    return (
        Environment(autoescape=select_autoescape(default=True, default_for_string=True), trim_blocks=True)
        .from_string(files("greffon.report").joinpath(template).read_text(encoding="utf-8"))
        .render(values)
    )


def drawn_address(draw: Callable[[Path], None]) -> str:
    """A picture as a data address, without leaving a file; ``draw`` writes a PNG file to a path."""
    with tempfile.TemporaryDirectory(prefix="greffon-") as folder:
        file = Path(folder) / "picture.png"
        draw(file)
        return picture_address(file)


def write_page(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Fill a template of this package and write it, whole or not at all. Everything that is filled in is escaped.

    Raises ModelError where the file cannot be written.
    """
    page = filled(template, values)
    part = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        part.write_text(page, encoding="utf-8", errors="replace")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ModelError(f"{path}: cannot be written ({error.strerror})") from error


def _as_address(picture: bytes, kind: str) -> str:
    """A picture as a data address, so that the page needs no other file."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
