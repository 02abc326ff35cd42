"""VICReg and Barlow Twins against loops that follow the papers, and against lightly's figures for the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from greffon.losses import barlow_twins, vicreg

RNG = np.random.default_rng(1)
FIRST = RNG.normal(size=(7, 4)) * np.array([0.4, 1.0, 2.0, 0.1])
SECOND = FIRST + 0.3 * RNG.normal(size=(7, 4))


def t(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values)


def barlow_by_hand(a: np.ndarray, b: np.ndarray, off: float, *, diagonal: float = 1.0, correction: int = 0) -> float:
    """Equations 1 and 2 of arXiv:2103.03230, element by element; the epsilon of BatchNorm."""
    n, d = a.shape
    means, deviations = [], []
    for x in (a, b):
        means.append([sum(x[:, i]) / n for i in range(d)])
        deviations.append([math.sqrt(sum((x[k, i] - means[-1][i]) ** 2 for k in range(n)) / (n - correction) + 1e-5) for i in range(d)])
    total = 0.0
    for i in range(d):
        for j in range(d):
            c = sum((a[k, i] - means[0][i]) / deviations[0][i] * (b[k, j] - means[1][j]) / deviations[1][j] for k in range(n)) / n
            total += (diagonal - c) ** 2 if i == j else off * c**2
    return total


def vicreg_by_hand(a: np.ndarray, b: np.ndarray, weights: tuple[float, float, float], *, target: float = 1.0, below: int = 1) -> float:
    """Equations 1 to 6 of arXiv:2105.04906, element by element, scaled as the authors' code has it."""
    n, d = a.shape
    alike = sum((a[k, i] - b[k, i]) ** 2 for k in range(n) for i in range(d)) / (n * d)
    spread = covariance = 0.0
    for x in (a, b):
        mean = [sum(x[:, i]) / n for i in range(d)]
        for i in range(d):
            variance = sum((x[k, i] - mean[i]) ** 2 for k in range(n)) / (n - below)
            spread += max(0.0, target - math.sqrt(variance + 1e-4)) / d / 2
            for j in range(d):
                if i != j:
                    c = sum((x[k, i] - mean[i]) * (x[k, j] - mean[j]) for k in range(n)) / (n - below)
                    covariance += c**2 / d
    return weights[0] * alike + weights[1] * spread + weights[2] * covariance


@pytest.mark.parametrize("off", [0.005, 0.3])
def test_barlow_twins_against_the_paper(off: float) -> None:
    assert barlow_twins(t(FIRST), t(SECOND), off).item() == pytest.approx(barlow_by_hand(FIRST, SECOND, off), rel=1e-10)


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_vicreg_against_the_paper(weights: tuple[float, float, float]) -> None:
    ours = vicreg(t(FIRST), t(SECOND), invariance=weights[0], variance=weights[1], covariance=weights[2]).item()
    assert ours == pytest.approx(vicreg_by_hand(FIRST, SECOND, weights), rel=1e-10)


def test_against_lightly() -> None:
    """``BarlowTwinsLoss`` and ``VICRegLoss`` of lightly 1.6.0 on the same numbers."""
    assert barlow_twins(t(FIRST), t(SECOND), 0.005).item() == pytest.approx(0.1181021684266385, rel=1e-10)
    for weights, theirs in (((25.0, 25.0, 1.0), 10.941332979089768), ((1.0, 0.0, 0.0), 0.07001756704257987),
                            ((0.0, 1.0, 0.0), 0.3592096096027062), ((0.0, 0.0, 1.0), 0.21065356295761628)):  # fmt: skip
        ours = vicreg(t(FIRST), t(SECOND), invariance=weights[0], variance=weights[1], covariance=weights[2]).item()
        assert ours == pytest.approx(theirs, rel=1e-10)


@pytest.mark.parametrize("wrong", [{"diagonal": 0.0}, {"correction": 1}])
def test_a_disturbed_barlow_is_noticed(wrong: dict[str, float]) -> None:
    disturbed = barlow_by_hand(FIRST, SECOND, 0.005, **wrong)  # type: ignore[arg-type]
    assert barlow_twins(t(FIRST), t(SECOND)).item() != pytest.approx(disturbed, rel=1e-3)


@pytest.mark.parametrize("wrong", [{"target": 2.0}, {"below": 0}])
def test_a_disturbed_vicreg_is_noticed(wrong: dict[str, float]) -> None:
    disturbed = vicreg_by_hand(FIRST, SECOND, (25.0, 25.0, 1.0), **wrong)  # type: ignore[arg-type]
    assert vicreg(t(FIRST), t(SECOND)).item() != pytest.approx(disturbed, rel=1e-3)


def test_their_ends() -> None:
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert barlow_twins(corners, corners).item() == pytest.approx(0, abs=1e-8)
    assert vicreg(corners, corners).item() == pytest.approx(0, abs=1e-8), "deviations above 1, nothing shared, views the same"
    flat = torch.ones(5, 3)
    assert barlow_twins(flat, flat).item() == pytest.approx(3), "nothing moves, nothing is correlated"
    assert vicreg(flat, flat).item() == pytest.approx(25 * 0.99), "collapse costs the whole variance term, but for the epsilon"
    twice = corners[:, :1].repeat(1, 2)
    assert barlow_twins(twice, twice, 0.5).item() == pytest.approx(1, rel=1e-3), "two features say the same: λ (1 + 1)"
    assert barlow_twins(corners * 9, corners * 0.5).item() == pytest.approx(0, abs=1e-6), "scales do not count"


@pytest.mark.parametrize("loss", [barlow_twins, vicreg])
def test_gradients_are_numbers_where_nothing_moves(loss: object) -> None:
    x = torch.ones(4, 3, requires_grad=True)
    loss(x, x * 1.0).backward()  # type: ignore[operator]
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
