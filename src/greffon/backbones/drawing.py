"""Backbones drawn as papers draw them: blocks as high as their maps, as deep as their channels. SVG and PNG."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from greffon.backbones.describe import Description, StageRow
from greffon.backbones.drawing_words import DrawingWords, drawing_words
from greffon.backbones.shapes import Group, Line, Page, Polygon, Text, to_png, to_svg
from greffon.errors import BackboneError

__all__ = ["draw", "draw_png"]

#: Front, top and side of a block.
_FROZEN = ("#9dbbdc", "#c9dbee", "#6d93bd")
_TRAINED = ("#f2ab5f", "#f9d3a6", "#c97f31")
_PLAIN = ("#dcdcdc", "#efefef", "#b4b4b4")
_CUT, _MORE = "#b3261e", "#1b7f3b"
_TALLEST, _WIDEST, _LINE, _MARGIN, _MOST = 132.0, 180.0, 15.0, 24.0, 1180.0


@dataclass(frozen=True, slots=True)
class _Slice:
    """A layer: its width in pixels, whether it is a pooling, and whether the first network has no such layer."""

    width: float
    pool: bool = False
    more: bool = False


@dataclass(frozen=True, slots=True)
class _Block:
    """A column of the drawing: a box over lines of text. ``least`` is the column's least width."""

    lines: tuple[str, ...]
    slices: tuple[_Slice, ...]
    height: float
    depth: float
    colours: tuple[str, str, str]
    cut_before: bool = False
    least: float = 0.0

    def box(self) -> float:
        return sum(one.width for one in self.slices) + self.depth * 0.3

    def column(self) -> float:
        texts = (_measure(line, 13 if i == 0 else 11) for i, line in enumerate(self.lines))
        return max(self.least, max(self.box(), *texts) + 22)


def draw(descriptions: Sequence[Description], *, cut: str | None = None, lang: str = "en") -> str:
    """Draw backbones as papers draw VGG: a standalone SVG without scripts, fonts or links.

    Several stand one under another. Where their stages have the same names, these stand in the same columns, and layers
    that the first one does not have are outlined and counted.

    Parameters
    ----------
    descriptions
        At least one.
    cut
        Where the network is cut: the name of the first stage above the cut, or "none" (above the last stage), or
        "all" (below the first). What lies below it is drawn as frozen; what lies above, and a new head, as trained.
    lang
        ``"en"`` or ``"fr"``.

    Raises
    ------
    BackboneError
        One of the backbones has no such stage.
    OptionError
        Another language.
    """
    return to_svg(_page(descriptions, cut, drawing_words(lang)))


def draw_png(descriptions: Sequence[Description], *, cut: str | None = None, scale: float = 2.0, lang: str = "en") -> bytes:
    """The same drawing as a PNG file, ``scale`` pixels for one of the SVG's. Raises what ``draw`` does."""
    return to_png(_page(descriptions, cut, drawing_words(lang)), scale=scale)


def _page(descriptions: Sequence[Description], cut: str | None, words: DrawingWords) -> Page:
    names = words.joined.join(one.name for one in descriptions)
    sentence = "{names}" if cut is None else words.cut_top if cut == "none" else words.cut_at
    page = Page(sentence.format(names=names, cut=cut))
    drawn = [_blocks(one, descriptions[0], cut, words) for one in descriptions]
    if len({tuple(block.lines[0] for block in blocks) for blocks in drawn}) == 1:
        widths = [max(block.column() for block in blocks) for blocks in zip(*drawn, strict=True)]
        drawn = [[replace(block, least=width) for block, width in zip(blocks, widths, strict=True)] for blocks in drawn]
    y, right, more = _MARGIN, 620.0, False
    for one, blocks in zip(descriptions, drawn, strict=True):
        heading = words.heading.format(
            architecture=one.architecture,
            shape=_shape(one.input),
            all=_short(one.total_parameters, words),
            stages=_short(one.total_parameters - one.classifier_parameters, words),
            multiply_adds=_short(one.total_multiply_adds, words),
        )
        weights = words.weights.format(of=one.weights_of, licence=one.licence)
        page.shapes += [Text(_MARGIN, y + 14, one.name, 18, weight="bold"), Text(_MARGIN, y + 34, heading, 12, "#333"),
                        Text(_MARGIN, y + 50, weights, 12, "#666")]  # fmt: skip
        y += 66
        right = max(right, _MARGIN + max(_measure(heading, 12), _measure(weights, 12)))
        lines = _wrapped(blocks)
        for i, line in enumerate(lines):
            width, height = _draw_line(line, y, page, words, continues=i + 1 < len(lines))
            right, y = max(right, width), y + height
        y += 14
        more = more or any(part.more for block in blocks for part in block.slices)
    if cut is not None or more:
        y = _legend(y, page, descriptions[0].name if more else "", words, cut=cut is not None)
    page.shapes.append(Text(_MARGIN, y + 8, words.note, 10, "#666"))
    page.width, page.height = max(right, _MARGIN + _measure(words.note, 10)) + _MARGIN, y + 28
    return page


