"""Backbones side by side: how often each is right on the same images, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from greffon.errors import OptionError
from greffon.metrics import paired_difference, wilson_interval

__all__ = ["BackboneFigures", "Contender", "Cost", "pareto_front", "side_by_side"]


@final
@dataclass(frozen=True, slots=True)
class Cost:
    """What the frozen part of a backbone costs.

    Parameters
    ----------
    seconds_per_1000
        Of the frozen pass over 1,000 images, from their files to pooled features: the median of some blocks of images.
    seconds_range
        The quickest and the slowest block, in the same unit: how steady the machine was.
    precision, engine
        What it was measured with: the precision, and the engine's fingerprint.
    parameters
        Trained numbers in the stages, without the ImageNet classifier.
    model_bytes
        Of a model's tensors as float32 safetensors: the stages, and a linear head for these classes on one feature a
        channel of the last stage. The head may read more, and the file has a header; both are small beside the stages.
    multiply_adds
        Of the stages, for one image.
    """

    seconds_per_1000: float
    seconds_range: tuple[float, float]
    precision: str
    engine: str
    parameters: int
    model_bytes: int
    multiply_adds: int


@final
@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """A backbone that was measured: whether it was right on each image out of fold, bool (n,), and its cost.

    ``chosen`` says in words which features the folds have chosen.
    """

    name: str
    right: np.ndarray
    cost: Cost
    chosen: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class BackboneFigures:
    """A row of the comparison. Intervals are of 95 %.

    Parameters
    ----------
    accuracy, interval, n
        The share of the n images that were named rightly out of fold, with Wilson's interval.
    to_best, to_best_interval
        Its accuracy minus that of the best, on the same images (``metrics.paired_difference``).
    on_front
        Whether no other is as quick and as accurate, or better in one of the two and no worse in the other.
    cost, chosen
        See ``Contender``.
    """

    name: str
    accuracy: float
    interval: tuple[float, float]
    n: int
    to_best: float
    to_best_interval: tuple[float, float]
    on_front: bool
    cost: Cost
    chosen: tuple[str, ...]

    @property
    def is_as_good(self) -> bool:
        """Whether it is as good as the best within noise: the interval of the difference reaches 0."""
        return self.to_best_interval[1] >= 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with the cost among them."""
        values = asdict(self)
        cost = values.pop("cost")
        return {**values, **cost, "as_good_as_best": self.is_as_good}


def side_by_side(contenders: Sequence[Contender]) -> tuple[BackboneFigures, ...]:
    """The rows of the comparison, the most accurate first; of equals, the quickest.

    Raises
    ------
    OptionError
        No contender, or contenders that were measured on different numbers of images.
    """
    sizes = {len(one.right) for one in contenders}
    if len(sizes) != 1:
        raise OptionError(f"side_by_side: needs contenders that were measured on the same images, got {sorted(sizes) or 'none'}")
    n = sizes.pop()
    ranked = sorted(contenders, key=lambda one: (-int(one.right.sum()), one.cost.seconds_per_1000))
    best = ranked[0]
    front = pareto_front([one.cost.seconds_per_1000 for one in ranked], [float(one.right.mean()) for one in ranked])
    rows = []
    for one, outside in zip(ranked, front, strict=True):
        # Against itself there is no noise.
        to_best, interval = paired_difference(one.right, best.right) if one is not best else (0.0, (0.0, 0.0))
        right = int(one.right.sum())
        rows.append(
            BackboneFigures(one.name, right / n, wilson_interval(right, n), n, to_best, interval, outside, one.cost, one.chosen)
        )
    return tuple(rows)


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Whether each is on the front: no other costs as little or less and gains as much or more, one of them strictly."""
    points = list(zip(costs, gains, strict=True))
    return [
        not any(c <= cost and g >= gain and (c < cost or g > gain) for c, g in points)
        for cost, gain in points
    ]
