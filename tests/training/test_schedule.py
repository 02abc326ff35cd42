"""The learning rate against a loop, and gradual unfreezing case by case."""

from __future__ import annotations

import math

import pytest

from greffon.training.schedule import rate_factor, trained_stages


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (10, 0.0), (20, 0.1), (20, 0.5), (7, 0.3), (10, 1.0)])
def test_it_rises_in_a_line_and_falls_as_half_a_cosine(steps: int, warmup: float) -> None:
    rising = int(warmup * steps)
    wanted = []
    for step in range(steps):
        if step < rising:
            wanted.append((step + 1) / (rising + 1))
        else:
            wanted.append((math.cos(math.pi * (step - rising) / (steps - rising)) + 1) / 2)
    found = [rate_factor(step, steps, warmup) for step in range(steps)]
    assert found == pytest.approx(wanted, abs=1e-12)
    assert all(0 < factor <= 1 for factor in found)
    assert rising == steps or max(found) == found[rising] == 1


def test_without_warmup_it_is_torchs_cosine() -> None:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    for step in range(12):
        assert rate_factor(step, 12, 0.0) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_stages_join_from_above() -> None:
    assert [trained_stages(epoch, 3, 0) for epoch in range(3)] == [3, 3, 3]
    assert [trained_stages(epoch, 3, 1) for epoch in range(6)] == [0, 1, 2, 3, 3, 3]
    assert [trained_stages(epoch, 2, 2) for epoch in range(7)] == [0, 0, 1, 1, 2, 2, 2]
