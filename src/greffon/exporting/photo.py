"""The way from a photo to what a network sees, as an ONNX graph: resize, crop, channel order, normalisation.

Pillow's resize is two matrix products, one along each side, with a rounding to whole levels after each. So it is written
here as that, and not as ONNX's ``Resize``: the sizes and the places of the samples are whole numbers up to the last
division, the same for every height and width as in ``Preprocess.fit``; what comes out differs from Pillow in no pixel but
a few in ten thousand, by one level, where a sum falls on the edge between two levels; and every engine has a MatMul.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, final

import numpy as np

from greffon.errors import OptionError
from greffon.images import Preprocess

__all__ = ["OPSET", "PHOTO", "PIXELS", "SUPPORT", "can_be_exported", "photo_nodes", "tall_first"]

#: The version of ONNX's operators that graphs are written in.
OPSET = 18
#: The name of the input, uint8 (n, h, w, 3), and of what ``photo_nodes`` gives, float32 (n, 3, height, width).
PHOTO, PIXELS = "photo", "pixels"

#: How far a filter reaches, in samples (Pillow's Resample.c).
SUPPORT = {"bilinear": 1, "bicubic": 2, "lanczos": 3}


def can_be_exported(preprocess: Preprocess) -> None:
    """Raises OptionError for a preprocessing that has no graph."""
    if not preprocess.antialias or preprocess.interpolation not in SUPPORT:
        how = f"{preprocess.interpolation}, antialias {str(preprocess.antialias).lower()}"
        raise OptionError(
            f"export: the resize must be antialiased and one of {', '.join(SUPPORT)}, got {how}",
            hint="All networks of the catalogue resize so; train with one of them.",
        )


def tall_first() -> bool:
    """Whether this Pillow resizes the height before the width where the height shrinks by more than twice as many pixels.

    From 13 on it does (python-pillow/Pillow#9549). The order matters by a few levels, for the first result is rounded.
    """
    return int(version("pillow").partition(".")[0]) >= 13


def photo_nodes(preprocess: Preprocess) -> tuple[list[Any], list[Any]]:
    """Nodes and initialisers from ``PHOTO`` to ``PIXELS``, all other names of which begin with ``photo.``.

    Raises OptionError where ``can_be_exported`` does.
    """
    can_be_exported(preprocess)
    graph = _Graph()
    sides = graph("Shape", [PHOTO])
    height, width = (graph("Gather", [sides, graph.number(axis)]) for axis in (1, 2))
    down = _along(graph, preprocess, height, width, upright=True)
    across = _along(graph, preprocess, width, height, upright=False)
    bounds = [graph("Concat", [down.bounds[i], across.bounds[i]], axis=0) for i in (0, 1)]
    seen = graph("Slice", [PHOTO, *bounds, graph.array(np.array([1, 2]))])
    planes = graph("Cast", [graph("Transpose", [seen], perm=[0, 3, 1, 2])], to=1)
    resized = _resized(graph, planes, down, across, preprocess)
    if preprocess.channels == "bgr":
        resized = graph("Gather", [resized, graph.array(np.array([2, 1, 0]))], axis=1)
    scaled = graph("Mul", [resized, graph.array(np.float32(preprocess.scale))])
    mean, std = (graph.array(np.asarray(three, np.float32).reshape(1, 3, 1, 1)) for three in (preprocess.mean, preprocess.std))
    graph("Div", [graph("Sub", [scaled, mean]), std], name=PIXELS)
    return graph.nodes, graph.arrays


@final
class _Graph:
    """Nodes as they are added; calling it adds one and gives the name of its output."""

    def __init__(self, prefix: str = "photo.") -> None:
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []
        self._prefix = prefix

    def __call__(self, kind: str, inputs: Sequence[str], *, name: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = name or f"{self._prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"{self._prefix}{kind}_{len(self.nodes)}", **attributes))
        return output

    def array(self, values: np.ndarray | np.generic) -> str:
        from onnx import numpy_helper

        name = f"{self._prefix}c{len(self.arrays)}"
        self.arrays.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def number(self, value: int) -> str:
        """An int64 scalar."""
        return self.array(np.int64(value))


@final
class _Along:
    """One side: the names of its matrix, of the slice of the photo that the matrix stands for, and of the sizes."""

    def __init__(self, matrix: str, bounds: tuple[str, str], old: str, new: str) -> None:
        self.matrix = matrix  # float32 (out, stop - start)
        self.bounds = bounds  # int64 (1,) each
        self.old, self.new = old, new  # int64 (): length before, and after the resize


def _along(graph: _Graph, pre: Preprocess, side: str, other: str, *, upright: bool) -> _Along:
    """The matrix of the resize and the crop along one side.

    Sample j of the crop lies, in the source, at (start + j + 1/2) side/full - 1/2, where ``full`` is the length of the
    resized whole and ``start`` where the crop begins in it. The filter sees the distance of source pixel x from there, in
    samples where the picture shrinks: ((2x + 1) full - (2 (start + j) + 1) side) / (2 max(full, side)). All of it but the
    last division is in whole numbers.
    """
    out = pre.height if upright else pre.width
    one, two = graph.number(1), graph.number(2)
    if pre.resize == "squash":
        full, start = graph.number(out), graph.number(0)
    else:
        full = graph("Div", [graph("Mul", [side, graph.number(pre.resize_to)]), graph("Min", [side, other])])
        slack = graph("Sub", [full, graph.number(out)])
        half = graph("Div", [slack, two])  # and the half of an odd number goes to the even side
        start = graph("Add", [half, graph("Mul", [graph("Mod", [slack, two]), graph("Mod", [half, two])])])
    longer = graph("Max", [full, side])
    twice = graph("Mul", [full, two])

    def centre(place: str) -> str:  # of a sample, times 2 full
        return graph("Mul", [graph("Add", [graph("Mul", [place, two]), one]), side])

    reach = graph("Mul", [longer, graph.number(2 * SUPPORT[pre.interpolation])])
    last = graph("Add", [start, graph.number(out - 1)])
    below = graph("Div", [graph("Sub", [graph("Sub", [centre(start), reach]), full]), twice])
    above = graph("Add", [graph("Div", [graph("Add", [centre(last), reach]), twice]), two])
    low, high = graph("Max", [below, graph.number(0)]), graph("Min", [above, side])
    places = graph("Add", [graph.array(np.arange(out, dtype=np.int64)[:, None]), start])
    source = graph("Add", [graph("Mul", [graph("Range", [low, high, one]), two]), one])
    distance = graph("Sub", [graph("Mul", [source, full]), centre(places)])
    unit = graph("Cast", [graph("Mul", [longer, two])], to=1)
    weights = _filter(graph, pre.interpolation, graph("Abs", [graph("Div", [graph("Cast", [distance], to=1), unit])]))
    flat = graph.array(np.array([1]))
    matrix = graph("Div", [weights, graph("ReduceSum", [weights, flat], keepdims=1)])
    return _Along(matrix, (graph("Reshape", [low, flat]), graph("Reshape", [high, flat])), side, full)


def _filter(graph: _Graph, kind: str, a: str) -> str:
    """Pillow's filters of a distance a ≥ 0: bilinear 1 - a; bicubic, Keys's with -1/2; lanczos, sinc(a) sinc(a/3)."""

    def real(value: float) -> str:
        return graph.array(np.float32(value))

    if kind == "bilinear":
        return graph("Relu", [graph("Sub", [real(1), a])])
    zero = real(0)
    if kind == "bicubic":
        near = graph("Sub", [graph("Mul", [a, real(1.5)]), real(2.5)])
        near = graph("Add", [graph("Mul", [graph("Mul", [near, a]), a]), real(1)])
        far = graph("Add", [graph("Mul", [graph("Sub", [a, real(5)]), a]), real(8)])
        far = graph("Mul", [graph("Sub", [graph("Mul", [far, a]), real(4)]), real(-0.5)])
        far = graph("Where", [graph("Less", [a, real(2)]), far, zero])
        return graph("Where", [graph("Less", [a, real(1)]), near, far])
    safe = graph("Max", [a, real(1e-6)])  # sinc(1e-6) is 1
    sincs = [graph("Div", [graph("Sin", [angle]), angle]) for angle in
             (graph("Mul", [safe, real(np.pi)]), graph("Mul", [safe, real(np.pi / 3)]))]  # fmt: skip
    return graph("Where", [graph("Less", [a, real(3)]), graph("Mul", sincs), zero])


def _resized(graph: _Graph, planes: str, down: _Along, across: _Along, pre: Preprocess) -> str:
    """float32 (n, 3, h, w) to whole levels, float32 (n, 3, height, width); which side is first is Pillow's choice."""
    from onnx import TensorProto, helper

    turned = graph("Transpose", [across.matrix], perm=[1, 0])
    limits = [graph.array(np.float32(value)) for value in (0.5, 0, 255)]

    def levels(inner: _Graph, values: str) -> str:
        return inner("Clip", [inner("Floor", [inner("Add", [values, limits[0]])]), *limits[1:]])

    def both(inner: _Graph, *, height_first: bool) -> str:
        if height_first:
            return levels(inner, inner("MatMul", [levels(inner, inner("MatMul", [down.matrix, planes])), turned]))
        return levels(inner, inner("MatMul", [down.matrix, levels(inner, inner("MatMul", [planes, turned]))]))

    if not tall_first():
        return both(graph, height_first=False)
    branches = []
    for first in (True, False):
        inner = _Graph(f"photo.{'tall' if first else 'wide'}.")
        end = both(inner, height_first=first)
        value = helper.make_tensor_value_info(end, TensorProto.FLOAT, ["n", 3, pre.height, pre.width])
        branches.append(helper.make_graph(inner.nodes, f"{'height' if first else 'width'} first", [], [value]))
    return graph("If", [_height_first(graph, down, across, pre)], then_branch=branches[0], else_branch=branches[1])


def _height_first(graph: _Graph, down: _Along, across: _Along, pre: Preprocess) -> str:
    """Pillow's rule, bool (): the height loses more than twice as many pixels as the width."""
    zero, two = graph.number(0), graph.number(2)
    lost = graph("Sub", [down.old, down.new])
    beside = graph("Max", [graph("Sub", [across.old, across.new]), zero])
    found = graph("Greater", [lost, graph("Mul", [beside, two])])
    if pre.resize == "squash":
        return found
    # Where the shape is extreme, Preprocess.fit hands over the crop alone.
    long, short = graph("Max", [down.old, across.old]), graph("Min", [down.old, across.old])
    extreme = graph("Greater", [long, graph("Mul", [short, graph.number(16)])])
    cropped = graph("Sub", [down.old, graph.number(pre.height)])
    narrow = graph("Max", [graph("Sub", [across.old, graph.number(pre.width)]), zero])
    crop = graph("Greater", [cropped, graph("Mul", [narrow, two])])
    plain = graph("And", [graph("Not", [extreme]), found])
    return graph("Or", [graph("And", [extreme, crop]), plain])
