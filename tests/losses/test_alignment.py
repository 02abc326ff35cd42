"""Distances of two sets of features: against loops that follow the papers, NumPy's covariance and scikit-learn's kernels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from torch import Tensor

from greffon.losses import coral, gaussian_kernels, joint_mmd, median_bandwidth, mmd, stepwise_norm

RNG = np.random.default_rng(0)
SOURCE, TARGET = RNG.normal(size=(7, 5)), RNG.normal(size=(9, 5)) * 1.5 + 0.4
ANSWERS = (RNG.dirichlet(np.ones(3), 7), RNG.dirichlet(np.ones(3), 9))
GAMMAS = (2.0, 5.0, 11.0)


def t(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values)


# --- CORAL ------------------------------------------------------------------------------------------------------------


def coral_by_hand(source: np.ndarray, target: np.ndarray, *, below: int = 1, four: float = 4) -> float:
    """Equations 1 to 3 of arXiv:1607.01719: D'D - (1'D)'(1'D) / n, over n - 1; element by element."""
    d = source.shape[1]
    total = 0.0
    for i in range(d):
        for j in range(d):
            c = []
            for x in (source, target):
                n = len(x)
                products = sum(x[k, i] * x[k, j] for k in range(n))
                c.append((products - sum(x[:, i]) * sum(x[:, j]) / n) / (n - below))
            total += (c[0] - c[1]) ** 2
    return total / (four * d * d)


def test_coral_against_the_paper_and_numpy() -> None:
    ours = coral(t(SOURCE), t(TARGET)).item()
    assert ours == pytest.approx(coral_by_hand(SOURCE, TARGET), rel=1e-10)
    difference = np.cov(SOURCE, rowvar=False) - np.cov(TARGET, rowvar=False)
    assert ours == pytest.approx(np.linalg.norm(difference, "fro") ** 2 / (4 * 5**2), rel=1e-10)
    assert coral(t(SOURCE), t(SOURCE + 3)).item() == pytest.approx(0, abs=1e-12), "means do not count"
    assert coral(t(SOURCE[:1]), t(TARGET)).isfinite()


@pytest.mark.parametrize("wrong", [{"below": 0}, {"four": 1}])
def test_a_disturbed_coral_is_noticed(wrong: dict[str, float]) -> None:
    assert coral(t(SOURCE), t(TARGET)).item() != pytest.approx(coral_by_hand(SOURCE, TARGET, **wrong), rel=1e-3)  # type: ignore[arg-type]


# --- MMD --------------------------------------------------------------------------------------------------------------


def kernel_by_hand(x: np.ndarray, y: np.ndarray, gammas: tuple[float, ...], power: float = 2) -> float:
    distance = math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))
    return sum(math.exp(-(distance**power) / gamma) for gamma in gammas) / len(gammas)


def joint_by_hand(
    source: list[np.ndarray], target: list[np.ndarray], gammas: list[tuple[float, ...]], cross: float = 2, power: float = 2
) -> float:
    """Means over all pairs of the product of the layers' kernels."""

    def mean(one: list[np.ndarray], other: list[np.ndarray]) -> float:
        values = []
        for i in range(len(one[0])):
            for j in range(len(other[0])):
                product = 1.0
                for x, y, some in zip(one, other, gammas, strict=True):
                    product *= kernel_by_hand(x[i], y[j], some, power)
                values.append(product)
        return sum(values) / len(values)

    return mean(source, source) + mean(target, target) - cross * mean(source, target)


def test_the_kernels_are_gaussian_as_scikit_learns() -> None:
    """The trap: a kernel that is called Gaussian and is another one, under a test that the loss went down."""
    ours = gaussian_kernels(t(SOURCE), t(TARGET), GAMMAS).numpy()
    theirs = np.mean([rbf_kernel(SOURCE, TARGET, gamma=1 / gamma) for gamma in GAMMAS], axis=0)
    assert ours == pytest.approx(theirs, rel=1e-10)
    assert ours[2, 3] == pytest.approx(kernel_by_hand(SOURCE[2], TARGET[3], GAMMAS), rel=1e-10)
    assert ours[2, 3] != pytest.approx(kernel_by_hand(SOURCE[2], TARGET[3], GAMMAS, power=1), rel=1e-2), "Laplace's"
    far = gaussian_kernels(t(SOURCE).float() + 1000, t(TARGET).float() + 1000, GAMMAS)
    assert far.numpy() == pytest.approx(theirs, abs=1e-3), "a large common part must not eat up the digits"


