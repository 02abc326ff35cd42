"""What a method of adaptation above the cut is, and the schedule that most of them share."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Protocol

from greffon.training import Objective

__all__ = ["Method", "ramp"]


class Method(Protocol):
    """A method: a frozen dataclass of its numbers, which travel with the model as JSON."""

    #: Its fields are read by ``dataclasses.asdict``.
    __dataclass_fields__: ClassVar[dict[str, Any]]
    #: Of the topmost stage, in AdamW: where a person wishes nothing else. See ``suggested_rates``.
    learning_rate: ClassVar[float]

    def objective(self) -> Objective:
        """What the loop makes small."""
        ...


def ramp(done: float) -> float:
    """``2 / (1 + exp(-10 p)) - 1``, from 0 at the beginning of training towards 1: noisy features are not adapted to.

    Ganin et al. 2016 (DANN), arXiv:1505.07818, section 5; taken over by JAN and CDAN.

    Parameters
    ----------
    done
        p, from 0 to 1.
    """
    return 2 / (1 + math.exp(-10 * done)) - 1
