"""A backbone as a table and as a drawing. No weights are needed: the network runs on the meta device, shapes only.

One run tells everything. Multiply-adds are counted by torch's own counter. Receptive fields follow every operation
that the run performs, so that branches, asymmetric padding and residual sums come out exactly, and where an operation
sees the whole image (squeeze-and-excitation) or is not understood, the answer is "none" and not a guess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from greffon.backbones.network import Blueprint, blueprint
from greffon.errors import BackboneError
from greffon.images import Preprocess

__all__ = ["Description", "StageRow", "describe_plan", "draw"]


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage.

    Parameters
    ----------
    name
        As ``--unfreeze`` has it.
    layers
        In the notation of the VGG paper, without activations and normalisation: ``conv3-64`` is a 3 × 3 convolution
        to 64 channels, ``conv7-64/2`` one of stride 2, ``dwconv`` a depthwise one, ``maxpool`` a 2 × 2 pooling of
        stride 2. A module with branches is its class and its channels: ``Bottleneck-256``.
    shape
        Of the output for one image: (c, h, w).
    parameters
        Trained numbers in the stage.
    multiply_adds
        Of its convolutions and matrix products, for one image.
    receptive_field
        The side, in pixels, of the smallest square that holds all pixels that one position of the output depends
        on, far from the borders. None where that is the whole image, or not known.
    stride
        How many pixels lie between two neighbouring positions of the output. None where it is not known.
    """

    name: str
    layers: tuple[str, ...]
    shape: tuple[int, int, int]
    parameters: int
    multiply_adds: int
    receptive_field: int | None
    stride: int | None


@dataclass(frozen=True, slots=True)
class Description:
    """A backbone: its stages from the image upwards, and what is known of its weights.

    ``input`` is the shape (3, h, w) that everything was counted for; ``total_multiply_adds`` are those of the stages,
    ``total_parameters`` those of the stages and of the ImageNet classifier; ``preprocess`` is the catalogue's.
    """

    name: str
    architecture: str
    input: tuple[int, int, int]
    stages: tuple[StageRow, ...]
    classifier_parameters: int
    total_parameters: int
    total_multiply_adds: int
    weights_of: str
    licence: str
    preprocess: Preprocess


def describe_plan(plan: Blueprint, height: int = 0, width: int = 0) -> Description:
    """Describe a network for images of one size in pixels (the catalogue's, if 0).

    Raises
    ------
    BackboneError
        The images are too small for the network.
    """
    row = plan.entry
    if not all(tensor.is_meta for tensor in plan.model.parameters()):
        plan = blueprint(row)  # The network that came may hold somebody's weights, which must not be moved.
    model = plan.model.to("meta")
    height, width = height or row.preprocess.height, width or row.preprocess.width
    sizes = {key: tensor.numel() for key, tensor in model.named_parameters()}
    stages: list[StageRow] = []
    try:
        x = torch.empty(1, 3, height, width, device="meta")
        with torch.no_grad(), _Sight(x) as sight, FlopCounterMode(display=False) as counter:
            for stage in plan.stages:
                before = counter.get_total_flops()
                layers: list[str] = []
                for link in stage.links:
                    x = model.get_submodule(link)(x)
                    layers += _layers(model.get_submodule(link), int(x.shape[1]))
                prefixes = tuple(f"{link}." for link in stage.links)
                field_of_view, stride = sight.square(x)
                stages.append(
                    StageRow(
                        name=stage.name,
                        layers=tuple(layers),
                        shape=(int(x.shape[1]), int(x.shape[2]), int(x.shape[3])),
                        parameters=sum(count for key, count in sizes.items() if key.startswith(prefixes)),
                        multiply_adds=(counter.get_total_flops() - before) // 2,  # A multiply-add is two operations.
                        receptive_field=field_of_view,
                        stride=stride,
                    )
                )
    except RuntimeError as error:  # torch: the input of some convolution or pooling is smaller than its kernel
        trained_with = f"It was trained with {row.preprocess.height} × {row.preprocess.width}."
        raise BackboneError(f"{row.name} cannot take images of {height} × {width} pixels", hint=trained_with) from error
    trunk, everything = sum(stage.parameters for stage in stages), sum(sizes.values())
    return Description(
        name=row.name,
        architecture=row.architecture,
        input=(3, height, width),
        stages=tuple(stages),
        classifier_parameters=everything - trunk,
        total_parameters=everything,
        total_multiply_adds=sum(stage.multiply_adds for stage in stages),
        weights_of=row.weights_of,
        licence=row.licence,
        preprocess=row.preprocess,
    )


