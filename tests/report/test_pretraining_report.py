"""The page of self-supervised training: one file, nothing from elsewhere, and whatever the run, it is written."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greffon.errors import ModelError, OptionError
from greffon.images import encode_png
from greffon.report import plot_pretraining, pretraining_report
from greffon.report.pretraining import _neighbours
from greffon.training import EpochRow, FeatureRow

RNG = np.random.default_rng(0)


def rows(count: int = 4, **more: Any) -> tuple[EpochRow, ...]:
    return tuple(
        EpochRow(i, None if not i else 2.0 / i, None, None, 1e-4, 1, 0.5, None,
                 FeatureRow(None if not i else 2.0 / i, 1.1, 40.0 + i, 0.5, 0.4, None if not i else 0.9, 0.1 * i, False, **more))
        for i in range(count)
    )  # fmt: skip


def figures(history: tuple[EpochRow, ...], *, gained: bool = True, **more: Any) -> dict[str, Any]:
    evidence = [{"epoch": row.epoch, **asdict(row.features)} for row in history if row.features]
    training = {"stages": ["block5"], "pretrained": {"name": "vgg16"}, "views": [{}] * 4, "policy": "strong", "seed": 0,
                "recipe": {"learning_rate": 1e-4, "batch": 64}}  # fmt: skip
    return {"method": "vicreg", "gained": gained, "why": "epoch 3 has the best score", "best_epoch": 3 if gained else 0, "photos": 12,
            "evidence": evidence, "unreadable": [], "copies": 0, "training": training, **more}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(12):
        (folder / f"<{i}>.png").write_bytes(encode_png(RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8)))
    return sorted(folder.iterdir())


def test_the_page_shows_what_it_should_and_needs_nothing_else(photos: list[Path], tmp_path: Path) -> None:
    before, after = RNG.normal(size=(12, 5)), RNG.normal(size=(12, 5))
    pretraining_report(tmp_path / "report.html", figures(rows()), rows(), photos, before, after)
    page = (tmp_path / "report.html").read_text()
    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")
    assert "http" not in page.split("</style>")[1]
    assert "<script" not in page
    assert "&lt;3&gt;.png" in page, "names are escaped"
    assert "<3>.png" not in page
    assert page.count('class="query"') >= 4
    assert "epoch 3 is kept" in page
    assert len(re.findall(r"<tr[ >]", page)) == 5
    assert page.count("data:image/jpeg;base64,") >= 4 * 13


def test_no_gain_shows_no_neighbours(photos: list[Path], tmp_path: Path) -> None:
    same = RNG.normal(size=(12, 5))
    told = figures(rows(), gained=False, unreadable=[{"path": "a&b", "reason": "broken"}])
    pretraining_report(tmp_path / "report.html", told, rows(), photos, same, same)
    page = (tmp_path / "report.html").read_text()
    assert "No gain: the pretrained network is kept" in page
    assert 'class="query"' not in page
    assert "a&amp;b: broken" in page


def test_neighbours_are_those_of_centred_features(photos: list[Path]) -> None:
    before, after = RNG.normal(size=(12, 5)) + 9, RNG.normal(size=(12, 5))
    shown, changed = _neighbours(photos, before, after)
    centred = before - before.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    first = shown[0]
    place = [path.name for path in photos].index(first.photo.name)
    order = [i for i in np.argsort(-(unit @ unit[place])).tolist() if i != place][:6]
    assert [one.name for one in first.before] == [photos[i].name for i in order]
    went = {one.name for one in first.before} - {one.name for one in first.after}
    assert {one.name for one in first.before if one.new} == went
    assert 0 < changed <= 1
    assert _neighbours(photos, before, before)[1] == 0


def test_odd_runs_are_drawn_all_the_same(photos: list[Path], tmp_path: Path) -> None:
    few = photos[:2]
    history = (EpochRow(0, None, None, None, 0.0, 0, 0.1, None, FeatureRow(None, float("nan"), 1.0, 1.0, 1.0, None, 0.0, False)),)
    told = figures(history, gained=True, best_epoch=0)
    pretraining_report(tmp_path / "report.html", told, history, [few[0], tmp_path / "gone.png"], np.eye(2), np.eye(2))
    assert "no picture" in (tmp_path / "report.html").read_text()
    plot_pretraining((), tmp_path / "empty.svg")
    with pytest.raises(OptionError, match=r"\.png or \.svg"):
        plot_pretraining(rows(), tmp_path / "x.gif")
    with pytest.raises((ModelError, OptionError), match="cannot be written"):
        pretraining_report(tmp_path / "no" / "report.html", told, history, few, np.eye(2), np.eye(2))
