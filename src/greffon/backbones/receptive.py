"""Which pixels a position of a feature map depends on, followed through every operation that a network runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Sight"]


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


class Sight(TorchDispatchMode):
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
