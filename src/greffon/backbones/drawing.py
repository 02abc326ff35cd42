"""Backbones drawn as papers draw them: blocks as high as their maps, as deep as their channels. Standalone SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from greffon.backbones.describe import Description
from greffon.errors import BackboneError

__all__ = ["draw"]

#: Front, top and side of a block.
_FROZEN = ("#9dbbdc", "#c9dbee", "#6d93bd")
_TRAINED = ("#f2ab5f", "#f9d3a6", "#c97f31")
_PLAIN = ("#dcdcdc", "#efefef", "#b4b4b4")
_DASHED = 'stroke="#b3261e" stroke-width="2" stroke-dasharray="6 4"'
_TALLEST, _WIDEST, _LINE, _MARGIN, _MOST = 132.0, 180.0, 15.0, 24.0, 1180.0


@dataclass(frozen=True, slots=True)
class _Block:
    """A column of the drawing: a box over lines of text. ``slices`` are (width in pixels, whether a pooling)."""

    lines: tuple[str, ...]
    slices: tuple[tuple[float, bool], ...]
    height: float
    depth: float
    colours: tuple[str, str, str]
    cut_before: bool = False

    def box(self) -> float:
        return sum(width for width, _ in self.slices) + self.depth * 0.3

    def column(self) -> float:
        return max(self.box(), *(_measure(line, 13 if i == 0 else 11) for i, line in enumerate(self.lines))) + 22


def draw(descriptions: Sequence[Description], *, cut: str | None = None) -> str:
    """Draw backbones, one under another, as papers draw VGG: a standalone SVG without scripts, fonts or links.

    Parameters
    ----------
    descriptions
        At least one.
    cut
        Where the network is cut: the name of the first stage above the cut, or "none" (above the last stage), or
        "all" (below the first). What lies below it is drawn as frozen; what lies above, and a new head, as trained.

    Raises
    ------
    BackboneError
        One of the backbones has no such stage.
    """
    parts: list[str] = []
    y, right = _MARGIN, 620.0
    for one in descriptions:
        heading = (
            f"{one.architecture} · image {_shape(one.input)} · {_short(one.total_parameters)} parameters, "
            f"{_short(one.total_parameters - one.classifier_parameters)} of them in the stages · "
            f"{_short(one.total_multiply_adds)} multiply-adds"
        )
        weights = f"weights: {one.weights_of} · licence: {one.licence}"
        parts += [_text(_MARGIN, y + 14, one.name, 18, weight="bold"), _text(_MARGIN, y + 34, heading, 12, "#333"),
                  _text(_MARGIN, y + 50, weights, 12, "#666")]  # fmt: skip
        y += 66
        right = max(right, _MARGIN + max(_measure(heading, 12), _measure(weights, 12)))
        lines = _wrapped(_blocks(one, cut))
        for i, line in enumerate(lines):
            width, height = _draw_line(line, y, parts, continues=i + 1 < len(lines))
            right, y = max(right, width), y + height
        y += 14
    if cut is not None:
        y = _legend(y, parts)
    note = (
        "Box: height and depth follow the size of the stage's output, each slice is a layer "
        "and its width follows the channels (square roots)."
    )
    parts.append(_text(_MARGIN, y + 8, note, 10, "#666"))
    right = max(right, _MARGIN + _measure(note, 10))
    title = " and ".join(one.name for one in descriptions) + (f", cut at {cut}" if cut is not None else "")
    width, height = f"{right + _MARGIN:.0f}", f"{y + 28:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif">\n'
        f"<title>{escape(title)}</title>\n"
        '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _blocks(one: Description, cut: str | None) -> list[_Block]:
    """The columns of one backbone: the image, its stages, and the head that stands on them."""
    names = [stage.name for stage in one.stages]
    if cut not in (None, "none", "all", *names):
        raise BackboneError(f"{one.name} has no stage {cut!r}", hint=f"Its stages are: {', '.join(names)}.")
    at = {None: len(names) + 1, "none": len(names), "all": 0}.get(cut, names.index(cut) if cut in names else 0)
    scale = _TALLEST / math.sqrt(max(one.input[1:]))
    tall, deep = (scale * math.sqrt(side) for side in one.input[1:])
    blocks = [_Block(("image", _shape(one.input)), ((3.0, False),), tall, deep, _PLAIN)]
    for i, stage in enumerate(one.stages):
        channels, height, width = stage.shape
        slices = [(6.0, True) if "pool" in layer else (0.85 * math.sqrt(channels), False) for layer in stage.layers]
        narrow = min(1.0, _WIDEST / max(1.0, sum(side for side, _ in slices)))
        field = f"sees {stage.receptive_field:,} px" if stage.receptive_field else ""
        stride = f"stride {stage.stride}" if stage.stride else ""
        lines = (
            stage.name,
            _shape(stage.shape),
            *(f"{count} × {layer}" if count > 1 else layer
              for layer, count in ((layer, len(list(run))) for layer, run in groupby(stage.layers))),
            f"{_short(stage.parameters)} parameters",
            f"{_short(stage.multiply_adds)} multiply-adds",
            " · ".join(part for part in (field, stride) if part),
        )  # fmt: skip
        thin = tuple((side * narrow, pool) for side, pool in slices) or ((6.0, False),)
        tall, deep = scale * math.sqrt(height), scale * math.sqrt(width)
        blocks.append(_Block(lines, thin, tall, deep, _TRAINED if i >= at else _FROZEN, cut_before=i == at))
    if cut is None:
        trained_on = ("classifier", "of ImageNet", f"{_short(one.classifier_parameters)} parameters")
        return [*blocks, _Block(trained_on, ((12.0, False),), 26, 14, _PLAIN)]
    new = ("new head", "your classes")
    return [*blocks, _Block(new, ((12.0, False),), 26, 14, _TRAINED, cut_before=at == len(names))]


def _wrapped(blocks: Sequence[_Block]) -> list[list[_Block]]:
    """As few lines as the page allows, and those of about the same length."""

    def filled(limit: float) -> list[list[_Block]]:
        lines: list[list[_Block]] = [[]]
        for block in blocks:
            if lines[-1] and sum(other.column() for other in (*lines[-1], block)) > limit:
                lines.append([])
            lines[-1].append(block)
        return lines

    fewest = len(filled(_MOST))
    return next(lines for limit in range(200, int(_MOST) + 21, 20) if len(lines := filled(limit)) == fewest)


def _draw_line(blocks: Sequence[_Block], y: float, parts: list[str], *, continues: bool) -> tuple[float, float]:
    """Draw columns side by side from ``y`` downwards; gives where they end at the right, and how tall they are."""
    above = max(block.height + block.depth * 0.22 for block in blocks)
    middle, text = y + 20 + above / 2, y + 20 + above + 20
    bottom = text + max(len(block.lines) for block in blocks) * _LINE
    x, end = _MARGIN, 0.0
    for before, block in zip((None, *blocks), blocks, strict=False):
        column, box = block.column(), block.box()
        left = x + (column - box) / 2
        if end:
            parts.append(_arrow(end + 3, left - 6, middle))
        end = left + box
        parts.append(_box(block, left, middle))
        if block.cut_before:
            parts.append(f'<line class="cut" x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{bottom - 8:.1f}" {_DASHED}/>')
            parts.append(_text(x + 6, y + 9, "trained ▸", 11, "#9a5a12"))
            if before and before.colours == _FROZEN:  # not beside the image, nor at the start of a line
                parts.append(_text(x - 6, y + 9, "◂ frozen", 11, "#3f6a99", anchor="end"))
        for i, line in enumerate(block.lines):
            size, colour, weight = (13, "#111", "bold") if i == 0 else (11, "#111" if i == 1 else "#555", "normal")
            parts.append(_text(x + column / 2, text + i * _LINE, line, size, colour, "middle", weight))
        x += column
    if continues:
        parts.append(_arrow(end + 3, x, middle))
    return x, bottom - y + 16


def _arrow(start: float, end: float, y: float) -> str:
    return f'<path d="M{start:.1f} {y:.1f}H{end:.1f}m-4 -3l4 3l-4 3" fill="none" stroke="#888"/>'


def _box(block: _Block, left: float, middle: float) -> str:
    """A box seen from the front, its top and its right side, cut into slices."""
    across, up = block.depth * 0.3, block.depth * 0.22
    top, width = middle - block.height / 2 + up / 2, sum(side for side, _ in block.slices)
    front, light, dark = block.colours
    slant, back, tall = f"l{across:.1f} {-up:.1f}", f"l{-across:.1f} {up:.1f}z", f"{block.height:.1f}"
    shapes = [
        f'<path d="M{left:.1f} {top:.1f}{slant}h{width:.1f}{back}" fill="{light}"/>',
        f'<path d="M{left + width:.1f} {top:.1f}{slant}v{tall}{back}" fill="{dark}"/>',
    ]
    x = left
    for side, pool in block.slices:
        place = f'x="{x:.1f}" y="{top:.1f}" width="{side:.1f}" height="{tall}"'
        shapes += [f'<rect {place} fill="{dark if pool else front}"/>',
                   f'<path d="M{x:.1f} {top:.1f}{slant}" fill="none"/>']  # fmt: skip
        x += side
    words = escape(" · ".join(line for line in block.lines if line))
    return f'<g stroke="#fff" stroke-width="0.8" stroke-linejoin="round"><title>{words}</title>{"".join(shapes)}</g>'


def _legend(y: float, parts: list[str]) -> float:
    x = _MARGIN
    for colour, words in ((_FROZEN[0], "frozen: computed once per image"), (_TRAINED[0], "trained"), ("", "the cut")):
        if colour:
            parts.append(f'<rect x="{x:.1f}" y="{y - 10:.1f}" width="20" height="12" fill="{colour}"/>')
        else:
            parts.append(f'<path d="M{x:.1f} {y - 4:.1f}h20" {_DASHED}/>')
        parts.append(_text(x + 27, y, words, 11, "#333"))
        x += 27 + _measure(words, 11) + 24
    return y + 18


def _text(
    x: float, y: float, words: str, size: int, colour: str = "#111", anchor: str = "start", weight: str = "normal"
) -> str:
    style = f'font-size="{size}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def _measure(words: str, size: int) -> float:
    """About how wide a text is, on the wide side: which font there is, is known only where the drawing is shown."""
    return len(words) * size * 0.58


def _shape(shape: tuple[int, int, int]) -> str:
    return " × ".join(map(str, shape))


def _short(count: int) -> str:
    """A count in three or four digits: 138.4 M."""
    for unit, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.{2 if letter == 'G' else 1}f} {letter}"
    return str(count)
