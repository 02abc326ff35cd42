"""Winograd's convolution against PyTorch's direct one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from greffon.training import WinogradConv2d, can_be_winograd, winograd_convolutions
from growing import drawn_network

SIZES = [(side, side) for side in range(1, 18)] + [(1, 9), (5, 2), (13, 4), (3, 17)]


def pair(dtype: torch.dtype, channels: tuple[int, int], *, bias: bool) -> tuple[nn.Conv2d, WinogradConv2d]:
    torch.manual_seed(sum(channels))
    direct = nn.Conv2d(*channels, 3, padding=1, bias=bias).to(dtype)
    return direct, WinogradConv2d(copy.deepcopy(direct))


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("bias", [True, False])
def test_result_and_gradients_are_those_of_the_direct_sum(dtype: torch.dtype, most: float, bias: bool) -> None:
    direct, ours = pair(dtype, (5, 7), bias=bias)
    for height, width in SIZES:
        x = torch.randn(2, 5, height, width, dtype=dtype)
        results = []
        for conv in (direct, ours):
            conv.zero_grad(set_to_none=True)
            taken = x.clone().to(memory_format=torch.channels_last).requires_grad_()
            given = conv(taken)
            (given * torch.cos(torch.arange(given.numel(), dtype=dtype).view_as(given))).sum().backward()
            results.append([given.detach(), taken.grad, *(p.grad for p in conv.parameters())])
        assert len(results[0]) == 3 + bias
        for theirs, mine in zip(*results, strict=True):
            assert theirs is not None
            assert mine is not None
            assert mine.shape == theirs.shape
            assert (mine - theirs).abs().max() <= most * max(1.0, float(theirs.abs().max())), (height, width)


def test_gradcheck() -> None:
    _, conv = pair(torch.float64, (2, 3), bias=True)
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in conv.named_parameters()]

    def run(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(conv, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *(p.detach().clone().requires_grad_() for p in conv.parameters())))


def test_a_relu_in_place_may_stand_behind_it() -> None:
    direct, ours = pair(torch.float64, (3, 4), bias=True)
    x = torch.randn(2, 3, 7, 7, dtype=torch.float64)
    gradients = []
    for conv in (direct, ours):
        taken = x.clone().requires_grad_()
        nn.Sequential(conv, nn.ReLU(inplace=True))(taken).square().sum().backward()
        gradients.append((taken.grad, conv.weight.grad))
    for theirs, mine in zip(*gradients, strict=True):
        assert theirs is not None
        assert mine is not None
        assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-12)


def test_frozen_parameters_and_inputs_get_no_gradient() -> None:
    _, ours = pair(torch.float32, (3, 4), bias=True)
    ours.weight.requires_grad_(False)
    x = torch.randn(1, 3, 6, 6)
    ours(x).sum().backward()
    assert ours.weight.grad is None
    assert ours.bias is not None
    assert ours.bias.grad is not None


@pytest.mark.parametrize("architecture", ["vgg11", "test_resnet"])
def test_a_network_keeps_its_names_and_its_results(architecture: str) -> None:
    network = drawn_network(architecture)
    whole = copy.deepcopy(network.above("all"))
    changed = copy.deepcopy(whole)
    count = winograd_convolutions(changed)
    fitting = sum(
        type(m) is nn.Conv2d and m.kernel_size == (3, 3) and m.stride == (1, 1) and m.groups == 1 for m in whole.modules()
    )
    assert count == fitting > 0
    assert [name for name, _ in changed.named_parameters()] == [name for name, _ in whole.named_parameters()]
    assert list(changed.state_dict()) == list(whole.state_dict())
    changed.load_state_dict(whole.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        theirs, mine = whole(x), changed(x)
    assert (mine - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    assert winograd_convolutions(changed) == 0


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(4, 4, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 3, padding=0),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, (3, 1), padding=(1, 0)),
        nn.Conv2d(4, 4, 5, padding=2),
        nn.Linear(4, 4),
    ],
)
def test_what_it_does_not_compute_is_left_alone(other: nn.Module) -> None:
    assert not can_be_winograd(other)
    assert can_be_winograd(nn.Conv2d(4, 4, 3, padding=1))
