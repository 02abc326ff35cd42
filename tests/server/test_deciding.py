"""What is said of probabilities, and where a heat map lies, against counting and against the picture itself."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Literal

import numpy as np
import pytest

pytest.importorskip("fastapi")

from greffon.errors import OptionError
from greffon.images import Preprocess
from greffon.server.deciding import best_first, class_set, set_limit
from greffon.server.explaining import CELLS, covered, heat_of
from greffon.server.limits import ServerLimits
from greffon.server.problems import Problem
from greffon.server.shelf import read_sources
from served import PREPROCESS


@pytest.mark.parametrize("count", [1, 9, 10, 19, 99, 100])
@pytest.mark.parametrize("coverage", ["0.5", "0.56", "0.8", "0.9", "0.95", "0.99"])
def test_the_limit_is_the_score_of_that_rank(count: int, coverage: str) -> None:
    """In fractions, in which 0.9 of 10 is 9: arXiv:2107.07511, section 1."""
    scores = np.sort(np.random.default_rng(count).random(count))
    rank = ceil((count + 1) * Fraction(coverage))
    if rank > count:
        with pytest.raises(Problem, match="wrong-parameter"):
            set_limit(scores, float(coverage))
    else:
        assert set_limit(scores, float(coverage)) == scores[rank - 1]


def test_sets_hold_the_true_class_as_often_as_asked_for() -> None:
    """Drawn probabilities that are true: of 20,000 new rows the share is within a point and a half of the coverage."""
    rng = np.random.default_rng(0)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        rows = rng.dirichlet(np.full(5, 0.4), count)
        return rows, np.array([rng.choice(5, p=row) for row in rows])

    rows, labels = drawn(2000)
    limit = set_limit(np.sort(1 - rows[np.arange(len(rows)), labels]), 0.9)
    rows, labels = drawn(20_000)
    held = np.mean([label in class_set(row, limit) for row, label in zip(rows, labels, strict=True)])
    assert held == pytest.approx(0.9, abs=0.015)


def test_the_best_come_first_and_equal_ones_in_their_order() -> None:
    row = np.array([0.1, 0.3, 0.1, 0.3, 0.2])
    assert best_first(row) == [1, 3, 4, 0, 2]
    assert best_first(row, 2) == [1, 3]
    assert class_set(row, 0.75) == [1, 3]
    assert class_set(row, 0.1) == []


def test_every_place_is_covered_and_the_map_has_it_in_its_place() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    pictures = covered(picture, PREPROCESS)
    assert len(pictures) == 1 + CELLS**2
    assert (pictures[0] == picture).all()
    changed = np.stack([(one != picture).any(2) for one in pictures[1:]])
    assert changed.any(0).all(), "no pixel is left out"
    for number, one in enumerate(changed):
        rows, columns = np.nonzero(one)
        row, column = divmod(number, CELLS)
        assert abs(rows.mean() + 0.5 - (row + 0.5) * 32 / CELLS) < 2.1
        assert abs(columns.mean() + 0.5 - (column + 0.5) * 48 / CELLS) < 2.1
    assert pictures[1][0, 0].tolist() == list(PREPROCESS.neutral)
    # A class that is as probable as its places are uncovered loses most where the one place that matters is.
    probabilities = np.array([[0.9 - 0.8 * one[20, 10], 0.1 + 0.8 * one[20, 10]] for one in np.stack([np.zeros((32, 48), bool), *changed])])
    heat = heat_of(probabilities, 0)
    assert heat.shape == (CELLS, CELLS)
    assert heat[20 * CELLS // 32, 10 * CELLS // 48] == pytest.approx(0.8)
    assert (heat_of(probabilities, 1) == -heat).all()


@pytest.mark.parametrize(("height", "width"), [(400, 400), (300, 700), (900, 320), (41, 40)])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_the_box_is_what_the_network_sees(height: int, width: int, resize: Literal["shortest", "squash"]) -> None:
    """Of a photo whose levels are its coordinates, the network's picture has those at the sides of the box."""
    pre = Preprocess(height=64, width=80, resize=resize, resize_to=100, interpolation="bilinear", antialias=True, channels="rgb",
                     mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale=1.0)  # fmt: skip
    photo = np.zeros((height, width, 3), np.uint8)
    photo[..., 0] = np.round(np.linspace(0, 255, width))[None]
    photo[..., 1] = np.round(np.linspace(0, 255, height))[:, None]
    seen = pre.fit(photo).astype(float) / 255
    left, top, across, down = pre.seen_box(height, width)
    assert seen[0, 0, 0] == pytest.approx(left + across / 160, abs=0.02)
    assert seen[0, -1, 0] == pytest.approx(left + across - across / 160, abs=0.02)
    assert seen[0, 0, 1] == pytest.approx(top + down / 128, abs=0.02)
    assert seen[-1, 0, 1] == pytest.approx(top + down - down / 128, abs=0.02)


def test_limits_and_names() -> None:
    with pytest.raises(OptionError, match="deadline must be above 0, got nan"):
        ServerLimits(deadline=float("nan"))
    with pytest.raises(OptionError, match="drain must be 0 or more"):
        ServerLimits(drain=-1)
    assert ServerLimits(drain=0).images.max_pixels == 50_000_000
    assert [(one.name, str(one.folder)) for one in read_sources(["a=b/c", "d/e"])] == [("a", "b/c"), ("e", "d/e")]
    for words in (["=x"], ["a="], ["a\n=x"], ["a=x", "a=y"]):
        with pytest.raises(OptionError):
            read_sources(words)
