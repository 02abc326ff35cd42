"""Mixup and CutMix against loops that draw the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from greffon.training.mixing import mixed


def drawn(n: int = 5, height: int = 6, width: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, 2, height, width, generator=generator), torch.softmax(torch.randn(n, 3, generator=generator), 1)


@pytest.mark.parametrize("seed", range(5))
def test_mixup_is_the_weighted_mean_of_two(seed: int) -> None:
    x, targets = drawn()
    before = x.clone()
    found, told = mixed(x, targets, "mixup", 0.4, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    share, partner = rng.beta(0.4, 0.4), rng.permutation(5)
    for i in range(5):
        assert torch.allclose(found[i], share * x[i] + (1 - share) * x[partner[i]], atol=1e-6)
        assert torch.allclose(told[i], share * targets[i] + (1 - share) * targets[partner[i]], atol=1e-6)
    assert torch.equal(x, before)


@pytest.mark.parametrize("seed", range(12))
def test_cutmix_counts_the_pixels_that_it_replaced(seed: int) -> None:
    x, targets = drawn()
    before = x.clone()
    found, told = mixed(x, targets, "cutmix", 1.0, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    share, partner = rng.beta(1.0, 1.0), rng.permutation(5)
    assert torch.equal(x, before)
    taken = np.zeros((6, 9), bool)
    side = np.sqrt(1 - share)
    middle_y, middle_x = rng.integers(0, 6), rng.integers(0, 9)
    for row in range(6):
        for column in range(9):
            top, left = middle_y - round(6 * side) // 2, middle_x - round(9 * side) // 2
            taken[row, column] = top <= row < top + round(6 * side) and left <= column < left + round(9 * side)
    for i in range(5):
        for row in range(6):
            for column in range(9):
                source = x[partner[i]] if taken[row, column] else x[i]
                assert torch.equal(found[i, :, row, column], source[:, row, column])
        left_over = 1 - taken.sum() / 54
        assert torch.allclose(told[i], left_over * targets[i] + (1 - left_over) * targets[partner[i]], atol=1e-6)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_targets_sum_to_one_and_shares_are_those_of_the_beta_distribution(kind: str) -> None:
    rng = np.random.default_rng(0)
    x = torch.stack([torch.zeros(1, 40, 40), torch.ones(1, 40, 40)])
    targets = torch.eye(2)
    shares = []
    while len(shares) < 2000:
        found, told = mixed(x, targets, kind, 0.5, rng)
        assert told.sum(1).tolist() == pytest.approx([1, 1], abs=1e-6)
        # Activations and targets are mixed alike.
        assert float(found[0].mean()) == pytest.approx(float(told[0, 1]), abs=1e-5)
        if float(found[0].mean()) != 0 or float(found[1].mean()) != 1:
            shares.append(float(told[0, 0]))
    if kind == "mixup":  # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1))
        assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
        assert np.var(shares) == pytest.approx(1 / 8, abs=0.02)


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="mosaic"):
        mixed(*drawn(), "mosaic", 1.0, np.random.default_rng(0))
