"""Which parameters are trained, at what rate, with what decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from greffon.training import Recipe
from greffon.training.groups import keep_statistics, make_optimizer, parameter_groups, train_top
from growing import ARCHITECTURES, drawn_network, grown

NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_is_in_one_group_with_the_rate_of_its_stage(architecture: str) -> None:
    network = drawn_network(architecture)
    cut = network.stages[1]
    module = grown(network, cut)
    recipe = Recipe(learning_rate=0.08, head_learning_rate=0.5, stage_decay=0.5, weight_decay=0.03)
    groups = parameter_groups(module, recipe)
    found = [p for group in groups for p in group.parameters]
    assert len(found) == len({id(p) for p in found})
    assert {id(p) for p in found} == {id(p) for p in module.parameters()}
    of = {id(p): group for group in groups for p in group.parameters}
    count = len(network.stages) - 1
    for number, stage in enumerate(module.span.stages):
        for path, part in stage.named_modules():
            for name, parameter in part.named_parameters(recurse=False):
                group = of[id(parameter)]
                assert group.stage == number
                assert group.learning_rate == pytest.approx(0.08 / 2 ** (count - 1 - number))
                bare = isinstance(part, NORMS) or name == "bias" or parameter.ndim <= 1
                assert group.weight_decay == (0.0 if bare else 0.03), (path, name)
    assert {of[id(p)].learning_rate for p in module.head.parameters()} == {0.5}
    assert of[id(module.head.weight)].weight_decay == 0.03
    assert of[id(module.head.bias)].weight_decay == 0.0


def test_the_optimisers_are_torchs_with_these_groups() -> None:
    module = grown(drawn_network(), "layer4")
    groups = parameter_groups(module, Recipe())
    adam = make_optimizer(groups, Recipe())
    assert isinstance(adam, torch.optim.AdamW)
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in adam.param_groups] == [
        (g.learning_rate, g.weight_decay, len(g.parameters)) for g in groups
    ]
    sgd = make_optimizer(groups, Recipe(optimizer="sgd", momentum=0.8))
    assert isinstance(sgd, torch.optim.SGD)
    assert all(g["momentum"] == 0.8 and g["nesterov"] for g in sgd.param_groups)
    assert not make_optimizer(groups, Recipe(optimizer="sgd", momentum=0.0)).param_groups[0]["nesterov"]


def test_only_the_topmost_have_gradients_and_moving_statistics() -> None:
    module = grown(drawn_network(), "layer2")
    for stages in range(4):
        train_top(module, stages)
        module.train()
        keep_statistics(module, stages)
        for number, stage in enumerate(module.span.stages):
            upper = number >= 3 - stages
            assert {p.requires_grad for p in stage.parameters()} == {upper}
            assert {m.training for m in stage.modules() if isinstance(m, nn.BatchNorm2d)} == {upper}
        assert module.head.weight.requires_grad