def _blocks(one: Description, first: Description, cut: str | None, words: DrawingWords) -> list[_Block]:
    """The columns of one backbone: the image, its stages, and the head that stands on them."""
    names = [stage.name for stage in one.stages]
    if cut not in (None, "none", "all", *names):
        raise BackboneError(f"{one.name} has no stage {cut!r}", hint=f"Its stages are: {', '.join(names)}.")
    at = {None: len(names) + 1, "none": len(names), "all": 0}.get(cut, names.index(cut) if cut in names else 0)
    scale = _TALLEST / math.sqrt(max(one.input[1:]))
    tall, deep = (scale * math.sqrt(side) for side in one.input[1:])
    blocks = [_Block((words.image, _shape(one.input)), (_Slice(3.0),), tall, deep, _PLAIN)]
    others = {stage.name: Counter(stage.layers) for stage in first.stages}
    alike = [stage.name for stage in first.stages] == names
    for i, stage in enumerate(one.stages):
        more = Counter(stage.layers) - others[stage.name] if alike else Counter[str]()
        tall, deep = (scale * math.sqrt(side) for side in stage.shape[1:])
        blocks.append(
            _Block(_lines(stage, more, words), _slices(stage, more), tall, deep, _TRAINED if i >= at else _FROZEN, cut_before=i == at)
        )
    if cut is None:
        trained_on = (*words.classifier, words.parameters.format(count=_short(one.classifier_parameters, words)))
        return [*blocks, _Block(trained_on, (_Slice(12.0),), 26, 14, _PLAIN)]
    return [*blocks, _Block(words.new_head, (_Slice(12.0),), 26, 14, _TRAINED, cut_before=at == len(names))]


def _lines(stage: StageRow, more: Counter[str], words: DrawingWords) -> tuple[str, ...]:
    field = words.sees.format(pixels=f"{stage.receptive_field:,}".replace(",", words.thousands)) if stage.receptive_field else ""
    stride = words.stride.format(stride=stage.stride) if stage.stride else ""
    runs = [(layer, len(list(run))) for layer, run in groupby(stage.layers)]
    return (
        stage.name,
        _shape(stage.shape),
        *((f"{count} × {layer}" if count > 1 else layer) + (f" (+{more[layer]})" if more[layer] else "") for layer, count in runs),
        words.parameters.format(count=_short(stage.parameters, words)),
        words.multiply_adds.format(count=_short(stage.multiply_adds, words)),
        " · ".join(part for part in (field, stride) if part),
    )


def _slices(stage: StageRow, more: Counter[str]) -> tuple[_Slice, ...]:
    """A slice a layer; of layers that are there more often than in the first network, the last ones are marked."""
    width = 0.85 * math.sqrt(stage.shape[0])
    left, found = Counter(more), list[_Slice]()
    for layer in reversed(stage.layers):
        extra = left[layer] > 0
        left[layer] -= extra
        found.append(_Slice(6.0, pool=True, more=extra) if "pool" in layer else _Slice(width, more=extra))
    narrow = min(1.0, _WIDEST / max(1.0, sum(one.width for one in found)))
    return tuple(replace(one, width=one.width * narrow) for one in reversed(found)) or (_Slice(6.0),)


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


