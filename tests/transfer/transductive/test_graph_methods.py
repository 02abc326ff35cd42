"""Methods on the graph: against dense closed forms, n x n matrices by loops, and scikit-learn's kernels and ridge."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity, rbf_kernel

from clouds import drawn, logistic
from greffon.transfer.transductive import (
    Labelled,
    LabelPropagation,
    ManifoldAlignment,
    Unlabelled,
    a_distance,
    per_domain,
)

CLOUDS = drawn(48, 40, 3, move=2.5, turn=0.4, stretch=1.5, apart=3.0)
S, T = CLOUDS.source, CLOUDS.target


def dense_graph(x: np.ndarray, k: int) -> np.ndarray:
    """S of Zhou et al. (2004), of the cosines to k neighbours."""
    likeness, n = cosine_similarity(x.astype(np.float64)), len(x)
    w = np.zeros((n, n))
    for i in range(n):
        for j in sorted(set(range(n)) - {i}, key=lambda j: -likeness[i, j])[:k]:
            w[i, j] += max(likeness[i, j], 0) / 2
            w[j, i] += max(likeness[i, j], 0) / 2
    root = np.sqrt(w.sum(1))
    return w / root[:, None] / root[None]


@pytest.mark.parametrize(("k", "alpha", "trust"), [(10, 0.95, 0.3), (4, 0.7, 1.0), (4, 0.9, 0.0)])
def test_label_propagation_is_the_closed_form(k: int, alpha: float, trust: float) -> None:
    own, other = per_domain(S.features, T.features)
    first = logistic(own, S.labels, other)
    start = np.zeros((88, 3))
    for i in range(48):
        start[i, S.labels[i]] = 1
    start[48:] = trust * first
    told = np.linalg.inv(np.eye(88) - alpha * dense_graph(np.concatenate([own, other]), k)) @ start
    told = told[48:]
    for c in range(3):  # class mass normalisation: each class has in all what the classifier gives it
        told[:, c] *= first[:, c].sum() / told[:, c].sum()
    ours = LabelPropagation(neighbours=k, alpha=alpha, trust=trust).probabilities(S, T, 0)
    np.testing.assert_allclose(ours, told / told.sum(1, keepdims=True), atol=1e-4)


# --- A-distance -------------------------------------------------------------------------------------------------------


def naive_a_distance(x: np.ndarray, other: np.ndarray, seed: int) -> float:
    """2 (1 - 2 e): a ridge classifier learns one half of each domain and errs in the other, and the other way round.

    Both domains weigh alike; where one cannot be halved, its larger half weighs a little more.
    """
    if min(len(x), len(other)) < 4:  # halves of one image tell nothing
        return 0.0
    rng = np.random.default_rng(seed)
    both = [one[rng.permutation(len(one))].astype(np.float64) for one in (x, other)]
    wrong = []
    for part in (0, 1):
        learn, ask = ([one[k::2] for one in both] for k in (part, 1 - part))
        weights = [len(one) / len(whole) for one, whole in zip(learn, both, strict=True)]
        centre = (weights[0] * learn[0].mean(0) + weights[1] * learn[1].mean(0)) / sum(weights)
        rows = np.concatenate(learn) - centre
        domain = np.repeat([-1.0, 1.0], [len(one) for one in learn])
        ridge = Ridge(alpha=0.1 * float((rows**2).sum(1).mean()), fit_intercept=False).fit(rows, domain)
        errors = [
            np.mean([(value > 0) != right for value in ridge.predict(one - centre)])
            for one, right in zip(ask, (False, True), strict=True)
        ]
        weights = [len(one) / len(whole) for one, whole in zip(ask, both, strict=True)]
        wrong.append((weights[0] * errors[0] + weights[1] * errors[1]) / sum(weights))
    return float(np.clip(2 * (1 - 2 * np.mean(wrong)), 0, 2))


@pytest.mark.parametrize(("n", "m", "seed"), [(48, 40, 0), (48, 40, 3), (48, 12, 1), (6, 40, 2), (15, 11, 4)])
def test_a_distance_by_scikit_learns_ridge(n: int, m: int, seed: int) -> None:
    a, b = S.features[:n], T.features[:m]
    assert a_distance(a, b, seed) == pytest.approx(naive_a_distance(a, b, seed), abs=1e-9)


def test_a_distance_is_between_nothing_and_two() -> None:
    same, far = drawn(400, 400, seed=1), drawn(200, 200, move=40)
    assert a_distance(same.source.features, same.target.features, 0) < 0.3
    assert a_distance(same.source.features, same.source.features, 0) < 0.3
    assert a_distance(far.source.features, far.target.features, 0) == 2
    near = drawn(200, 200, move=1.5)
    assert 0.3 < a_distance(near.source.features, near.target.features, 0) < 1.8


def test_the_larger_domain_does_not_outweigh_the_smaller() -> None:
    """Answering always the larger one would seem to tell 9 of 10 apart."""
    x = np.random.default_rng(0).normal(size=(440, 5))
    assert a_distance(x[:400], x[400:], 0) < 0.5


def test_a_distance_of_few_or_constant_images_is_nothing() -> None:
    assert a_distance(S.features[:3], T.features + 50, 0) == 0
    assert a_distance(np.ones((9, 4)), np.ones((9, 4)), 0) == 0


# --- MEDA -------------------------------------------------------------------------------------------------------------


def scaled(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / np.sqrt(x.var(0).sum())


def naive_meda(
    ridge: float, alignment: float, smoothness: float, k: int, rounds: int
) -> tuple[np.ndarray, list[float]]:
    """The answers and the balance mu of every round.

    beta = ((A + lambda M + rho L) K + eta I)^-1 A Y, M = (1 - mu) M_0 + mu sum of M_c, all (n + m, n + m).
    """
    n, m = len(S), len(T)
    seen: list[float] = []
    own, other = scaled(S.features.astype(np.float64)), scaled(T.features.astype(np.float64))
    x = np.concatenate([own, other])
    squares = [float(((x[i] - x[j]) ** 2).sum()) for i in range(n + m) for j in range(i)]
    kernel = rbf_kernel(x, gamma=1 / np.median(squares))
    a, y = np.diag([1.0] * n + [0.0] * m), np.zeros((n + m, 3))
    y[np.arange(n), S.labels] = 1
    pseudo = logistic(own, S.labels, other).argmax(1)
    scores = y
    for _ in range(rounds):
        whole = naive_a_distance(own, other, 0)
        classes = [naive_a_distance(own[S.labels == c], other[pseudo == c], 0) for c in range(3)]
        mu = np.mean(classes) / (whole + np.mean(classes)) if whole + np.mean(classes) > 0 else 0.5
        seen.append(float(mu))
        total = np.zeros((n + m, n + m))
        for c in (None, 0, 1, 2):
            one = [i for i in range(n) if c is None or S.labels[i] == c]
            two = [n + j for j in range(m) if c is None or pseudo[j] == c]
            weight = 1 - mu if c is None else mu
            for i in one + two:
                for j in one + two:
                    sign = 1 if (i < n) == (j < n) else -1
                    total[i, j] += weight * sign / (len(one if i < n else two) * len(one if j < n else two))
        laplacian = np.eye(n + m) - dense_graph(x, k)
        system = (a + alignment * total + smoothness * laplacian) @ kernel + ridge * np.eye(n + m)
        scores = kernel @ np.linalg.inv(system) @ a @ y
        before, pseudo = pseudo, scores[n:].argmax(1)
        if (before == pseudo).all():
            break
    told = np.maximum(scores[n:], 1e-6)
    return told / told.sum(1, keepdims=True), seen


@pytest.mark.parametrize(("knobs", "rounds"), [((0.1, 10.0, 1.0), 10), ((0.3, 2.0, 0.5), 1), ((0.3, 30.0, 0.2), 3)])
def test_manifold_alignment_by_explicit_matrices(knobs: tuple[float, float, float], rounds: int) -> None:
    ridge, alignment, smoothness = knobs
    method = ManifoldAlignment(ridge=ridge, alignment=alignment, smoothness=smoothness, neighbours=6, rounds=rounds)
    theirs, balances = naive_meda(*knobs, 6, rounds)
    exact = Labelled(S.features.astype(np.float64), S.labels, 3), Unlabelled(T.features.astype(np.float64))
    np.testing.assert_allclose(method.probabilities(*exact, 0), theirs, atol=1e-6)
    assert any(0.05 < mu < 0.95 for mu in balances), balances


def test_manifold_alignment_on_a_part_answers_for_all() -> None:
    big = drawn(120, 150, 8, move=2, turn=0.3)
    whole, part = (ManifoldAlignment(most=most).probabilities(big.source, big.target, 1) for most in (1000, 60))
    assert part.shape == (150, 3)
    assert (whole.argmax(1) == part.argmax(1)).mean() > 0.9
    assert not np.array_equal(part, ManifoldAlignment(most=60).probabilities(big.source, big.target, 2))
