"""A learning-rate finder: how the loss goes while the rate rises from step to step."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch.nn import functional

from greffon.activations import steady_kernels
from greffon.errors import OptionError
from greffon.losses import classification_loss
from greffon.progress import Progress
from greffon.training.fabric import make_fabric
from greffon.training.groups import keep_statistics, make_optimizer, parameter_groups
from greffon.training.grown import Grown
from greffon.training.recipe import Recipe
from greffon.training.source import Source
from greffon.training.values import Samples, class_weights
from greffon.training.winograd import winograd_convolutions

__all__ = ["RateCurve", "find_rate"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class RateCurve:
    """The range test.

    Parameters
    ----------
    rates
        float64 (k,): learning rates of the topmost stage, rising.
    losses
        float64 (k,): the loss at each, smoothed.
    suggestion
        The rate to train with.
    """

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"rates": self.rates.tolist(), "losses": self.losses.tolist(), "suggestion": self.suggestion}


def find_rate(
    grown: Grown,
    source: Source,
    train: Samples,
    recipe: Recipe,
    *,
    progress: Progress,
    least: float = 1e-7,
    most: float = 1.0,
    steps: int = 60,
) -> RateCurve:
    """The learning-rate range test (Smith 2017, arXiv:1506.01186, section 3.3), on a copy: ``grown`` stays as it is.

    The rate rises by one factor in every step; the loss is smoothed as an exponential average without bias (0.9), and
    the test ends where it is four times its least. Suggested is a tenth of the rate at which it is least, or the
    rate of its steepest descent where that is lower: the edge of divergence is a bad place to train. All stages have
    gradients, and the rates of stages and head keep the proportions that the recipe gives them.

    Raises OptionError where the loss is no number from the start.
    """
    copied = copy.deepcopy(grown).to(memory_format=torch.channels_last).requires_grad_(True)
    if recipe.winograd:
        winograd_convolutions(copied.span)
    groups = parameter_groups(copied, recipe)
    fabric = make_fabric(recipe.precision)
    module, optimizer = fabric.setup(copied, make_optimizer(groups, recipe))
    module.train()
    keep_statistics(copied, 0)
    classes = copied.head.out_features
    weights = class_weights(train.labels, classes).to(fabric.device) if recipe.balanced else None
    rng = np.random.default_rng([recipe.seed, 2**31])
    rates, losses, average = [], [], 0.0
    progress.begin("Finding the learning rate", steps)
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), steady_kernels(recipe.precision):
            torch.manual_seed(recipe.seed)
            for step in range(steps):
                rate = least * (most / least) ** (step / (steps - 1))
                some = rng.choice(len(train), min(recipe.batch, len(train)), replace=False)
                x = source.batch(train.positions[some], rng.integers(0, source.views, len(some))).to(fabric.device)
                targets = functional.one_hot(torch.from_numpy(train.labels[some]), classes).float().to(fabric.device)
                for told, group in zip(optimizer.param_groups, groups, strict=True):
                    told["lr"] = rate * group.learning_rate / max(recipe.learning_rate, 1e-30)
                optimizer.zero_grad(set_to_none=True)
                loss = classification_loss(module(x), targets, class_weights=weights, label_smoothing=recipe.label_smoothing)
                if not math.isfinite(loss.item()):
                    break
                average = 0.9 * average + 0.1 * loss.item()
                rates.append(rate)
                losses.append(average / (1 - 0.9 ** (step + 1)))
                if losses[-1] > 4 * min(losses):
                    break
                fabric.backward(loss)
                if recipe.clip:
                    fabric.clip_gradients(module, optimizer, max_norm=recipe.clip, error_if_nonfinite=False)
                optimizer.step()
                progress.advance()
    finally:
        progress.end()
    return RateCurve(np.array(rates), np.array(losses), _suggestion(np.array(rates), np.array(losses)))


def _suggestion(rates: np.ndarray, losses: np.ndarray) -> float:
    if not len(losses):
        raise OptionError("the learning-rate range test: the loss is no number at the first step",
                          hint="Choose other weights, another cut (--unfreeze), or --keep float32.")  # fmt: skip
    lowest = int(np.argmin(losses))
    if lowest < 2:  # it never fell
        return float(rates[0])
    steepest = int(np.argmin(np.gradient(losses[: lowest + 1], np.log(rates[: lowest + 1]))))
    return float(max(rates[0], min(rates[lowest] / 10, rates[steepest])))
