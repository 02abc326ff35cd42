"""Losses against PyTorch's own and against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from greffon.losses import classification_loss, l2_sp
from greffon.training import class_weights

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(7, 4, generator=GENERATOR) * 3
LABELS = torch.tensor([0, 1, 2, 3, 1, 1, 0])
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.1])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_one_hot_targets_are_as_class_indices_in_torch(weights: torch.Tensor | None, smoothing: float) -> None:
    ours = classification_loss(LOGITS, functional.one_hot(LABELS, 4).float(), class_weights=weights, label_smoothing=smoothing)
    theirs = functional.cross_entropy(LOGITS, LABELS, weight=weights, label_smoothing=smoothing)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_targets_are_as_in_torch(smoothing: float) -> None:
    targets = torch.softmax(torch.randn(7, 4, generator=GENERATOR), 1)
    ours = classification_loss(LOGITS, targets, label_smoothing=smoothing)
    assert ours.item() == pytest.approx(functional.cross_entropy(LOGITS, targets, label_smoothing=smoothing).item(), rel=1e-6)


def test_soft_weighted_smoothed_targets_against_a_loop() -> None:
    """What torch has no counterpart of: the mean over images is weighted by each one's target."""
    targets = torch.softmax(torch.randn(7, 4, generator=GENERATOR), 1)
    ours = classification_loss(LOGITS, targets, class_weights=WEIGHTS, label_smoothing=0.2)
    above, below = 0.0, 0.0
    for i in range(7):
        exponentials = [math.exp(float(LOGITS[i, k])) for k in range(4)]
        for k in range(4):
            log_p = math.log(exponentials[k] / sum(exponentials))
            above -= float(WEIGHTS[k]) * (0.8 * float(targets[i, k]) + 0.2 / 4) * log_p
            below += float(WEIGHTS[k]) * float(targets[i, k])
    assert ours.item() == pytest.approx(above / below, rel=1e-5)


def test_it_is_computed_in_float32_and_has_torchs_gradient() -> None:
    ours, theirs = (LOGITS.to(torch.bfloat16).requires_grad_() for _ in range(2))
    loss = classification_loss(ours, functional.one_hot(LABELS, 4).float(), class_weights=WEIGHTS)
    assert loss.dtype == torch.float32
    loss.backward()
    functional.cross_entropy(theirs.float(), LABELS, weight=WEIGHTS).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad.float(), theirs.grad.float(), atol=2e-3)


def test_l2_sp_against_a_loop() -> None:
    now = [torch.randn(*shape, generator=GENERATOR, requires_grad=True) for shape in ((3, 2), (5,))]
    before = [torch.randn(3, 2, generator=GENERATOR), torch.randn(5, generator=GENERATOR)]
    loss = l2_sp(now, before, 0.3)
    total = 0.0
    for one, start in zip(now, before, strict=True):
        for a, b in zip(one.detach().flatten().tolist(), start.flatten().tolist(), strict=True):
            total += (a - b) ** 2
    assert loss.item() == pytest.approx(0.15 * total, rel=1e-6)
    loss.backward()
    for one, start in zip(now, before, strict=True):
        assert one.grad is not None
        assert torch.allclose(one.grad, 0.3 * (one.detach() - start))
    with pytest.raises(ValueError, match="shorter"):
        l2_sp(now, before[:1], 1.0)


def test_class_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0, 0, 0, 1, 3, 3])
    found = class_weights(labels, 4).numpy()
    theirs = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    assert found[[0, 1, 3]] == pytest.approx(theirs, rel=1e-6)
    assert found[2] == 0
