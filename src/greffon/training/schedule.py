"""How the learning rate goes, and which stages are trained when: pure functions of the step and the epoch."""

from __future__ import annotations

import math

__all__ = ["rate_factor", "trained_stages"]


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """The factor of every learning rate in one step of all: linear from 0 to 1, then half a cosine down towards 0.

    Parameters
    ----------
    step, steps
        From 0 to steps - 1.
    warmup
        The share of the steps in which it rises.
    """
    rising = math.floor(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def trained_stages(epoch: int, stages: int, gradual: int) -> int:
    """How many of the topmost stages are trained in an epoch (from 0); the head always is.

    Gradual unfreezing (Howard and Ruder 2018, arXiv:1801.06146, section 3.3), ``gradual`` epochs for each stage.
    """
    return stages if not gradual else min(stages, epoch // gradual)
