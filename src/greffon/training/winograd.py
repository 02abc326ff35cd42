"""3 × 3 convolutions of stride 1 in fewer multiplications, forwards and backwards.

Winograd's minimal filtering F(4 × 4, 3 × 3) after Lavin and Gray (2016), arXiv:1509.09308, section 4.3: tiles of 6 × 6
pixels and filters are transformed by small matrices, multiplied element by element (36 matrix products over the
channels), and transformed back: 36 multiplications in place of 144. The gradients are those of the same chain of
linear maps. In float32 the result differs from the direct sum by some 1e-5 of its largest value.

oneDNN has no such kernels for training on processors; the products here are PyTorch's batched ones.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

__all__ = ["WinogradConv2d", "can_be_winograd", "winograd_convolutions"]

_TILE = 4  # pixels of the output that one tile gives, along each side
_SIDE = 6  # pixels of the input that it reads
_LEAST = 256  # channels below which the transforms eat up what the products save

#: The transforms of the paper's section 4.3, with interpolation points 0, 1, -1, 2, -2 and infinity.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_FILTER = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def _both_ways(rows: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    """The transform along height and width at once: the Kronecker square of a matrix."""
    one = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(one, one).to(like)


@final
class _Convolution(torch.autograd.Function):
    """(n, c, h, w) channels last, (k, c, 3, 3), (k,) to (n, k, h, w), padded by one pixel of zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        n, c, h, w = x.shape
        down, across = -(-h // _TILE), -(-w // _TILE)
        padded = x.new_zeros(n, down * _TILE + 2, across * _TILE + 2, c)
        padded[:, 1 : h + 1, 1 : w + 1] = x.permute(0, 2, 3, 1)
        tiles = x.new_empty(_SIDE, _SIDE, n, down, across, c)
        for i in range(_SIDE):
            for j in range(_SIDE):
                tiles[i, j] = _places(padded, i, j, down, across)
        inputs = (_both_ways(_INPUT, x) @ tiles.view(_SIDE**2, -1)).view(_SIDE**2, -1, c)
        del tiles
        filters = (_both_ways(_FILTER, x) @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(_SIDE**2, c, -1)
        products = torch.bmm(inputs, filters)
        tiles = (_both_ways(_OUTPUT, x) @ products.view(_SIDE**2, -1)).view(_TILE, _TILE, n, down, across, -1)
        pixels = tiles.permute(2, 3, 0, 4, 1, 5).reshape(n, down * _TILE, across * _TILE, -1)[:, :h, :w]
        # Not a view of what was made here: the module above may write into it.
        image = torch.empty((n, pixels.shape[3], h, w), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        if bias is None:
            image.permute(0, 2, 3, 1).copy_(pixels)
        else:
            torch.add(pixels, bias, out=image.permute(0, 2, 3, 1))
        ctx.save_for_backward(inputs, filters)
        ctx.sizes = (n, c, h, w, down, across)
        ctx.with_bias = bias is not None
        return image

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        gradient = gradients[0].permute(0, 2, 3, 1)
        inputs, filters = ctx.saved_tensors
        n, c, h, w, down, across = ctx.sizes
        padded = gradient.new_zeros(n, down * _TILE, across * _TILE, gradient.shape[3])
        padded[:, :h, :w] = gradient
        tiles = padded.view(n, down, _TILE, across, _TILE, -1).permute(2, 4, 0, 1, 3, 5).reshape(_TILE**2, -1)
        products = (_both_ways(_OUTPUT, gradient).t() @ tiles).view(_SIDE**2, n * down * across, -1)
        for_x = for_weight = for_bias = None
        if ctx.needs_input_grad[1]:
            change = torch.bmm(inputs.transpose(1, 2), products)
            for_weight = (_both_ways(_FILTER, gradient).t() @ change.view(_SIDE**2, -1)).view(3, 3, c, -1).permute(3, 2, 0, 1)
        if ctx.with_bias and ctx.needs_input_grad[2]:
            for_bias = gradient.sum((0, 1, 2))
        if ctx.needs_input_grad[0]:
            change = torch.bmm(products, filters.transpose(1, 2))
            tiles = (_both_ways(_INPUT, gradient).t() @ change.view(_SIDE**2, -1)).view(_SIDE, _SIDE, n, down, across, c)
            image = gradient.new_zeros(n, down * _TILE + 2, across * _TILE + 2, c)
            for i in range(_SIDE):
                for j in range(_SIDE):
                    _places(image, i, j, down, across).add_(tiles[i, j])
            for_x = image[:, 1 : h + 1, 1 : w + 1].permute(0, 3, 1, 2)
        return for_x, for_weight, for_bias


def _places(image: Tensor, i: int, j: int, down: int, across: int) -> Tensor:
    """The pixel (i, j) of every tile of (n, h, w, c): a view (n, down, across, c)."""
    return image[:, i : i + _TILE * (down - 1) + 1 : _TILE, j : j + _TILE * (across - 1) + 1 : _TILE]


@final
class WinogradConv2d(nn.Module):
    """Stands in for an ``nn.Conv2d``, whose parameters it shares under the same names."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, k, h, w), float32."""
        return _Convolution.apply(x, self.weight, self.bias)


def can_be_winograd(module: nn.Module) -> bool:
    """Whether a module is a convolution that ``WinogradConv2d`` computes: 3 × 3, stride 1, padding 1, in one group."""
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (3, 3)
        and module.stride == (1, 1)
        and module.padding in ((1, 1), 1)
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
    )


def winograd_convolutions(network: nn.Module, least: int = _LEAST) -> int:
    """Put ``WinogradConv2d`` in the place of the convolutions that can be one; returns how many there were.

    ``least`` channels on both sides are asked for: the transforms take 36 / out + 16 / in of the work of the products, and
    the transformed input, which is kept for the gradient, 2.25 times the memory of the plain one.
    """
    count = 0
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d) and can_be_winograd(module) and min(module.in_channels, module.out_channels) >= least:
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, WinogradConv2d(module))
            count += 1
    return count
