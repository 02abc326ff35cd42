"""What every clustering of the table keeps to, on whatever it is given, and each against an independent one."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering, KMeans, SpectralClustering
from sklearn.metrics import adjusted_rand_score, silhouette_samples
from sklearn.mixture import GaussianMixture as Mixture

import greffon.transfer.unsupervised as package
from greffon.errors import OptionError
from greffon.transfer.unsupervised import (
    METHODS,
    ClusterMethod,
    DensityClusters,
    GaussianMixture,
    Partition,
    Spectral,
    SphericalKMeans,
    Unlabelled,
    Ward,
    margin,
    numbered,
    unit_rows,
)
from groups import grouped

PLAIN, TRUTH = grouped()
FIXED = [name for name in METHODS if name != "hdbscan"]


def bent(change: Callable[[np.ndarray], np.ndarray]) -> Unlabelled:
    return Unlabelled(np.ascontiguousarray(change(PLAIN.features.copy()), np.float32))


def flat(x: np.ndarray) -> np.ndarray:
    x[:, :3] = 7
    return x


CASES: dict[str, tuple[Unlabelled, int]] = {
    "plain": (PLAIN, 4),
    "one cluster": (PLAIN, 1),
    "two": (PLAIN, 2),
    "more than there are": (PLAIN, 9),
    "as many as photos": (bent(lambda x: x[:6]), 6),
    "one less than photos": (bent(lambda x: x[:6]), 5),
    "one photo": (bent(lambda x: x[:1]), 1),
    "two photos": (bent(lambda x: x[:2]), 2),
    "all the same": (bent(lambda x: np.repeat(x[:1], 20, 0)), 1),
    "all the same, and nothing": (bent(lambda x: np.zeros((20, 3))), 1),
    "few that are many times there": (bent(lambda x: np.repeat(x[:3], 15, 0)), 3),
    "one feature": (bent(lambda x: np.abs(x[:, :1]) * np.where(np.arange(len(x)) % 2, 1, -1)[:, None]), 2),
    "features that never move": (bent(flat), 4),
    "more features than photos": (bent(lambda x: np.random.default_rng(0).normal(size=(15, 90))), 3),
    "one far from all others": (bent(lambda x: np.concatenate([x[:40], x[:1] * 1e4])), 3),
    "tiny numbers": (bent(lambda x: x * 1e-6), 4),
    "huge numbers": (bent(lambda x: x * 1e6), 4),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", METHODS)
def test_clusters_of_whatever_is_given(name: str, case: str) -> None:
    """No warning (they are errors), no crash, clusters that exist, and the same again."""
    photos, k = CASES[case]
    before = photos.features.copy()
    found = METHODS[name].cluster(photos, k, 3)
    _must_be_sound(found, len(photos))
    if name in ("kmeans", "ward"):
        assert found.k == k
    elif name != "hdbscan":
        assert found.k <= k
    again = METHODS[name].cluster(photos, k, 3)
    np.testing.assert_array_equal(again.labels, found.labels)
    np.testing.assert_array_equal(again.confidence, found.confidence)
    np.testing.assert_array_equal(photos.features, before)


def _must_be_sound(found: Partition, n: int) -> None:
    assert found.labels.shape == found.confidence.shape == (n,)
    assert (found.labels.dtype, found.confidence.dtype) == (np.int64, np.float64)
    assert np.isfinite(found.confidence).all()
    assert (found.confidence >= 0).all() and (found.confidence <= 1).all()
    assert set(found.labels.tolist()) - {-1} == set(range(found.k))
    sizes = np.bincount(found.labels[found.labels >= 0])
    assert (np.diff(sizes) <= 0).all(), "the largest comes first"
    assert (found.confidence[found.labels < 0] == 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_groups_that_lie_apart_are_found(name: str) -> None:
    found = METHODS[name].cluster(PLAIN, 4, 0)
    kept = found.labels >= 0
    assert kept.mean() > 0.9
    assert adjusted_rand_score(TRUTH[kept], found.labels[kept]) > 0.97
    assert found.k == 4


@pytest.mark.parametrize("name", METHODS)
def test_fewer_different_photos_than_clusters(name: str) -> None:
    with pytest.raises(OptionError, match="3 clusters were asked for, and only 2 of the 10 photos differ"):
        METHODS[name].cluster(Unlabelled(np.repeat(PLAIN.features[:2], 5, 0)), 3, 0)
    with pytest.raises(OptionError, match="must be 1 or more, got 0"):
        METHODS[name].cluster(PLAIN, 0, 0)


def test_no_method_has_a_place_for_labels() -> None:
    """Every class of the package that clusters takes features, a number and a seed; and features hold nothing else."""
    methods = [one for one in vars(package).values() if inspect.isclass(one) and hasattr(one, "cluster")]
    assert {type(one) for one in METHODS.values()} | {ClusterMethod} == set(methods)
    for one in methods:
        hints = typing.get_type_hints(vars(one)["cluster"])
        assert hints == {"photos": Unlabelled, "k": int, "seed": int, "return": Partition}, one
    assert [one.name for one in fields(Unlabelled)] == ["features"]
    files = {inspect.getfile(one) for one in (*methods, package.Clustering, package.Count, package.Look)}
    for file in {*files, inspect.getfile(package.joined), inspect.getfile(package.parts_of)}:
        assert "greffon.datasets" not in Path(file).read_text(encoding="utf-8"), f"{file} could read labels"


def test_k_means_ends_no_worse_than_scikit_learn() -> None:
    """On the sphere, the mean cosine to the centre: Lloyd's on rows of length 1 looks for nearly the same."""
    rng = np.random.default_rng(5)
    x = unit_rows(rng.normal(size=(300, 6)).astype(np.float32))

    def fit(labels: np.ndarray) -> float:
        return float(sum(np.linalg.norm(x[labels == c].sum(0)) for c in np.unique(labels)))

    ours = fit(SphericalKMeans(restarts=20).cluster(Unlabelled(x), 5, 0).labels)
    theirs = fit(np.asarray(KMeans(5, n_init=20, random_state=0).fit(x).labels_))  # type: ignore[arg-type]  # the stubs know "auto" alone
    assert ours >= theirs * 0.998


