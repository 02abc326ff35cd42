"""Which parameters have which learning rate and which decay, and which of them are trained in an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from greffon.training.grown import Grown
from greffon.training.recipe import Recipe

__all__ = ["Group", "keep_statistics", "make_optimizer", "parameter_groups", "train_top"]

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Parameters that are treated alike. ``stage`` counts from the cut upwards; the head is above the last one."""

    stage: int
    learning_rate: float
    weight_decay: float
    parameters: tuple[nn.Parameter, ...]


def parameter_groups(grown: Grown, recipe: Recipe) -> list[Group]:
    """From the cut upwards; weights and, without decay, biases and the parameters of normalisation apart."""
    stages: list[nn.Module] = [*grown.span.stages, grown.head]
    groups = []
    for number, stage in enumerate(stages):
        if number == len(stages) - 1:
            rate = recipe.head_learning_rate
        else:
            rate = recipe.learning_rate * recipe.stage_decay ** (len(stages) - 2 - number)
        of_norms = {id(p) for module in stage.modules() if isinstance(module, _NORMS) for p in module.parameters()}
        plain = tuple(p for p in stage.parameters() if p.ndim <= 1 or id(p) in of_norms)
        decayed = tuple(p for p in stage.parameters() if p.ndim > 1 and id(p) not in of_norms)
        groups += [Group(number, rate, decay, some) for decay, some in ((recipe.weight_decay, decayed), (0.0, plain)) if some]
    return groups


def make_optimizer(groups: list[Group], recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of a recipe, with a parameter group for each of ``groups``, in their order."""
    told = [{"params": list(g.parameters), "lr": g.learning_rate, "weight_decay": g.weight_decay} for g in groups]
    if recipe.optimizer == "sgd":
        nesterov = recipe.momentum > 0
        return torch.optim.SGD(told, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=nesterov)
    return torch.optim.AdamW(told, lr=recipe.learning_rate, fused=True)


def train_top(grown: Grown, stages: int) -> None:
    """Only the head and so many of the topmost stages have gradients."""
    count = len(grown.span.stages)
    for number, stage in enumerate(grown.span.stages):
        stage.requires_grad_(number >= count - stages)
    grown.head.requires_grad_(True)


def keep_statistics(grown: Grown, stages: int) -> None:
    """BatchNorm below the topmost ``stages`` normalises with the statistics that it came with, also in training."""
    count = len(grown.span.stages)
    for number, stage in enumerate(grown.span.stages):
        for module in stage.modules() if number < count - stages else ():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
