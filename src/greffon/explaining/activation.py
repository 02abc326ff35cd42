"""Maps out of the last stage's output: exact class activation maps, Grad-CAM and Grad-CAM++."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from greffon.explaining.network import Network

__all__ = ["class_activation", "grad_cam", "grad_cam_plus"]


def class_activation(network: Network, x: Tensor, targets: Tensor) -> Tensor:
    """Class activation maps (Zhou et al. 2016, arXiv:1512.04150, equation 2), bias included: their mean is the score.

    Exact: a linear head on mean-pooled features gives the mean over all places of what it gives to each place alone. Where
    features are divided by their length, that is the photo's.

    Parameters
    ----------
    x
        float32 (n, 3, height, width), normalised.
    targets
        int64 (n,): the class of each.

    Returns
    -------
    float32 (n, height, width), the places enlarged by bilinear interpolation.
    """
    with torch.no_grad():
        maps = network.class_maps(network.outputs(x))[torch.arange(len(x)), targets]
        large = _enlarged(maps, x)
        # Interpolation keeps the mean where the sides are whole multiples, and nearly elsewhere.
        return large + (maps.mean((1, 2)) - large.mean((1, 2)))[:, None, None]


def grad_cam(network: Network, x: Tensor, targets: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2) on the last stage's output.

    Each channel weighs what the mean of its derivatives is; what speaks against the class is cut off. Parameters and result
    are those of ``class_activation``.
    """
    outputs, slopes = _last_and_slopes(network, x, targets)
    weights = slopes.mean((2, 3), keepdim=True)
    return _enlarged(functional.relu((weights * outputs).sum(1)), x)


def grad_cam_plus(network: Network, x: Tensor, targets: Tensor) -> Tensor:
    """Grad-CAM++ (Chattopadhyay et al. 2018, arXiv:1710.11063, equations 10 and 19) on the last stage's output.

    As ``grad_cam``, but only derivatives above zero count, and they count the more, the fewer places share a channel. The
    paper's class score is the exponential of the score here, which only scales the whole map, and is left out.
    """
    outputs, slopes = _last_and_slopes(network, x, targets)
    square, cube = slopes**2, slopes**3
    below = 2 * square + outputs.sum((2, 3), keepdim=True) * cube
    shares = torch.where(below != 0, square / torch.where(below != 0, below, 1), 0)
    weights = (shares * functional.relu(slopes)).sum((2, 3), keepdim=True)
    return _enlarged(functional.relu((weights * outputs).sum(1)), x)


def _last_and_slopes(network: Network, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The last stage's output, (n, c, h', w'), and the derivatives of the scores by it."""
    with torch.no_grad():
        outputs = network.outputs(x)
    # Only what stands above is run with derivatives: a few milliseconds, however large the network.
    last = outputs[-1].detach().clone().requires_grad_()
    with torch.enable_grad():
        scores = network.scores_of([*outputs[:-1], last])
        slopes = torch.autograd.grad(scores[torch.arange(len(x)), targets].sum(), last)[0]
    return last.detach(), slopes


def _enlarged(maps: Tensor, x: Tensor) -> Tensor:
    """(n, h', w') to (n, height, width)."""
    return functional.interpolate(maps[:, None], size=x.shape[2:], mode="bilinear", align_corners=False)[:, 0]
