"""Accuracy by the size of the images: are small ones named worse?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from greffon.metrics import wilson_interval

__all__ = ["SizeGroup", "accuracy_by_size"]

#: A group has so many images, or there are fewer groups.
_LEAST = 10


@final
@dataclass(frozen=True, slots=True)
class SizeGroup:
    """Images of about the same size: pixels (width times height) of the smallest and the largest, and how many were named rightly.

    ``interval`` is of 95 % (Wilson).
    """

    smallest: int
    largest: int
    count: int
    accuracy: float
    interval: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"interval": list(self.interval)}


def accuracy_by_size(pixels: np.ndarray, right: np.ndarray, groups: int = 4) -> tuple[SizeGroup, ...]:
    """The accuracy in groups of equally many images, from the smallest to the largest.

    Images of the same size stay in one group, so there are fewer groups where sizes repeat, and one where all are the same; and fewer
    where a group would have fewer than ten images.

    Parameters
    ----------
    pixels
        int64 (n,): width times height.
    right
        bool (n,).
    """
    n = len(pixels)
    if not n:
        return ()
    wanted = max(1, min(groups, n // _LEAST))
    # The first size of each group: the quantiles, of which equal ones are one.
    edges = np.unique(np.sort(pixels)[[n * i // wanted for i in range(wanted)]])
    which = np.searchsorted(edges, pixels, side="right") - 1
    found = []
    for group in range(len(edges)):
        here = which == group
        count, ok = int(here.sum()), int(right[here].sum())
        found.append(SizeGroup(int(pixels[here].min()), int(pixels[here].max()), count, ok / count, wilson_interval(ok, count)))
    return tuple(found)
