"""Entropies, information, confusion, pseudo labels and density: against loops, SciPy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import normalize

from greffon.losses import class_confusion, entropies, information_maximisation, neighbourhood_density, pseudo_labels

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(9, 4)) * 2
P = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)


def t(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values)


def test_entropies_are_scipys() -> None:
    assert entropies(t(LOGITS)).numpy() == pytest.approx(entropy(P, axis=1), rel=1e-10)


def test_information_against_scipy_and_its_ends() -> None:
    ours = information_maximisation(t(LOGITS)).item()
    assert ours == pytest.approx(np.mean(entropy(P, axis=1)) - entropy(P.mean(0)), rel=1e-9)
    sure = torch.eye(4, dtype=torch.float64).repeat(3, 1) * 1000
    assert information_maximisation(sure).item() == pytest.approx(-math.log(4))
    # Of sure answers it is minus the mutual information of image and class.
    assert information_maximisation(sure).item() == pytest.approx(-mutual_info_score(np.arange(12), np.tile(np.arange(4), 3)))
    assert information_maximisation(torch.zeros(5, 4)).item() == pytest.approx(0, abs=1e-6)
    one_class = torch.tensor([[1000.0, 0, 0]]).repeat(5, 1).requires_grad_()
    information_maximisation(one_class).backward()
    assert one_class.grad is not None
    assert one_class.grad.isfinite().all()


def confusion_by_hand(logits: np.ndarray, temperature: float, *, weighted: bool = True, by_row: bool = True) -> float:
    """Section 3 of arXiv:1912.03699, sum by sum."""
    n, c = logits.shape
    p = [[math.exp(z / temperature) / sum(math.exp(one / temperature) for one in row) for z in row] for row in logits]
    h = [-sum(one * math.log(one) for one in row) for row in p]
    w = [n * (1 + math.exp(-h[i])) / sum(1 + math.exp(-one) for one in h) if weighted else 1.0 for i in range(n)]
    matrix = [[sum(p[i][j] * w[i] * p[i][k] for i in range(n)) for k in range(c)] for j in range(c)]
    total = 0.0
    for j in range(c):
        whole = sum(matrix[j]) if by_row else sum(sum(row) for row in matrix) / c
        total += sum(abs(matrix[j][k]) / whole for k in range(c) if k != j)
    return total / c


def test_class_confusion_against_the_paper() -> None:
    ours = class_confusion(t(LOGITS), 2.5).item()
    assert ours == pytest.approx(confusion_by_hand(LOGITS, 2.5), rel=1e-9)
    assert class_confusion(torch.eye(4).repeat(2, 1) * 1000).item() == pytest.approx(0, abs=1e-6)
    assert class_confusion(torch.zeros(6, 4)).item() == pytest.approx(3 / 4)


def test_the_weights_of_the_confusion_have_no_gradient() -> None:
    logits = t(LOGITS).clone().requires_grad_()
    (found,) = torch.autograd.grad(class_confusion(logits, 2.5), logits)
    h = entropy(np.exp(LOGITS / 2.5) / np.exp(LOGITS / 2.5).sum(1, keepdims=True), axis=1)
    weights = t((1 + np.exp(-h)) / np.mean(1 + np.exp(-h)))

    def with_fixed(z: torch.Tensor) -> torch.Tensor:
        p = torch.softmax(z / 2.5, 1)
        matrix = torch.einsum("nj,n,nk->jk", p, weights, p)
        return 1 - (matrix.diagonal() / matrix.sum(1)).mean()

    (wanted,) = torch.autograd.grad(with_fixed(logits), logits)
    assert torch.allclose(found, wanted, rtol=1e-9)


@pytest.mark.parametrize("wrong", [{"weighted": False}, {"by_row": False}, {"temperature": 1.0}])
def test_a_disturbed_confusion_is_noticed(wrong: dict[str, bool]) -> None:
    disturbed = confusion_by_hand(LOGITS, **{"temperature": 2.5, **wrong})
    assert class_confusion(t(LOGITS), 2.5).item() != pytest.approx(disturbed, rel=1e-4)


def shot_by_hand(features: np.ndarray, logits: np.ndarray, rounds: int = 1) -> np.ndarray:
    """As the authors' code has it, with SciPy's cosine distance."""
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rows = np.asarray(normalize(np.concatenate([features, np.ones((len(features), 1))], 1)))
    used = np.flatnonzero(np.eye(logits.shape[1])[logits.argmax(1)].sum(0) > 0)
    shares = p
    labels = np.zeros(0, np.int64)
    for _ in range(rounds + 1):
        centres = (shares.T @ rows) / (1e-8 + shares.sum(0)[:, None])
        labels = used[cdist(rows, centres[used], "cosine").argmin(1)]
        shares = np.eye(logits.shape[1])[labels]
    return labels


@pytest.mark.parametrize("size", [1.0, 0.1])  # short ones are told apart by the 1 that lengthens them
@pytest.mark.parametrize("seed", range(5))
def test_pseudo_labels_are_those_of_the_authors_code(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    true = np.arange(60) % 3
    features = np.eye(3)[true] @ rng.normal(size=(3, 6)) * 2 + rng.normal(size=(60, 6))
    features *= size
    logits = np.eye(4)[true] * 1.5 + rng.normal(size=(60, 4))
    logits[:, 3] = -9  # a class that nobody takes an image for
    ours = pseudo_labels(t(features), t(logits)).numpy()
    assert np.array_equal(ours, shot_by_hand(features, logits))
    assert set(ours.tolist()) <= {0, 1, 2}
    assert (ours == true).mean() > (logits.argmax(1) == true).mean(), "neighbours know better than the scores"
    if seed == 0 and size == 1:
        assert not np.array_equal(ours, shot_by_hand(features, logits, rounds=0)), "the second round counts"


def density_by_hand(p: np.ndarray, temperature: float = 0.05, *, itself: bool = False) -> float:
    """Section 3 of arXiv:2108.10860, image by image."""
    rows = np.asarray(normalize(p))
    found = []
    for i in range(len(p)):
        likeness = np.array([rows[i] @ rows[j] / temperature for j in range(len(p)) if itself or j != i])
        shares = np.exp(likeness - likeness.max())
        found.append(entropy(shares / shares.sum()))
    return float(np.mean(found))


def test_density_against_a_loop() -> None:
    ours = neighbourhood_density(t(P)).item()
    assert ours == pytest.approx(density_by_hand(P), rel=1e-8)
    assert ours != pytest.approx(density_by_hand(P, itself=True), rel=1e-2), "an image is not its own neighbour"
    assert ours != pytest.approx(density_by_hand(P, 1.0), rel=1e-2)
    assert neighbourhood_density(torch.tensor([[0.0, 1.0]]).repeat(8, 1)).item() == pytest.approx(math.log(7), rel=1e-5)
    assert neighbourhood_density(t(P[:2])).isfinite()
