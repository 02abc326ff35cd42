"""NT-Xent against a loop that follows the paper, and against lightly's figures for the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from greffon.losses import nt_xent

RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 4))


def by_hand(first: np.ndarray, second: np.ndarray, temperature: float, *, with_itself: bool = False, one_way: bool = False) -> float:
    """Equation 1 and algorithm 1 of arXiv:2002.05709, pair by pair."""
    z = [row / math.sqrt(sum(row**2)) for pair in zip(first, second, strict=True) for row in pair]  # 2k-1 and 2k are a pair
    total, count = 0.0, 0
    for i in range(len(z)):
        j = i + 1 if i % 2 == 0 else i - 1
        if one_way and i % 2:
            continue
        below = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(len(z)) if k != i or with_itself)
        total -= math.log(math.exp(float(z[i] @ z[j]) / temperature) / below)
        count += 1
    return total / count


def t(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_against_the_paper(temperature: float) -> None:
    assert nt_xent(t(FIRST), t(SECOND), temperature).item() == pytest.approx(by_hand(FIRST, SECOND, temperature), rel=1e-10)


@pytest.mark.parametrize(("temperature", "theirs"), [(0.1, 10.747957191945247), (0.5, 3.4561476706344134), (2.0, 2.5846288983640138)])
def test_against_lightly(temperature: float, theirs: float) -> None:
    """``NTXentLoss`` of lightly 1.6.0 on the same numbers; it computes with them in float64."""
    assert nt_xent(t(FIRST), t(SECOND), temperature).item() == pytest.approx(theirs, rel=1e-10)


@pytest.mark.parametrize("wrong", [{"with_itself": True}, {"one_way": True}])
def test_a_disturbed_one_is_noticed(wrong: dict[str, bool]) -> None:
    assert nt_xent(t(FIRST), t(SECOND)).item() != pytest.approx(by_hand(FIRST, SECOND, 0.5, **wrong), rel=1e-3)


def test_its_ends() -> None:
    apart = torch.eye(8, dtype=torch.float64)
    perfect = nt_xent(apart, apart, 0.2).item()
    assert perfect == pytest.approx(math.log(1 + 14 * math.exp(-5)), rel=1e-3), "pairs equal, all others at right angles"
    same = torch.ones(8, 3)
    assert nt_xent(same, same).item() == pytest.approx(math.log(15)), "all alike: one of 15 is guessed"
    assert nt_xent(t(FIRST), t(SECOND)).item() == pytest.approx(nt_xent(t(FIRST) * 7, t(SECOND) * 0.1).item()), "lengths do not count"
    assert nt_xent(t(FIRST), t(SECOND)).item() == pytest.approx(nt_xent(t(SECOND), t(FIRST)).item())


def test_its_gradient_brings_views_together() -> None:
    rows = functional.normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), dim=1).requires_grad_()
    other = (rows.detach() + 0.3 * torch.randn(8, 5, generator=torch.Generator().manual_seed(1))).requires_grad_()
    before = functional.cosine_similarity(rows, other).mean().item()
    nt_xent(rows, other).backward()
    assert rows.grad is not None
    assert other.grad is not None
    moved = functional.cosine_similarity(rows - rows.grad, other - other.grad).mean().item()
    assert moved > before
