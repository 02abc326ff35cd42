"""Methods that align and then learn: scikit-learn's classifier, and joint distributions by n x n matrices and loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh

from clouds import drawn, logistic
from greffon.transfer.transductive import (
    CorrelationAlignment,
    FeatureMethod,
    JointDistributions,
    PerDomainStatistics,
    SourceOnly,
    SubspaceAlignment,
    TransferComponents,
    coral,
    per_domain,
    subspace_alignment,
    transfer_components,
)
from greffon.transfer.transductive.adapting import learn_and_tell, unit_scale

CLOUDS = drawn(60, 50, 8, move=2.5, turn=0.4, stretch=1.4)
S, T = CLOUDS.source, CLOUDS.target


def scaled(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    lengths = [float(row @ row) for row in like - like.mean(0)]
    return (x - like.mean(0)) / np.sqrt(np.mean(lengths))


def test_unit_scale() -> None:
    ours = unit_scale(T.features, S.features)
    np.testing.assert_allclose(ours, scaled(T.features, S.features), atol=1e-5)
    own = unit_scale(S.features, S.features)
    np.testing.assert_allclose((own**2).sum(1).mean(), 1, rtol=1e-5)
    assert (unit_scale(np.full((2, 3), 4.0), np.full((5, 3), 4.0)) == 0).all()


@pytest.mark.parametrize("strength", [0.3, 1.0, 20.0])
def test_what_is_learned_is_scikit_learns(strength: float) -> None:
    x, other = scaled(S.features, S.features), scaled(T.features, S.features)
    ours = learn_and_tell(x, S.labels, 3, other, strength)
    np.testing.assert_allclose(ours, logistic(x, S.labels, other, strength), atol=1e-4)


def test_a_class_without_images_gets_nothing_and_one_alone_gets_all() -> None:
    some = S.labels != 1
    told = learn_and_tell(S.features[some], S.labels[some], 3, T.features)
    assert (told[:, 1] == 0).all()
    np.testing.assert_allclose(told[:, [0, 2]], logistic(S.features[some], S.labels[some], T.features), atol=1e-3)
    assert learn_and_tell(S.features, np.full(60, 2), 4, T.features[:2]).tolist() == [[0, 0, 1, 0]] * 2


ALIGNED = [
    (SourceOnly(strength=2.0), (S.features, T.features), 2.0),
    (CorrelationAlignment(regularisation=0.2), coral(S.features, T.features, regularisation=0.2), 1.0),
    (SubspaceAlignment(dimensions=4), subspace_alignment(S.features, T.features, dimensions=4), 1.0),
    (TransferComponents(dimensions=4, regularisation=0.1, strength=3.0),
     transfer_components(S.features, T.features, dimensions=4, regularisation=0.1), 3.0),
]  # fmt: skip


@pytest.mark.parametrize(("method", "pair", "strength"), ALIGNED)
def test_aligned_scaled_by_the_source_and_learned(
    method: FeatureMethod, pair: tuple[np.ndarray, np.ndarray], strength: float
) -> None:
    own, other = pair
    theirs = logistic(scaled(own, own), S.labels, scaled(other, own), strength)
    np.testing.assert_allclose(method.probabilities(S, T, 0), theirs, atol=2e-4)


def test_per_domain_is_learned_as_it_is() -> None:
    own, other = per_domain(S.features, T.features)
    np.testing.assert_allclose(PerDomainStatistics().probabilities(S, T, 0), logistic(own, S.labels, other), atol=1e-4)


def naive_joint_distributions(
    k: int, regularisation: float, rounds: int, marginal: float, conditional: float
) -> np.ndarray:
    """(X (a M_0 + b sum of M_c) X' + l I) A = X H X' A Phi, with every M_c an (n + m, n + m) matrix by loops."""
    x = np.concatenate([S.features, T.features]).astype(np.float64)
    n, m = len(S), len(T)
    pseudo: np.ndarray | None = None
    told = np.zeros((m, 3))
    for _ in range(rounds):
        total = np.zeros((n + m, n + m))
        for c in (None, 0, 1, 2):
            if c is not None and pseudo is None:
                continue
            mine = [i for i in range(n) if c is None or S.labels[i] == c]
            theirs = [n + j for j in range(m) if c is None or (pseudo is not None and pseudo[j] == c)]
            if not theirs:
                continue
            weight = marginal if c is None else conditional
            for one, two, value in (
                (mine, mine, 1 / len(mine) ** 2),
                (theirs, theirs, 1 / len(theirs) ** 2),
                (mine, theirs, -1 / (len(mine) * len(theirs))),
                (theirs, mine, -1 / (len(mine) * len(theirs))),
            ):
                for i in one:
                    for j in two:
                        total[i, j] += weight * value
        ridge = regularisation * x.var(0).mean()
        above = x.T @ (np.eye(n + m) - 1 / (n + m)) @ x / (n + m)
        _, directions = eigh(above, x.T @ total @ x + ridge * np.eye(x.shape[1]))
        z = x @ directions[:, ::-1][:, :k]
        told = logistic(scaled(z[:n], z[:n]), S.labels, scaled(z[n:], z[:n]))
        before, pseudo = pseudo, told.argmax(1)
        if before is not None and (before == pseudo).all():
            break
    return told


@pytest.mark.parametrize(("balance", "rounds"), [(0.5, 1), (0.5, 2), (0.5, 10), (0.2, 2), (0.8, 3)])
def test_joint_distributions_by_explicit_matrices(balance: float, rounds: int) -> None:
    """``balance`` 0.5 has the weights 1 and 1 of Long et al.; others weigh as Wang et al. do, times two."""
    weights = (1.0, 1.0) if balance == 0.5 else (2 * (1 - balance), 2 * balance)
    theirs = naive_joint_distributions(5, 0.1, rounds, *weights)
    ours = JointDistributions(balance=balance, dimensions=5, regularisation=0.1, rounds=rounds)
    np.testing.assert_allclose(ours.probabilities(S, T, 0), theirs, atol=2e-4)


def test_pseudo_labels_change_what_joint_distributions_say() -> None:
    """Else the tests above would not see the conditional part."""
    first, second = (
        JointDistributions(dimensions=5, rounds=r, regularisation=0.1).probabilities(S, T, 0) for r in (1, 2)
    )
    assert np.abs(first - second).max() > 0.02
