"""Shapes that a drawing is made of, and two ways to put them on paper: SVG, and PNG by matplotlib. Lengths are pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import final

__all__ = ["Group", "Line", "Page", "Polygon", "Text", "to_png", "to_svg"]


@final
@dataclass(frozen=True, slots=True)
class Polygon:
    """A closed shape, filled; its outline where it has one."""

    points: tuple[tuple[float, float], ...]
    fill: str
    outline: str = "#fff"
    width: float = 0.8


@final
@dataclass(frozen=True, slots=True)
class Line:
    """Straight pieces from point to point."""

    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 1.0
    dashed: bool = False
    kind: str = ""


@final
@dataclass(frozen=True, slots=True)
class Text:
    """Words on a base line. ``anchor``: start, middle or end, of the words, lies at x."""

    x: float
    y: float
    words: str
    size: int
    colour: str = "#111"
    anchor: str = "start"
    weight: str = "normal"


@final
@dataclass(frozen=True, slots=True)
class Group:
    """Shapes that belong together, and what a pointer over them is told."""

    title: str
    shapes: tuple[Polygon | Line | Text, ...]


@final
@dataclass(slots=True)
class Page:
    """A white page with shapes, the later ones above the earlier ones."""

    title: str
    width: float = 0.0
    height: float = 0.0
    shapes: list[Polygon | Line | Text | Group] = field(default_factory=list)


def to_svg(page: Page) -> str:
    """A standalone SVG without scripts, fonts or links."""
    width, height = f"{page.width:.0f}", f"{page.height:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(page.title)}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif">\n'
        f"<title>{escape(page.title)}</title>\n"
        '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(_svg(shape) for shape in page.shapes) + "\n</svg>\n"
    )


def _svg(shape: Polygon | Line | Text | Group) -> str:
    if isinstance(shape, Group):
        return f"<g><title>{escape(shape.title)}</title>{''.join(_svg(one) for one in shape.shapes)}</g>"
    if isinstance(shape, Text):
        style = f'font-size="{shape.size}" fill="{shape.colour}" text-anchor="{shape.anchor}" font-weight="{shape.weight}"'
        return f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" {style}>{escape(shape.words)}</text>'
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
    if isinstance(shape, Polygon):
        outline = f'stroke="{shape.outline}" stroke-width="{shape.width}" stroke-linejoin="round"'
        return f'<polygon points="{points}" fill="{shape.fill}" {outline}/>'
    dashes = ' stroke-dasharray="6 4"' if shape.dashed else ""
    kind = f' class="{shape.kind}"' if shape.kind else ""
    if len(shape.points) == 2:
        (x1, y1), (x2, y2) = shape.points
        ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        return f'<line{kind} {ends} stroke="{shape.colour}" stroke-width="{shape.width}"{dashes}/>'
    return f'<polyline{kind} points="{points}" fill="none" stroke="{shape.colour}" stroke-width="{shape.width}"{dashes}/>'


def to_png(page: Page, *, scale: float = 2.0) -> bytes:
    """The same in pixels, ``scale`` of them for one of the page's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dots = 72.0 * scale  # a point is then one of the page's pixels
    figure = Figure(figsize=(page.width / 72, page.height / 72), dpi=dots, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, page.width)
    axes.set_ylim(page.height, 0)
    axes.set_axis_off()
    flat = [one for shape in page.shapes for one in (shape.shapes if isinstance(shape, Group) else (shape,))]
    _paint(axes, flat)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dots, metadata={"Title": page.title, "Software": None})
    return file.getvalue()


def _paint(axes: object, shapes: Sequence[Polygon | Line | Text]) -> None:
    from matplotlib.axes import Axes
    from matplotlib.patches import Polygon as Patch

    assert isinstance(axes, Axes)
    places = {"start": "left", "middle": "center", "end": "right"}
    for order, shape in enumerate(shapes):
        if isinstance(shape, Polygon):
            axes.add_patch(Patch(list(shape.points), closed=True, facecolor=shape.fill, edgecolor=shape.outline,
                                 linewidth=shape.width, zorder=order))  # fmt: skip
        elif isinstance(shape, Line):
            across, down = zip(*shape.points, strict=True)
            style = (0, (4, 2.5)) if shape.dashed else "solid"
            axes.plot(across, down, color=shape.colour, linewidth=shape.width, linestyle=style, zorder=order)
        else:
            axes.text(shape.x, shape.y, shape.words.replace("$", r"\$"), fontsize=0.87 * shape.size, color=shape.colour,
                      ha=places[shape.anchor], va="baseline", weight=shape.weight, zorder=order)  # fmt: skip
