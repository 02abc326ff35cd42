"""What the pages share: their head and look, photos and pictures as data addresses, and how a page is written."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from greffon.errors import ImageError, ModelError
from greffon.images import decode, read_bytes, thumbnail
from greffon.whole import whole_file

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = [
    "Asset",
    "Tile",
    "asset",
    "content_policy",
    "drawn_address",
    "filled",
    "photo_address",
    "picture_address",
    "write_page",
]


@final
@dataclass(frozen=True, slots=True)
class Asset:
    """A style or a script of this package, which pages carry as it is, so that a hash of it can stand in their policy."""

    kind: str  # "style" or "script"
    text: str

    @property
    def element(self) -> Markup:
        """The element of a page that holds it."""
        from markupsafe import Markup

        return Markup(f"<{self.kind}>{self.text}</{self.kind}>")

    @property
    def source(self) -> str:
        """What a Content-Security-Policy calls it."""
        return f"'sha256-{base64.b64encode(hashlib.sha256(self.text.encode()).digest()).decode()}'"


@cache
def asset(name: str) -> Asset:
    """A ``.css`` or ``.js`` file of this package."""
    return Asset("style" if name.endswith(".css") else "script", _read(name))


def content_policy(assets: Sequence[Asset]) -> str:
    """A Content-Security-Policy under which a page runs just these scripts, has just these styles, and reaches for nothing."""
    allowed = {kind: " ".join(one.source for one in assets if one.kind == kind) or "'none'" for kind in ("style", "script")}
    return (f"default-src 'none'; img-src data:; style-src {allowed['style']}; script-src {allowed['script']};"
            " base-uri 'none'; form-action 'none'")  # fmt: skip


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
    return _templates().get_template(template).render(values)


@cache
def _templates() -> Environment:
    """The templates of this package. Their heads and looks are in ``base.html``, which they extend."""
    from jinja2 import Environment, FunctionLoader, select_autoescape

    found = Environment(loader=FunctionLoader(_read), autoescape=select_autoescape(default=True, default_for_string=True), trim_blocks=True)
    found.globals["base_style"] = asset("base.css")
    return found


def _read(name: str) -> str:
    return files("greffon.report").joinpath(*name.split("/")).read_text(encoding="utf-8")


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
    try:
        with whole_file(path) as part:
            part.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror or error})") from error


def _as_address(picture: bytes, kind: str) -> str:
    """A picture as a data address, so that the page needs no other file."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