def _layers(link: nn.Module, channels: int) -> list[str]:
    """The names of a link's layers: none for an activation or a normalisation."""
    if isinstance(link, nn.MaxPool2d | nn.AvgPool2d):
        kernel, stride = (side[0] if isinstance(side, tuple) else side for side in (link.kernel_size, link.stride))
        name = "maxpool" if isinstance(link, nn.MaxPool2d) else "avgpool"
        return [name if (kernel, stride) == (2, 2) else f"{name}{kernel}/{stride}"]
    blocks = getattr(link, "blocks", None)
    if isinstance(blocks, nn.Sequential | nn.ModuleList):  # timm's name for the blocks of a whole stage
        return [f"{type(block).__name__}-{channels}" for block in blocks]
    convolutions = [part for part in link.modules() if isinstance(part, nn.Conv2d)]
    if len(convolutions) != 1:
        return [f"{type(link).__name__}-{channels}"] if convolutions else []
    one = convolutions[0]
    depthwise = "dw" if one.groups == one.in_channels > 1 else ""
    kernel = str(one.kernel_size[0]) if len(set(one.kernel_size)) == 1 else "x".join(map(str, one.kernel_size))
    return [f"{depthwise}conv{kernel}-{one.out_channels}" + (f"/{one.stride[0]}" if one.stride[0] > 1 else "")]


# --- receptive fields --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reach:
    """Along one axis, position i of a map depends on the pixels ``low + i * stride`` to ``high + i * stride``.

    Infinite bounds: the whole image, or not known. Stride 0: not known.
    """

    low: float
    high: float
    stride: int

    def window(self, kernel: int, stride: int, padding: int, dilation: int) -> _Reach:
        """The reach after a convolution or a pooling with this reach as its input."""
        return _Reach(
            self.low - padding * self.stride,
            self.high + (dilation * (kernel - 1) - padding) * self.stride,
            self.stride * stride,
        )


_UNKNOWN = _Reach(-math.inf, math.inf, 0)
#: Operations that mix no positions, beside those that torch tags as pointwise. Those of the second set join or part a
#: map, and mix none where they do so along the channels.
_IN_PLACE = {"native_batch_norm", "_native_batch_norm_legit_no_training", "hardswish_", "clone", "detach"}
_ALONG = {"cat", "split", "split_with_sizes", "slice"}
_PADS = {"constant_pad_nd", "reflection_pad2d", "replication_pad2d"}


def _union(reaches: Sequence[_Reach]) -> _Reach:
    """What a position depends on that is made of the same position of several maps."""
    strides = {reach.stride for reach in reaches} - {0}
    if len(strides) > 1:
        return _UNKNOWN
    return _Reach(min(r.low for r in reaches), max(r.high for r in reaches), max(strides, default=0))


class _Sight(TorchDispatchMode):
    """While it is entered, follows what the maps made from ``image`` (n, 3, h, w) depend on."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        # The tensors are kept beside their reaches so that no id is used twice; on the meta device they hold nothing.
        start = _Reach(0, 0, 1)
        self._seen: dict[int, tuple[Tensor, tuple[_Reach, _Reach]]] = {id(image): (image, (start, start))}

    def square(self, x: Tensor) -> tuple[int | None, int | None]:
        """The receptive field and the stride of a map, as in ``StageRow``."""
        _, (down, across) = self._seen[id(x)]
        side = max(down.high - down.low, across.high - across.low) + 1
        stride = down.stride if down.stride == across.stride else 0
        return (None if math.isinf(side) else int(side)), (stride or None)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        reaches = [self._seen[id(leaf)][1] for leaf in tree_leaves((args, kwargs)) if id(leaf) in self._seen]
        if reaches:
            after = _after(func, args, reaches)
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor):
                    self._seen[id(leaf)] = (leaf, after)
        return result


def _after(func: Any, args: tuple[Any, ...], reaches: list[tuple[_Reach, _Reach]]) -> tuple[_Reach, _Reach]:
    """The reach (down, across) of what an operation gives, from those of the maps that it takes."""
    name = func.overloadpacket.__name__
    if (torch.Tag.pointwise in func.tags or name in _IN_PLACE) or (name in _ALONG and _dimension(name, args) == 1):
        return _union([down for down, _ in reaches]), _union([across for _, across in reaches])
    if len(reaches) > 1 or not isinstance(args[0], Tensor) or args[0].ndim != 4:
        return _UNKNOWN, _UNKNOWN
    down, across = reaches[0]
    if name in _PADS:  # (left, right, top, bottom): position i was position i - left
        return down.window(1, 1, args[1][2] if len(args[1]) > 2 else 0, 1), across.window(1, 1, args[1][0], 1)
    if name == "convolution" and not args[6]:
        kernel, stride, padding, dilation = args[1].shape[2:], args[3], args[4], args[5]
    elif name in ("max_pool2d_with_indices", "avg_pool2d"):
        kernel = args[1]
        stride = args[2] if len(args) > 2 and args[2] else kernel
        padding = args[3] if len(args) > 3 else (0, 0)
        dilation = args[4] if len(args) > 4 and name.startswith("max") else (1, 1)
    else:
        return _UNKNOWN, _UNKNOWN
    pairs = [tuple(side) * 2 if len(side) == 1 else tuple(side) for side in (kernel, stride, padding, dilation)]
    return down.window(*(pair[0] for pair in pairs)), across.window(*(pair[1] for pair in pairs))


def _dimension(name: str, args: tuple[Any, ...]) -> int:
    """The axis of a joining or parting operation, counted from the front of (n, c, h, w)."""
    at = 1 if name in ("cat", "slice") else 2
    return args[at] % 4 if len(args) > at else 0


# --- the drawing -------------------------------------------------------------------------------------------------

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
