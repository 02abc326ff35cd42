"""Two models on the same images: which is better, and is that more than chance?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from greffon.metrics import mcnemar, paired_difference

__all__ = ["PairedFigures", "compare_predictions"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class PairedFigures:
    """What two models say of the same n images.

    Parameters
    ----------
    first, second
        Their accuracies.
    difference, interval
        The first's minus the second's, and its interval of 95 % (see ``metrics.paired_difference``).
    p_value
        Of McNemar's exact test.
    both, only_first, only_second, neither
        How many images are named rightly by whom.
    apart
        int64 (k,): the images that they name differently, in order.
    """

    n: int
    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    both: int
    only_first: int
    only_second: int
    neither: int
    apart: np.ndarray

    @property
    def verdict(self) -> str:
        """In words, at the level of 5 %."""
        if self.p_value >= 0.05:
            return "no difference beyond chance"
        return "the first is better" if self.difference > 0 else "the second is better"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, but for the images."""
        return {
            "n": self.n,
            "accuracy": self.first,
            "accuracy_against": self.second,
            "difference": self.difference,
            "difference_interval": list(self.interval),
            "mcnemar_p": self.p_value,
            "verdict": self.verdict,
            "both_right": self.both,
            "only_first_right": self.only_first,
            "only_second_right": self.only_second,
            "neither_right": self.neither,
        }


def compare_predictions(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> PairedFigures:
    """Compare the classes that two models give to the same images.

    Parameters
    ----------
    truth, first, second
        int64 (n,), of the same classes; n at least 1.
    """
    mine, theirs = first == truth, second == truth
    difference, interval = paired_difference(mine, theirs)
    return PairedFigures(
        n=len(truth),
        first=float(mine.mean()),
        second=float(theirs.mean()),
        difference=difference,
        interval=interval,
        p_value=mcnemar(mine, theirs),
        both=int((mine & theirs).sum()),
        only_first=int((mine & ~theirs).sum()),
        only_second=int((~mine & theirs).sum()),
        neither=int((~mine & ~theirs).sum()),
        apart=np.flatnonzero(first != second),
    )
