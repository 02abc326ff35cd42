"""Maps out of what the network makes of changed pictures: occlusion, and integrated gradients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from greffon.explaining.network import Network

__all__ = ["integrated_gradients", "occlusion"]

#: Occlusion: the patch is this part of each side, and stands in so many places along each.
_PART, _PLACES = 4, 7

#: Integrated gradients: steps along the way at first and at most, and how much of the difference of the scores may be missing.
_FIRST, _MOST, _MISSING = 16, 128, 0.02


def occlusion(network: Network, x: Tensor, targets: Tensor) -> Tensor:
    """Occlusion (Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2): how much score is lost where a patch covers the picture.

    A patch of a quarter of each side, of the colour that normalisation makes zero, stands in 7 × 7 places in turn. A pixel's
    value is the mean over all patches that cover it. For every head: nothing but scores is asked for.

    Parameters and result are those of ``class_activation``.
    """
    found = []
    rows, columns = _spans(x.shape[2]), _spans(x.shape[3])
    for picture, target in zip(x, targets.tolist(), strict=True):
        looks = [picture]
        for top, bottom in rows:
            for left, right in columns:
                look = picture.clone()
                look[:, top:bottom, left:right] = 0
                looks.append(look)
        scores = network.scores_without_slopes(torch.stack(looks))[:, target]
        lost, count = torch.zeros_like(picture[0]), torch.zeros_like(picture[0])
        places = [(row, column) for row in rows for column in columns]
        for ((top, bottom), (left, right)), one in zip(places, scores[0] - scores[1:], strict=True):
            lost[top:bottom, left:right] += one
            count[top:bottom, left:right] += 1
        found.append(lost / count)
    return torch.stack(found)


def _spans(side: int) -> list[tuple[int, int]]:
    """First and last pixel of the patches along a side; every pixel is in one of them."""
    length = max(1, -(-side // _PART))
    starts = np.unique(np.linspace(0, side - length, min(_PLACES, side - length + 1)).round().astype(int))
    return [(int(start), int(start) + length) for start in starts]


def integrated_gradients(network: Network, x: Tensor, targets: Tensor) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365, equation 1), summed over the channels.

    From a picture of nothing but the colour that normalisation makes zero, in a straight line to the photo, by the trapezoidal
    rule. The number of steps is doubled, from 16 to 128 at most, until the map adds up to the difference of the two scores,
    to within 2 % of it.

    Parameters and result are those of ``class_activation``.
    """
    return torch.stack([_integrated(network, picture, target) for picture, target in zip(x, targets.tolist(), strict=True)])


def _integrated(network: Network, picture: Tensor, target: int) -> Tensor:
    begin, end = network.scores_without_slopes(torch.stack([torch.zeros_like(picture), picture]))[:, target].tolist()
    steps = _FIRST
    # Ends count half. Doubling the steps keeps all points, so only those between them are computed.
    total = _slopes_at(network, picture, target, [0.0, 1.0]) / 2
    total = total + _slopes_at(network, picture, target, [i / steps for i in range(1, steps)])
    while True:
        found = (picture * total / steps).sum(0)
        if steps >= _MOST or abs(float(found.sum()) - (end - begin)) <= _MISSING * abs(end - begin):
            return found
        steps *= 2
        total = total + _slopes_at(network, picture, target, [i / steps for i in range(1, steps, 2)])


def _slopes_at(network: Network, picture: Tensor, target: int, shares: list[float]) -> Tensor:
    """The sum of the derivatives at points of the way, (3, height, width)."""
    points = picture[None] * torch.tensor(shares, device=picture.device)[:, None, None, None]
    return network.slopes(points, target).sum(0)
