"""Optimal transport of the source onto the target: against POT's own estimator, and a plan's constraints."""

from __future__ import annotations

import builtins
import importlib.util
import warnings
from typing import Any

import numpy as np
import pytest

from clouds import drawn, logistic
from greffon.errors import OptionError
from greffon.transfer.transductive import OptimalTransport, Unlabelled, has_pot
from greffon.transfer.transductive.transport import _plan

CLOUDS = drawn(60, 50, 8, move=2.5, turn=0.4, stretch=1.4)
S, T = CLOUDS.source, CLOUDS.target


def scaled(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return (x - x.mean(0)) / np.sqrt(x.var(0).sum())


def cost_of(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    found = np.array([[float(((a - b) ** 2).sum()) for b in other] for a in x])
    return found / np.median(found)


@pytest.mark.parametrize(("entropy", "classes"), [(0.05, 0.1), (0.2, 0.5), (0.1, 0.0)])
def test_the_plan_and_where_it_carries_are_pots(entropy: float, classes: float) -> None:
    ot = pytest.importorskip("ot")
    own, other = scaled(S.features), scaled(T.features)
    theirs = ot.da.SinkhornLpl1Transport(reg_e=entropy, reg_cl=classes, norm="median", tol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it did not converge
        carried = theirs.fit_transform(Xs=own, ys=S.labels, Xt=other)
    ours = _plan(ot, cost_of(own, other), S.labels, entropy, classes)
    np.testing.assert_allclose(ours, theirs.coupling_, atol=1e-9)
    np.testing.assert_allclose(
        OptimalTransport(entropy=entropy, classes=classes).probabilities(S, T, 0),
        logistic(carried, S.labels, other), atol=2e-4,
    )  # fmt: skip


def test_classes_avoid_one_target_image() -> None:
    """The regularisation does what it is for: a target image gets its mass from one class."""
    ot = pytest.importorskip("ot")
    cost = cost_of(scaled(S.features), scaled(T.features))

    def purity(classes: float) -> float:
        plan = _plan(ot, cost, S.labels, 0.1, classes)
        mass = np.stack([plan[S.labels == c].sum(0) for c in range(3)])
        return float((mass.max(0) / mass.sum(0)).mean())

    assert purity(0.5) > purity(0.0) + 0.01


def test_even_weights_on_both_sides_however_far_one_image_is() -> None:
    ot = pytest.importorskip("ot")
    own, other = scaled(S.features[:20]), scaled(T.features[:15])
    for far, exact in ((0.0, 0.05), (500.0, 0.3)):  # 200 steps are not many for an image that is so far away
        other[0] += far
        plan = _plan(ot, cost_of(own, other), S.labels[:20], 0.1, 0.1, rounds=2)
        np.testing.assert_allclose(plan.sum(1), 1 / 20, rtol=1e-6)
        np.testing.assert_allclose(plan.sum(0), 1 / 15, rtol=exact)


def test_by_logarithms_the_plan_is_the_same() -> None:
    ot = pytest.importorskip("ot")
    cost = cost_of(scaled(S.features[:20]), scaled(T.features[:15]))
    plain = _plan(ot, cost, S.labels[:20], 0.1, 0.2, rounds=3)

    class Logarithms:
        class bregman:  # noqa: N801
            sinkhorn_log = sinkhorn_knopp = staticmethod(ot.bregman.sinkhorn_log)

    np.testing.assert_allclose(_plan(Logarithms, cost, S.labels[:20], 0.1, 0.2, rounds=3), plain, atol=1e-10)


def test_a_part_is_carried_and_all_are_answered() -> None:
    pytest.importorskip("ot")
    whole, part = (OptimalTransport(most=most).probabilities(S, T, 0) for most in (1000, 30))
    assert part.shape == whole.shape == (50, 3)
    assert (whole.argmax(1) == part.argmax(1)).mean() > 0.8


def test_without_pot_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_pot() == (importlib.util.find_spec("ot") is not None)
    real = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name == "ot":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(OptionError, match="needs POT, which is not installed"):
        OptimalTransport().probabilities(S, Unlabelled(T.features), 0)
