"""The way from a photo to what a network sees, as an ONNX graph: resize, crop, channel order, normalisation.

Pillow's resize is two matrix products, one along each side, with a rounding to whole levels after each. So it is written
here as that, and not as ONNX's ``Resize``: the sizes and the places of the samples are whole numbers up to the last
division, the same for every height and width as in ``Preprocess.fit``; weights are rounded to 22 bits and summed as whole
numbers, as Pillow does it, so that the same levels come out; and every engine has a MatMul.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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

#: ONNX's numbers for two types, and in how many parts the first side is resized.
_FLOAT, _DOUBLE = 1, 11
_PARTS = 4


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
    graph = _Graph("photo.", [])
    sides = graph("Shape", [PHOTO])
    height, width = (graph("Gather", [sides, graph.number(axis)]) for axis in (1, 2))
    down = _side(graph, preprocess, height, width, preprocess.height)
    across = _side(graph, preprocess, width, height, preprocess.width)
    if preprocess.resize == "squash":
        resized = _in_order(graph, down, across, boxed=False)
    else:
        # Where the shape is extreme, Preprocess.fit hands the crop alone to Pillow, as a box.
        long, short = graph("Max", [down.old, across.old]), graph("Min", [down.old, across.old])
        extreme = graph("Greater", [long, graph("Mul", [short, graph.number(16)])])
        ways = (partial(_in_order, down=down, across=across, boxed=boxed) for boxed in (True, False))
        resized = _either(graph, extreme, "box", *ways, size=(down.out, across.out))
    if preprocess.channels == "bgr":
        resized = graph("Gather", [resized, graph.array(np.array([2, 1, 0]))], axis=1)
    scaled = graph("Mul", [resized, graph.array(np.float32(preprocess.scale))])
    mean, std = (graph.array(np.asarray(three, np.float32).reshape(1, 3, 1, 1)) for three in (preprocess.mean, preprocess.std))
    graph("Div", [graph("Sub", [scaled, mean]), std], name=PIXELS)
    return graph.nodes, graph.arrays


@final
class _Graph:
    """Nodes as they are added; calling it adds one and gives the name of its output. Initialisers may be shared."""

    def __init__(self, prefix: str, arrays: list[Any]) -> None:
        self.nodes: list[Any] = []
        self.arrays = arrays
        self._prefix = prefix

    def __call__(self, kind: str, inputs: Sequence[str], *, name: str = "", outputs: int = 1, **attributes: Any) -> str:
        """The name of the output; of the first, where there are several: the others have ``.1``, ``.2``, … behind it."""
        from onnx import helper

        first = name or f"{self._prefix}{len(self.nodes)}"
        names = [first, *(f"{first}.{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"{self._prefix}{kind}_{len(self.nodes)}", **attributes))
        return first

    def array(self, values: np.ndarray | np.generic) -> str:
        from onnx import numpy_helper

        name = f"photo.c{len(self.arrays)}"
        self.arrays.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def number(self, value: int) -> str:
        """An int64 scalar."""
        return self.array(np.int64(value))

    def real(self, value: float) -> str:
        """A float64 scalar."""
        return self.array(np.float64(value))

    def below(self, name: str) -> _Graph:
        """A branch of this graph; it may use all names of this one."""
        return _Graph(f"{self._prefix}{name}.", self.arrays)


def _either(
    graph: _Graph, condition: str, name: str, then: Callable[[_Graph], str], otherwise: Callable[[_Graph], str], size: tuple[int, int]
) -> str:
    """One of two ways to float32 (n, 3, *size), by a bool ()."""
    from onnx import TensorProto, helper

    branches = []
    for label, steps in ((name, then), (f"no-{name}", otherwise)):
        inner = graph.below(label)
        value = helper.make_tensor_value_info(steps(inner), TensorProto.FLOAT, ["n", 3, *size])
        branches.append(helper.make_graph(inner.nodes, label, [], [value]))
    return graph("If", [condition], then_branch=branches[0], else_branch=branches[1])


def _in_order(graph: _Graph, down: _Side, across: _Side, *, boxed: bool) -> str:
    """Resized along the side that Pillow takes first, and then along the other one."""
    if not tall_first():
        return _resized(graph, down, across, height_first=False, boxed=boxed)
    height, width = (graph.number(down.out), graph.number(across.out)) if boxed else (down.full, across.full)
    beside = graph("Max", [graph("Sub", [across.old, width]), graph.number(0)])
    tall = graph("Greater", [graph("Sub", [down.old, height]), graph("Mul", [beside, graph.number(2)])])
    ways = (partial(_resized, down=down, across=across, height_first=first, boxed=boxed) for first in (True, False))
    return _either(graph, tall, "tall", *ways, size=(down.out, across.out))


@final
@dataclass(frozen=True, slots=True)
class _Side:
    """One side of the photo: its length, that of the resized whole, where in it the crop begins; int64 (), by their names."""

    old: str
    full: str
    start: str
    longer: str  # of old and full
    out: int  # of the crop
    filter: str


def _side(graph: _Graph, pre: Preprocess, side: str, other: str, out: int) -> _Side:
    if pre.resize == "squash":
        full, start = graph.number(out), graph.number(0)
    else:
        two = graph.number(2)
        full = graph("Div", [graph("Mul", [side, graph.number(pre.resize_to)]), graph("Min", [side, other])])
        slack = graph("Sub", [full, graph.number(out)])
        half = graph("Div", [slack, two])  # and the half of an odd number goes to the even side
        start = graph("Add", [half, graph("Mul", [graph("Mod", [slack, two]), graph("Mod", [half, two])])])
    return _Side(side, full, start, graph("Max", [full, side]), out, pre.interpolation)


def _window(graph: _Graph, side: _Side, first: int, last: int, *, boxed: bool) -> tuple[str, str, str]:
    """For the samples from ``first`` to before ``last``: their matrix, and from where to where in the photo it reaches.

    Sample j of the crop lies, in the source, at (start + j + 1/2) old/full - 1/2. The filter sees the distance of source
    pixel x from there, in samples where the picture shrinks: ((2x + 1) full - (2 (start + j) + 1) old) / (2 max(full, old)).

    The matrix, float32 (2 (last - first), reach), has Pillow's weights, whole numbers of 22 bits, in two halves, so that a
    sum of products with levels is exact: the multiples of 2048 above, and below them what is left.
    """
    one, two = graph.number(1), graph.number(2)
    twice = graph("Mul", [side.full, two])

    def centre(place: str) -> str:  # of a sample, times 2 full
        return graph("Mul", [graph("Add", [graph("Mul", [place, two]), one]), side.old])

    reach = graph("Mul", [side.longer, graph.number(2 * SUPPORT[side.filter])])
    ends = [graph("Add", [side.start, graph.number(place)]) for place in (first, last - 1)]
    below = graph("Div", [graph("Sub", [graph("Sub", [centre(ends[0]), reach]), side.full]), twice])
    above = graph("Add", [graph("Div", [graph("Add", [centre(ends[1]), reach]), twice]), two])
    low, high = graph("Max", [below, graph.number(0)]), graph("Min", [above, side.old])
    source = graph("Range", [low, high, one])
    if boxed:
        distance = _distance_in_box(graph, side, source, first, last)
    else:
        places = graph("Add", [graph.array(np.arange(first, last, dtype=np.int64)[:, None]), side.start])
        seen = graph("Mul", [graph("Add", [graph("Mul", [source, two]), one]), side.full])
        unit = graph("Cast", [graph("Mul", [side.longer, two])], to=_DOUBLE)
        distance = graph("Div", [graph("Cast", [graph("Sub", [seen, centre(places)])], to=_DOUBLE), unit])
    weights = _filter(graph, side.filter, graph("Abs", [distance]))
    flat = graph.array(np.array([1]))
    shares = graph("Div", [weights, graph("ReduceSum", [weights, flat], keepdims=1)])
    whole = graph("Floor", [graph("Add", [graph("Mul", [shares, graph.real(2**22)]), graph.real(0.5)])])
    half = graph.real(2048)
    upper = graph("Floor", [graph("Div", [whole, half])])
    lower = graph("Sub", [whole, graph("Mul", [upper, half])])
    matrix = graph("Cast", [graph("Concat", [upper, lower], axis=0)], to=_FLOAT)
    return matrix, graph("Reshape", [low, flat]), graph("Reshape", [high, flat])


def _distance_in_box(graph: _Graph, side: _Side, source: str, first: int, last: int) -> str:
    """The same where the crop is a box to Pillow, which holds the box in float32; the steps are ``Preprocess.fit``'s and Pillow's."""
    old, full, start = (graph("Cast", [name], to=_DOUBLE) for name in (side.old, side.full, side.start))
    step = graph("Div", [old, full])
    stop = graph("Min", [graph("Mul", [graph("Add", [start, graph.real(side.out)]), step]), old])
    begin, end = (graph("Cast", [name], to=_FLOAT) for name in (graph("Mul", [start, step]), stop))
    scale = graph("Div", [graph("Cast", [graph("Sub", [end, begin])], to=_DOUBLE), graph.real(side.out)])
    places = graph.array(np.arange(first, last, dtype=np.float64)[:, None] + 0.5)
    centres = graph("Add", [graph("Cast", [begin], to=_DOUBLE), graph("Mul", [places, scale])])
    seen = graph("Add", [graph("Sub", [graph("Cast", [source], to=_DOUBLE), centres]), graph.real(0.5)])
    return graph("Div", [seen, graph("Max", [scale, graph.real(1)])])


def _filter(graph: _Graph, kind: str, a: str) -> str:
    """Pillow's filters of a distance a ≥ 0: bilinear 1 - a; bicubic, Keys's with -1/2; lanczos, sinc(a) sinc(a/3)."""

    real = graph.real
    zero = real(0)
    if kind == "bilinear":
        return graph("Max", [graph("Sub", [real(1), a]), zero])
    if kind == "bicubic":
        near = graph("Sub", [graph("Mul", [a, real(1.5)]), real(2.5)])
        near = graph("Add", [graph("Mul", [graph("Mul", [near, a]), a]), real(1)])
        far = graph("Add", [graph("Mul", [graph("Sub", [a, real(5)]), a]), real(8)])
        far = graph("Mul", [graph("Sub", [graph("Mul", [far, a]), real(4)]), real(-0.5)])
        far = graph("Where", [graph("Less", [a, real(2)]), far, zero])
        return graph("Where", [graph("Less", [a, real(1)]), near, far])
    safe = graph("Max", [a, real(1e-9)])  # sinc(1e-9) is 1
    sincs = [graph("Div", [graph("Sin", [angle]), angle]) for angle in
             (graph("Mul", [safe, real(np.pi)]), graph("Mul", [safe, real(np.pi / 3)]))]  # fmt: skip
    return graph("Where", [graph("Less", [a, real(3)]), graph("Mul", sincs), zero])


def _resized(graph: _Graph, down: _Side, across: _Side, *, height_first: bool, boxed: bool) -> str:
    """The resized crop in whole levels, float32 (n, 3, height, width).

    The first side is done in parts, each from the strip of the photo that it needs: a matrix for all of it would be zero
    nearly everywhere, and a large photo takes as many steps as its pixels have samples.
    """
    first, second = (down, across) if height_first else (across, down)
    axis = 2 if height_first else 3
    matrix, low, high = _window(graph, second, 0, second.out, boxed=boxed)
    parts = []
    for part in range(_PARTS):
        ends = (part * first.out // _PARTS, (part + 1) * first.out // _PARTS)
        if ends[0] < ends[1]:
            weights, start, stop = _window(graph, first, *ends, boxed=boxed)
            bounds = [[start, stop], [low, high]] if height_first else [[low, high], [start, stop]]
            starts, stops = (graph("Concat", [one[i] for one in bounds], axis=0) for i in (0, 1))
            strip = graph("Slice", [PHOTO, starts, stops, graph.array(np.array([1, 2]))])
            planes = graph("Cast", [graph("Transpose", [strip], perm=[0, 3, 1, 2])], to=_FLOAT)
            parts.append(_levels(graph, weights, planes, axis))
    return _levels(graph, matrix, graph("Concat", parts, axis=axis), 5 - axis)


def _levels(graph: _Graph, matrix: str, planes: str, axis: int) -> str:
    """Samples along one axis of float32 (n, 3, h, w), rounded to whole levels as Pillow does it: (sum + 2²¹) / 2²², downwards."""
    sums = graph("MatMul", [matrix, planes] if axis == 2 else [planes, graph("Transpose", [matrix], perm=[1, 0])])
    upper = graph("Split", [sums], outputs=2, axis=axis, num_outputs=2)
    half, limits = graph.array(np.float32(2048)), [graph.array(np.float32(level)) for level in (0, 255)]
    carried = graph("Floor", [graph("Add", [graph("Div", [f"{upper}.1", half]), graph.array(np.float32(1024))])])
    return graph("Clip", [graph("Floor", [graph("Div", [graph("Add", [upper, carried]), half])]), *limits])
