"""Before fine-tuning starts: what it will cost, and what to do where the disk is too small for it."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch

from greffon.activations import Engine
from greffon.backbones import Backbone, stage_shapes
from greffon.backbones.describe import describe_plan
from greffon.errors import OptionError
from greffon.training import Grown, Recipe

__all__ = ["Costs", "Layout", "estimate", "estimate_for_minutes", "record_shape", "time_pass", "time_training", "within_budget"]

_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """What is kept of a run.

    Parameters
    ----------
    cut
        The first stage that is trained.
    views
        Of each training image.
    keep
        What the records are kept in.
    recompute
        Nothing is kept: the frozen part runs for every batch of every epoch.
    """

    cut: str
    views: int
    keep: str
    recompute: bool = False

    def __post_init__(self) -> None:
        right = type(self.cut) is str and type(self.views) is int and self.views >= 1 and type(self.recompute) is bool
        if not right or self.keep not in _BYTES:
            raise OptionError(f"Layout: a stage, a number of views and one of {', '.join(_BYTES)} are expected, got {self}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


@final
@dataclass(frozen=True, slots=True)
class Costs:
    """What a layout costs.

    Parameters
    ----------
    training, others
        Images that are trained on, and others that are only looked at once in an epoch (val) or at the end (test).
    record_bytes
        Of one view of one image at the cut.
    disk_bytes
        Of all records together; 0 where nothing is kept.
    pass_seconds
        Of the frozen pass, where nothing is known yet.
    epoch_seconds
        Of one epoch, validation included.
    memory_bytes
        Of the training: weights, gradients, what the optimiser keeps, and the activations of one batch. An estimate.
    """

    training: int
    others: int
    record_bytes: int
    disk_bytes: int
    pass_seconds: float
    epoch_seconds: float
    memory_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


def record_shape(network: Backbone, cut: str) -> tuple[int, ...]:
    """Of one record at a cut: (c, h, w), or (h, w, 3) where it is the image."""
    position = network.position(cut)
    if position == 0:
        return network.preprocess.height, network.preprocess.width, 3
    return stage_shapes(network.plan)[position - 1][1]


def estimate(network: Backbone, layout: Layout, training: int, others: int, val: int, below: float, above: float, recipe: Recipe) -> Costs:
    """The costs of a layout, from the speeds of the machine.

    Parameters
    ----------
    training, others, val
        Images to train on; all others; those of them that are validated on.
    below, above
        Multiply-adds a second: of the frozen part, and of training (counted as three times those of a forward pass).
    """
    adds = _multiply_adds(network)
    position = network.position(layout.cut)
    frozen, trained = sum(adds[:position]) / below, 3 * sum(adds[position:]) / above
    size = 1 if position == 0 else _BYTES[layout.keep]
    record = int(np.prod(record_shape(network, layout.cut))) * size
    records = training * layout.views + others
    epoch = training * trained + val * trained / 3
    if layout.recompute:
        epoch += (training + val) * frozen
    return Costs(
        training=training,
        others=others,
        record_bytes=record,
        disk_bytes=0 if layout.recompute else records * record,
        pass_seconds=training * frozen if layout.recompute else records * frozen,
        epoch_seconds=epoch,
        memory_bytes=_memory(network, layout.cut, recipe),
    )


def within_budget(
    network: Backbone,
    wanted: Layout,
    budget: int,
    training: int,
    others: int,
    val: int,
    below: float,
    above: float,
    recipe: Recipe,
    *,
    least_views: int = 2,
) -> tuple[Layout, str]:
    """The wanted layout, or the cheapest other one whose records are no more than ``budget`` bytes; and why, in words.

    Weighed are fewer views (two at least, if there were two), the next higher cut that fits (as long as a stage is
    trained), and keeping nothing. The one that takes the fewest seconds with all its epochs wins.

    Raises
    ------
    OptionError
        The budget is smaller than one batch of activations.
    """

    @functools.cache  # each layout is weighed several times, and the network is run on the meta device for it
    def costs(layout: Layout) -> Costs:
        return estimate(network, layout, training, others, val, below, above, recipe)

    first = costs(wanted)
    if budget <= 0 or first.disk_bytes <= budget:
        return wanted, ""
    batch = first.record_bytes * min(recipe.batch, training)
    if budget < batch:
        raise OptionError(
            f"--cache-budget must hold one batch of activations at {wanted.cut}, which is {_size(batch)}, got {_size(budget)}",
            hint="Give a larger budget, a smaller --batch, or a higher cut (--unfreeze).",
        )
    found: list[tuple[Layout, str]] = []
    views = (budget // first.record_bytes - others) // training if training else 0
    if views >= min(least_views, wanted.views):
        found.append((replace(wanted, views=int(views)), f"{views} views instead of {wanted.views}"))
    for cut in network.stages[network.position(wanted.cut) + 1 :]:
        if costs(replace(wanted, cut=cut)).disk_bytes <= budget:
            found.append((replace(wanted, cut=cut), f"the cut below {cut} instead of {wanted.cut}"))
            break
    found.append((replace(wanted, recompute=True), "the frozen part runs again in every epoch, and nothing is kept"))

    def seconds(one: tuple[Layout, str]) -> float:
        cost = costs(one[0])
        return cost.pass_seconds + recipe.epochs * cost.epoch_seconds

    best = min(found, key=seconds)
    others_told = ", ".join(f"{words} (some {seconds((layout, words)):,.0f} s)" for layout, words in found if layout != best[0])
    why = f"{_size(first.disk_bytes)} of activations are more than the budget of {_size(budget)}: {best[1]} (some {seconds(best):,.0f} s)"
    return best[0], why + (f"; weighed against {others_told}" if others_told else "")


def estimate_for_minutes(
    network: Backbone, engine: Engine, cut: str, training: int, others: int, views: int, epochs: int, seconds: float
) -> tuple[tuple[int, int] | None, str]:
    """Views and epochs that fit into a time, and a word where they are fewer than wanted; None where nothing does.

    Speeds are those of one batch of the engine. Training is taken to do as many multiply-adds a second as the
    frozen part does in float32; the estimate is there to choose by, and what is measured is told by the plan.

    Parameters
    ----------
    engine
        Of the whole network, whose speed is measured.
    seconds
        What is left; infinite: any number.
    """
    if math.isinf(seconds):
        return (views, epochs), ""
    pre = network.preprocess
    speed = time_pass(engine, network, np.zeros((pre.height, pre.width, 3), np.uint8))
    slow = speed / 4 if engine.precision == "int8" else speed
    adds = _multiply_adds(network)
    position = network.position(cut)
    record = sum(adds[:position]) / speed
    epoch = 3 * training * sum(adds[position:]) / slow
    for some in range(views, 0, -1):
        left = seconds - (training * some + others) * record
        fit = int(min(epochs, left // max(epoch, 1e-9)))
        # Half the epochs with all the views teach more than all of them with one.
        if fit >= min(epochs, 3 if some > 1 else 1):
            if (some, fit) == (views, epochs):
                return (views, epochs), ""
            return (some, fit), f"{some} views and {fit} epochs fit into the time, instead of {views} and {epochs}"
    return None, f"fine-tuning from {cut} does not fit into the time that is left ({max(0.0, seconds):.0f} s)"


def time_pass(engine: Engine, network: Backbone, image: np.ndarray) -> float:
    """Multiply-adds a second of the frozen part, on one batch of an image, uint8 (h, w, 3), after one to warm up."""
    position = network.position(engine.tap.cut) if engine.tap.kind == "map" else len(network.stages)
    adds = sum(_multiply_adds(network)[:position])
    if not adds:
        return 1e12  # no network runs
    batch = np.repeat(image[None], engine.batch, 0)
    return adds * engine.batch / _seconds(lambda: engine.run(batch))


def time_training(grown: Grown, network: Backbone, cut: str, recipe: Recipe, images: int = 0) -> float:
    """Multiply-adds a second of training, on one step of a copy, after one to warm up. Nothing is learned by it.

    ``images``: of the step; by default the recipe's batch, up to 32. Few would not do: Winograd's convolutions transform
    their weights once a step.
    """
    import copy

    from greffon.training import winograd_convolutions

    device = "cuda" if torch.cuda.is_available() else "cpu"
    trial = copy.deepcopy(grown).to(device).to(memory_format=torch.channels_last).requires_grad_(True)
    if recipe.winograd:
        winograd_convolutions(trial.span)
    images = images or min(recipe.batch, 32)
    shape = record_shape(network, cut)
    c, h, w = shape if network.position(cut) else (3, *shape[:2])
    x = torch.ones(images, c, h, w, device=device).contiguous(memory_format=torch.channels_last)
    trial.eval()  # BatchNorm of one repeated image has nothing to learn

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            loss = trial(x).float().square().mean()
        loss.backward()
        loss.item()  # a graphics processor is waited for

    adds = 3 * sum(_multiply_adds(network)[network.position(cut) :])
    return adds * images / _seconds(step)


def _seconds(run: Any) -> float:
    run()
    began = time.perf_counter()
    run()
    return max(1e-9, time.perf_counter() - began)


def _multiply_adds(network: Backbone) -> Sequence[int]:
    return [row.multiply_adds for row in describe_plan(network.plan).stages]


def _memory(network: Backbone, cut: str, recipe: Recipe) -> int:
    """Weights, gradients, the optimiser's moments and the best state; and each layer's output, kept for the gradient."""
    position = network.position(cut)
    told = describe_plan(network.plan).stages[position:]
    weights = 4 * sum(row.parameters for row in told)
    copies = 2 + (2 if recipe.optimizer == "adamw" else 1) + 1 + bool(recipe.l2_sp) + bool(recipe.ema)
    outputs = 4 * sum(len(row.layers) * int(np.prod(row.shape)) for row in told)
    factor = 6 if recipe.winograd else 3  # tiles of 36 where 16 pixels are, once kept and once in hand
    return weights * copies + recipe.batch * outputs * factor


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