def test_k_means_is_at_rest() -> None:
    """A naive loop of one more round moves nothing: every row is with the centre of the largest cosine."""
    x = unit_rows(PLAIN.features)
    labels = SphericalKMeans().cluster(PLAIN, 4, 1).labels
    centres = np.stack([x[labels == c].mean(0) for c in range(4)])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    for row, label in zip(x, labels, strict=True):
        assert max(range(4), key=lambda c: float(row @ centres[c])) == label


def test_ward_is_scikit_learns() -> None:
    x = unit_rows(PLAIN.features)
    wanted = AgglomerativeClustering(6, linkage="ward").fit_predict(x)
    assert adjusted_rand_score(wanted, Ward().cluster(PLAIN, 6, 0).labels) == 1


def test_ward_of_many_takes_some() -> None:
    found = Ward(most=60).cluster(PLAIN, 4, 0)
    assert adjusted_rand_score(TRUTH, found.labels) == 1


def test_the_mixture_is_scikit_learns() -> None:
    """Without the shrinkage; proportions that are equal are not changed by being drawn together."""
    photos, truth = grouped(3, 60, 5, apart=3.5)
    x = (photos.features - photos.features.mean(0)).astype(np.float64)
    other = Mixture(3, covariance_type="tied", n_init=20, tol=1e-9, max_iter=1000, reg_covar=0, random_state=0).fit(x)
    found = package.mixed_from(x, truth, 3, shrinkage=0, rounds=1000)
    theirs = other.predict_proba(x)
    order = [int(np.argmax([np.corrcoef(found.belief[:, c], theirs[:, d])[0, 1] for d in range(3)])) for c in range(3)]
    np.testing.assert_allclose(found.belief, theirs[:, order], atol=0.02)
    constant = 5 / 2 * np.log(2 * np.pi)
    assert found.likelihood - constant == pytest.approx(float(other.score(x)), abs=1e-3)


def test_the_shrunken_covariance_against_a_loop() -> None:
    """One round of expectation maximisation, written out."""
    photos, truth = grouped(3, 8, 4, apart=2)
    x = (photos.features - photos.features.mean(0)).astype(np.float64)
    start = np.where(np.arange(24) < 5, (truth + 1) % 3, truth)
    n, d, k = 24, 4, 3
    means = [np.mean([x[i] for i in range(n) if start[i] == c], 0) for c in range(k)]
    within = sum(np.outer(x[i] - means[start[i]], x[i] - means[start[i]]) for i in range(n)) / n
    within = 0.7 * within + 0.3 * np.trace(within) / d * np.eye(d)
    share = [((start == c).sum() + n / k) / (2 * n) for c in range(k)]
    density = np.array([[share[c] * np.exp(-(x[i] - means[c]) @ np.linalg.inv(within) @ (x[i] - means[c]) / 2) for c in range(k)]
                        for i in range(n)]) / np.sqrt(np.linalg.det(within))  # fmt: skip
    found = package.mixed_from(x, start, k, shrinkage=0.3, rounds=1)
    np.testing.assert_allclose(found.belief, density / density.sum(1, keepdims=True), rtol=1e-6)
    assert found.likelihood == pytest.approx(float(np.log(density.sum(1)).mean()), rel=1e-6)


def test_a_mixture_of_many_learns_from_some() -> None:
    found = GaussianMixture(most=80).cluster(PLAIN, 4, 0)
    assert adjusted_rand_score(TRUTH, found.labels) == 1


