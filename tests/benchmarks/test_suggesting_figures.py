# pyright: reportMissingImports=false
"""The draws and figures of the benchmark of suggestions, and the published ways on drawn clouds."""

from __future__ import annotations

import numpy as np
import pytest

from labelling import Photos
from suggesting import Measured, choices_of, figures_of, measure
from suggesting_rivals import RIVALS, coreset, typi_clust


def photos(n: int = 90, classes: int = 3) -> Photos:
    """Clouds of classes; records as of one stage of six channels."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    means = np.abs(6 * rng.normal(size=(classes, 12)))
    return Photos(np.abs(means[y] + rng.normal(size=(n, 12))).astype(np.float32), y, np.arange(n), [6])


@pytest.mark.parametrize("way", ["suggest", "rounds", *RIVALS])
def test_every_way_chooses_as_many_as_it_should_from_the_pool(way: str) -> None:
    every = photos()
    pool = np.arange(0, 90, 2)
    one, again = (choices_of(way, every, every.pooled[:, :6], pool, [3, 6, 12], 4) for _ in range(2))
    assert [len(np.unique(chosen)) for chosen in one] == [3, 6, 12]
    assert all(np.isin(chosen, pool).all() for chosen in one)
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    if way != "suggest":
        assert set(one[0]) < set(one[1]) < set(one[2])


def test_two_rivals_against_their_definitions() -> None:
    x = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    chosen = [5, 9]
    for _ in range(4):
        far = [min(float(((one - x[c]) ** 2).sum()) for c in chosen) for one in x]
        chosen.append(int(np.argmax(far)))
    assert coreset(x, np.array([5, 9]), np.zeros(2, np.int64), 4, 0, 2).tolist() == chosen[2:]
    # Of two far clouds, one of which has a label, the other one's most typical image.
    clouds = np.concatenate([x[:20], x[20:] + 50])
    found = typi_clust(clouds, np.array([0]), np.zeros(1, np.int64), 1, 0, 2)
    near = [np.sort(np.linalg.norm(clouds[20:] - one, axis=1))[1:11].mean() for one in clouds[20:]]
    assert found.tolist() == [20 + int(np.argmin(near))]


def test_the_figures_are_of_the_same_seeds() -> None:
    found = [Measured("suggest", 5.0, seed, 0.8 + gain, 0.8, 3, 2) for seed, gain in enumerate((0.01, 0.02, 0.03))]
    told = figures_of(found)["suggest"]
    assert isinstance(told, dict)
    figures = told["5"]
    assert (figures["accuracy"], figures["random"], figures["gain"]) == (82.0, 80.0, 2.0)
    half = 4.302653 / np.sqrt(3)  # Student's t, 97.5 % of two degrees of freedom; the deviation is 1
    assert figures["gain_interval"] == pytest.approx([2 - half, 2 + half], abs=0.01)
    measured = measure(photos(), ["suggest", "margin"], [5, 20], "plain", 0)
    assert [(one.way, one.share) for one in measured] == [("suggest", 5), ("suggest", 20), ("margin", 5), ("margin", 20)]
    assert all(0.5 < one.accuracy <= 1 and one.classes == 3 for one in measured if one.share == 20)
