"""The reversal of gradients, the discriminator's loss, the multilinear maps: against loops, gradcheck and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch.nn import functional

from greffon.losses import domain_loss, multilinear_map, random_multilinear_map, reverse_gradient

RNG = np.random.default_rng(0)
SCORES = (RNG.normal(size=6) * 2, RNG.normal(size=4) * 2)
WEIGHTS = (RNG.uniform(1, 2, 6), RNG.uniform(1, 2, 4))


def test_the_reversal_gives_what_it_takes_and_minus_the_gradient() -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    y = reverse_gradient(x, 0.3)
    assert torch.equal(y, x)
    (found,) = torch.autograd.grad((y**3).sum(), x)
    assert torch.allclose(found, -0.3 * 3 * x.detach() ** 2)
    # The gradient of what it does, which is nothing, it has with a strength of -1 alone.
    assert torch.autograd.gradcheck(lambda z: reverse_gradient(z, -1.0), (x,))
    assert not torch.autograd.gradcheck(lambda z: reverse_gradient(z, 1.0), (x,), raise_exception=False)


def test_a_step_down_the_loss_is_one_up_for_what_is_below_the_reversal() -> None:
    x, w = torch.tensor([[1.0, 2.0]], requires_grad=True), torch.tensor([[0.5, -0.3]], requires_grad=True)
    loss = functional.softplus(-(reverse_gradient(x, 1.0) * w).sum())
    gx, gw = torch.autograd.grad(loss, (x, w))
    p = 1 / (1 + math.exp(-float((x * w).sum().detach())))
    assert gw.tolist()[0] == pytest.approx([-(1 - p) * 1.0, -(1 - p) * 2.0])
    assert gx.tolist()[0] == pytest.approx([(1 - p) * 0.5, (1 - p) * -0.3])


def test_the_discriminators_loss_against_a_loop_and_scikit_learn() -> None:
    s, t = (torch.from_numpy(one) for one in SCORES)
    total = 0.0
    for one in SCORES[0]:
        total -= math.log(1 / (1 + math.exp(-one))) / 6 / 2
    for one in SCORES[1]:
        total -= math.log(1 - 1 / (1 + math.exp(-one))) / 4 / 2
    assert domain_loss(s, t).item() == pytest.approx(total, rel=1e-10)
    p = 1 / (1 + np.exp(-np.concatenate(SCORES)))
    domains, shares = np.array([1] * 6 + [0] * 4), np.array([1 / 6] * 6 + [1 / 4] * 4)
    assert domain_loss(s, t).item() == pytest.approx(log_loss(domains, p, sample_weight=shares), rel=1e-9)
    weights = np.concatenate([one / one.sum() for one in WEIGHTS])
    ours = domain_loss(s, t, *(torch.from_numpy(one) for one in WEIGHTS)).item()
    assert ours == pytest.approx(log_loss(domains, p, sample_weight=weights), rel=1e-9)
    assert ours != pytest.approx(total, rel=1e-3), "weights count"
    assert domain_loss(t, s).item() != pytest.approx(total, rel=1e-3), "and so does which domain is which"
    assert domain_loss(torch.tensor([-1e4]), torch.tensor([1e4])).isfinite()


def test_the_multilinear_map_against_a_loop_and_numpys_kronecker_product() -> None:
    f, g = RNG.normal(size=(4, 3)), RNG.dirichlet(np.ones(2), 4)
    ours = multilinear_map(torch.from_numpy(f), torch.from_numpy(g)).numpy()
    assert ours.shape == (4, 6)
    for n in range(4):
        assert ours[n] == pytest.approx(np.kron(f[n], g[n]))
        assert ours[n, 2 * 2 + 1] == pytest.approx(f[n, 2] * g[n, 1])


def test_the_random_map_keeps_scalar_products() -> None:
    """Theorem 1 of CDAN: the expectation of the products is that of the multilinear map."""
    f, g = torch.randn(5, 8, dtype=torch.float64), torch.softmax(torch.randn(5, 4, dtype=torch.float64), 1)
    generator, k = torch.Generator().manual_seed(0), 400_000
    rf, rg = (torch.randn(width, k, generator=generator, dtype=torch.float64) for width in (8, 4))
    found = random_multilinear_map(f, g, rf, rg)
    of_f, of_g = (sum(float(one[1, i] * drawn[i, 7]) for i in range(width)) for one, drawn, width in ((f, rf, 8), (g, rg, 4)))
    assert found[1, 7].item() == pytest.approx(of_f * of_g / k**0.5)
    wanted = multilinear_map(f, g)
    assert torch.allclose(found @ found.t(), wanted @ wanted.t(), atol=0.15)
    assert not torch.allclose(found @ found.t() * 2, wanted @ wanted.t(), atol=0.15), "and not twice that"