def test_a_mixture_finds_what_k_means_does_not() -> None:
    """Two long groups beside each other, each longer than they are apart."""
    rng = np.random.default_rng(0)
    truth = np.arange(200) % 2
    x = np.stack([rng.normal(0, 2, 200), np.where(truth, 1, -1) + rng.normal(0, 0.3, 200), rng.normal(0, 2, 200)], 1).astype(np.float32)
    start = SphericalKMeans().cluster(Unlabelled(x), 2, 0).labels
    assert adjusted_rand_score(truth, start) < 0.5
    assert adjusted_rand_score(truth, GaussianMixture(shrinkage=0.01, restarts=20).cluster(Unlabelled(x), 2, 0).labels) > 0.95


@pytest.mark.filterwarnings("ignore:Graph is not fully connected")  # scikit-learn's word on two rings
def test_spectral_agrees_with_scikit_learn() -> None:
    """On two rings about each other, which no centre tells apart."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 200)
    tilt = np.where(np.arange(200) % 2, 0.3, 1.0) + rng.normal(0, 0.03, 200)
    x = np.stack([np.cos(angle) * np.sin(tilt), np.sin(angle) * np.sin(tilt), np.cos(tilt)], 1).astype(np.float32)
    truth = np.arange(200) % 2
    found = Spectral(neighbours=10).cluster(Unlabelled(x), 2, 0)
    assert adjusted_rand_score(truth, found.labels) > 0.95
    assert adjusted_rand_score(truth, SphericalKMeans().cluster(Unlabelled(x), 2, 0).labels) < 0.5
    graph = package.neighbourhood(unit_rows(x), 10).toarray()
    theirs = SpectralClustering(2, affinity="precomputed", random_state=0).fit_predict(graph)
    assert adjusted_rand_score(theirs, found.labels) > 0.95


def test_spectral_by_landmarks_finds_the_same() -> None:
    found = Spectral(most=50, landmarks=40).cluster(PLAIN, 4, 0)
    assert adjusted_rand_score(TRUTH, found.labels) > 0.97


def test_the_affinities_are_those_of_a_naive_loop() -> None:
    x = unit_rows(PLAIN.features[:25])
    apart = np.sqrt(((x[:, None].astype(np.float64) - x[None]) ** 2).sum(2))
    order = np.argsort(apart, 1)[:, 1:]
    scale = [apart[i, order[i, 6]] for i in range(25)]
    wanted = np.zeros((25, 25))
    for i in range(25):
        for j in order[i, :9]:
            wanted[i, j] += np.exp(-apart[i, j] ** 2 / (scale[i] * scale[j])) / 2
            wanted[j, i] += np.exp(-apart[i, j] ** 2 / (scale[i] * scale[j])) / 2
    np.testing.assert_allclose(package.neighbourhood(x, 9).toarray(), wanted, atol=1e-4)


def test_hdbscan_leaves_out_what_lies_apart() -> None:
    rng = np.random.default_rng(0)
    odd = rng.normal(size=(3, 10)) * 60
    photos = Unlabelled(np.concatenate([PLAIN.features, odd]).astype(np.float32))
    found = DensityClusters().cluster(photos, 4, 0)
    assert (found.labels[-3:] == -1).all()
    assert found.k == 4
    many = DensityClusters(most=60).cluster(photos, 4, 0)
    assert adjusted_rand_score(TRUTH, many.labels[:-3]) > 0.9


def test_the_margin_is_the_silhouette_of_centres() -> None:
    """Of two points a cluster, the mean distance to a cluster is that to its centre, nearly; of singles it is exactly."""
    x = unit_rows(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))
    x = np.repeat(x, 2, 0)
    labels = np.repeat(np.arange(4), 2)
    np.testing.assert_allclose(margin(x, labels), 1, atol=1e-5)
    moved = unit_rows(x + np.random.default_rng(1).normal(0, 0.2, x.shape).astype(np.float32))
    centres = unit_rows(np.stack([moved[labels == c].mean(0) for c in range(4)]))
    for i, row in enumerate(moved):
        away = 1 - centres @ row
        own, other = away[labels[i]], min(away[c] for c in range(4) if c != labels[i])
        np.testing.assert_allclose(margin(moved, labels)[i], max(0, (other - own) / max(own, other)), atol=1e-5)
    wanted = silhouette_samples(moved, labels, metric="cosine")
    assert np.corrcoef(margin(moved, labels), np.asarray(wanted))[0, 1] > 0.8
    np.testing.assert_array_equal(margin(moved, np.zeros(8, np.int64)), 1)


def test_clusters_are_numbered_by_their_size() -> None:
    np.testing.assert_array_equal(numbered(np.array([5, 5, 2, 9, 9, 9, -1])), [1, 1, 2, 0, 0, 0, -1])
    np.testing.assert_array_equal(numbered(np.array([3, 1, 1, 3])), [0, 1, 1, 0])