def test_mmd_against_a_loop_and_scikit_learn() -> None:
    ours = mmd(t(SOURCE), t(TARGET), GAMMAS).item()
    assert ours == pytest.approx(joint_by_hand([SOURCE], [TARGET], [GAMMAS]), rel=1e-9)
    theirs = 0.0
    for gamma in GAMMAS:
        ss, tt, st = (rbf_kernel(a, b, gamma=1 / gamma).mean() for a, b in ((SOURCE, SOURCE), (TARGET, TARGET), (SOURCE, TARGET)))
        theirs += (ss + tt - 2 * st) / len(GAMMAS)
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert mmd(t(SOURCE), t(SOURCE), GAMMAS).item() == pytest.approx(0, abs=1e-12)


def test_joint_mmd_against_a_loop_and_products_of_kernels() -> None:
    layers = ([t(SOURCE), t(ANSWERS[0])], [t(TARGET), t(ANSWERS[1])])
    ours = joint_mmd(*layers, [GAMMAS, (1.68,)]).item()
    assert ours == pytest.approx(joint_by_hand([SOURCE, ANSWERS[0]], [TARGET, ANSWERS[1]], [GAMMAS, (1.68,)]), rel=1e-9)

    def product(a: int, b: int) -> float:
        xs, ps = (SOURCE, TARGET), ANSWERS
        first = np.mean([rbf_kernel(xs[a], xs[b], gamma=1 / gamma) for gamma in GAMMAS], axis=0)
        return float((first * rbf_kernel(ps[a], ps[b], gamma=1 / 1.68)).mean())

    assert ours == pytest.approx(product(0, 0) + product(1, 1) - 2 * product(0, 1), rel=1e-9)
    # It is not the sum of the layers' own discrepancies, and sees what neither of them sees: the same features and the same
    # answers, put together otherwise.
    turned = [t(SOURCE), t(np.roll(ANSWERS[0], 1, axis=0))]
    assert mmd(layers[0][1], turned[1], [1.68]).item() == pytest.approx(0, abs=1e-12)
    assert joint_mmd(layers[0], turned, [GAMMAS, (1.68,)]).item() > 1e-3


@pytest.mark.parametrize("wrong", [{"cross": 1.0}, {"power": 1.0}, {"power": 4.0}])
def test_a_disturbed_mmd_is_noticed(wrong: dict[str, float]) -> None:
    layers = ([SOURCE, ANSWERS[0]], [TARGET, ANSWERS[1]], [GAMMAS, (1.68,)])
    ours = joint_mmd([t(x) for x in layers[0]], [t(x) for x in layers[1]], layers[2]).item()
    assert ours != pytest.approx(joint_by_hand(*layers, **wrong), rel=1e-2)


def test_the_bandwidth_is_the_median_of_the_squared_distances() -> None:
    both = np.concatenate([SOURCE, TARGET])
    squared = euclidean_distances(both, squared=True)[np.triu_indices(16, 1)]
    assert len(squared) % 2 == 0
    ours = median_bandwidth(t(SOURCE).requires_grad_(), t(TARGET))
    assert ours.item() == pytest.approx(np.sort(squared)[len(squared) // 2 - 1], rel=1e-10), "torch's median is the lower one"
    assert not ours.requires_grad
    same = torch.ones(3, 2)
    assert median_bandwidth(same, same).item() > 0


# --- feature norms ----------------------------------------------------------------------------------------------------


def test_the_stepwise_norm_has_the_gradient_of_the_paper() -> None:
    features = t(SOURCE).clone().requires_grad_()
    loss = stepwise_norm(features, 0.7)
    assert loss.item() == pytest.approx(0.49, rel=1e-10)
    (found,) = torch.autograd.grad(loss, features)
    # d/df of (r + step - |f|)^2 / n, with r = |f| taken as given: -2 step f / (|f| n).
    for row, x in zip(found.numpy(), SOURCE, strict=True):
        norm = math.sqrt(sum(x**2))
        assert row == pytest.approx(-2 * 0.7 * x / norm / len(SOURCE), rel=1e-9)


NUMBERS: dict[str, Callable[[Tensor], Tensor]] = {
    "coral": lambda x: coral(x, t(TARGET)),
    "mmd": lambda x: mmd(x, t(TARGET), GAMMAS),
    "joint": lambda x: joint_mmd([x, torch.softmax(x[:, :3], 1)], [t(TARGET), t(ANSWERS[1])], [GAMMAS, (1.68,)]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_gradients_are_those_of_differences(name: str) -> None:
    assert torch.autograd.gradcheck(NUMBERS[name], (t(SOURCE).clone().requires_grad_(),))
