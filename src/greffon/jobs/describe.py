"""``greffon describe``: what a backbone is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from greffon.backbones.describe import Description, describe_plan
from greffon.backbones.drawing import draw, draw_png
from greffon.backbones.imported import find_entry
from greffon.backbones.network import blueprint
from greffon.errors import OptionError
from greffon.model import is_model_folder, load_network

__all__ = ["describe", "draw_into"]


def describe(name: str, *, size: int = 0) -> Description:
    """Describe a backbone, for square images of ``size`` pixels (the catalogue's size, if 0). No weights are read.

    >>> describe("vgg16").stages[4].receptive_field
    212

    Raises
    ------
    BackboneError
        No such backbone; it cannot be cut into stages; or the images are too small for it.
    """
    plan = load_network(Path(name)).plan if is_model_folder(name) else blueprint(find_entry(name))
    return describe_plan(plan, size, size)


def draw_into(found: Sequence[Description], *, svg: Path | None = None, png: Path | None = None, cut: str | None = None) -> list[Path]:
    """Draw backbones, several of them one under another with their stages in columns; the files that were written.

    Parameters
    ----------
    cut
        Where to mark the cut: a stage's name, ``none`` or ``all``.

    Raises
    ------
    BackboneError
        One of them has no such stage.
    OptionError
        A file cannot be written.
    """
    written = []
    for option, file, content in (
        ("--svg", svg, lambda: draw(found, cut=cut).encode()),
        ("--png", png, lambda: draw_png(found, cut=cut)),
    ):
        if file is None:
            continue
        data = content()
        try:
            file.write_bytes(data)
        except OSError as error:
            raise OptionError(f"{option} {file}: cannot be written ({error.strerror})") from error
        written.append(file)
    return written