def _draw_line(blocks: Sequence[_Block], y: float, page: Page, words: DrawingWords, *, continues: bool) -> tuple[float, float]:
    """Draw columns side by side from ``y`` downwards; gives where they end at the right, and how tall they are."""
    above = max(block.height + block.depth * 0.22 for block in blocks)
    middle, text = y + 20 + above / 2, y + 20 + above + 20
    bottom = text + max(len(block.lines) for block in blocks) * _LINE
    x, end = _MARGIN, 0.0
    for before, block in zip((None, *blocks), blocks, strict=False):
        column, box = block.column(), block.box()
        left = x + (column - box) / 2
        if end:
            page.shapes += _arrow(end + 3, left - 6, middle)
        end = left + box
        page.shapes.append(_box(block, left, middle))
        if block.cut_before:
            page.shapes.append(Line(((x, y), (x, bottom - 8)), _CUT, 2, dashed=True, kind="cut"))
            page.shapes.append(Text(x + 6, y + 9, words.trained, 11, "#9a5a12"))
            if before and before.colours == _FROZEN:  # not beside the image, nor at the start of a line
                page.shapes.append(Text(x - 6, y + 9, words.frozen, 11, "#3f6a99", anchor="end"))
        for i, line in enumerate(block.lines):
            size, colour, weight = (13, "#111", "bold") if i == 0 else (11, "#111" if i == 1 else "#555", "normal")
            colour = _MORE if "(+" in line else colour
            page.shapes.append(Text(x + column / 2, text + i * _LINE, line, size, colour, "middle", weight))
        x += column
    if continues:
        page.shapes += _arrow(end + 3, x, middle)
    return x, bottom - y + 16


def _arrow(start: float, end: float, y: float) -> list[Line]:
    return [Line(((start, y), (end, y)), "#888"), Line(((end - 4, y - 3), (end, y), (end - 4, y + 3)), "#888")]


def _box(block: _Block, left: float, middle: float) -> Group:
    """A box seen from the front, its top and its right side, cut into slices."""
    across, up = block.depth * 0.3, block.depth * 0.22
    top, width, tall = middle - block.height / 2 + up / 2, sum(one.width for one in block.slices), block.height
    front, light, dark = block.colours
    right = left + width
    shapes: list[Polygon | Line | Text] = [
        Polygon(((left, top), (left + across, top - up), (right + across, top - up), (right, top)), light),
        Polygon(((right, top), (right + across, top - up), (right + across, top - up + tall), (right, top + tall)), dark),
    ]
    x, marked = left, list[Polygon]()
    for one in block.slices:
        corners = ((x, top), (x + one.width, top), (x + one.width, top + tall), (x, top + tall))
        shapes.append(Polygon(corners, dark if one.pool else front))
        shapes.append(Line(((x, top), (x + across, top - up)), "#fff", 0.8))
        if one.more:
            marked.append(Polygon(corners, front, _MORE, 2.2))
        x += one.width
    return Group(" · ".join(line for line in block.lines if line), (*shapes, *marked))


def _legend(y: float, page: Page, first: str, words: DrawingWords, *, cut: bool) -> float:
    x = _MARGIN
    rows: list[tuple[str, str, str]] = []
    if cut:
        rows += [(_FROZEN[0], "#fff", words.frozen_legend), (_TRAINED[0], "#fff", words.trained_legend), ("", _CUT, words.cut_legend)]
    if first:
        rows.append(("#fff", _MORE, words.lacking.format(name=first)))
    for fill, outline, said in rows:
        if fill:
            corners = ((x, y - 10), (x + 20, y - 10), (x + 20, y + 2), (x, y + 2))
            page.shapes.append(Polygon(corners, fill, outline, 2.2 if outline == _MORE else 0.8))
        else:
            page.shapes.append(Line(((x, y - 4), (x + 20, y - 4)), outline, 2, dashed=True))
        page.shapes.append(Text(x + 27, y, said, 11, "#333"))
        x += 27 + _measure(said, 11) + 24
    return y + 18


def _measure(words: str, size: int) -> float:
    """About how wide a text is, on the wide side: which font there is, is known only where the drawing is shown."""
    return len(words) * size * 0.58


def _shape(shape: tuple[int, int, int]) -> str:
    return " × ".join(map(str, shape))


def _short(count: int, words: DrawingWords) -> str:
    """A count in three or four digits: 138.4 M."""
    for unit, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.{2 if letter == 'G' else 1}f} {letter}".replace(".", words.point)
    return str(count)
