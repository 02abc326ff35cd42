"""The page of clusters, the contact sheets, and the picture of the estimate."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn import encode, photo
from greffon.errors import ModelError, OptionError
from greffon.images import decode, enlarge
from greffon.report import ClusterPhoto, cluster_sheet, clusters_report, plot_count
from greffon.transfer.unsupervised import Count

FIGURES: dict[str, Any] = {
    "n": 60, "k": 2, "method": "consensus", "look": "mean of the last stage", "silhouette": None, "in_none": 0, "unreadable": [],
    "clustering": "ab" * 32, "opinions": [{"look": "max", "method": "ward", "k": 2, "agreement": 0.5, "silhouette": None}],
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[ClusterPhoto]:
    folder = tmp_path_factory.mktemp("photos")
    found = []
    for i in range(60):
        path = folder / (f"<b>&{i}\".png" if i % 3 else f"{i}.png")
        if i != 7:  # one went away meanwhile
            path.write_bytes(encode(photo(i, 40, 30 + i)))
        part = "" if i % 2 else ("1.1", "1.2", "2")[i % 3]
        found.append(ClusterPhoto(path, str(path), i % 2, 1 - i / 100, part, 1 - i % 2))
    return found


def test_the_page_holds_everything_and_escapes_it(photos: list[ClusterPhoto], tmp_path: Path) -> None:
    clusters_report(tmp_path / "page.html", photos, FIGURES, None)
    page = (tmp_path / "page.html").read_text()
    assert "<b>" not in page
    assert page.count('class="photo"') == 60
    assert page.count("data:image/jpeg;base64,") == 59
    parts = [json.loads(text) for text in re.findall(r'class="parts">(.*?)</script>', page)]
    sizes = {word: sum(one.part.startswith(word) for one in photos if one.cluster == 0) for word in ("1", "1.1", "1.2", "2")}
    assert parts == [sizes, {}]
    assert re.search(r"default-src 'none'", page)
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert "How the number" not in page


def test_of_many_some_are_shown(photos: list[ClusterPhoto], tmp_path: Path) -> None:
    clusters_report(tmp_path / "page.html", photos, FIGURES, None, most=24)
    page = (tmp_path / "page.html").read_text()
    assert page.count('class="photo"') == 24
    assert "24 photos are shown" in page
    shown = {i for i, one in enumerate(photos) if f'data-path="{one.text}"' in page}
    assert {0, 54} <= shown  # of the plain names in cluster 0 the surest and the least sure
    with pytest.raises(ModelError, match="cannot be written"):
        clusters_report(tmp_path / "no" / "page.html", photos, FIGURES, None)


def test_photos_in_no_cluster_stand_last(photos: list[ClusterPhoto], tmp_path: Path) -> None:
    apart = [*photos[:50], *(ClusterPhoto(one.path, one.text, -1, 0.0, "", 0) for one in photos[50:])]
    clusters_report(tmp_path / "page.html", apart, {**FIGURES, "in_none": 10}, None)
    page = (tmp_path / "page.html").read_text()
    assert [int(number) for number in re.findall(r'<section class="cluster" data-id="(-?\d+)"', page)] == [0, 1, -1]
    assert "10 photos are in no cluster" in page


def test_a_sheet_shows_the_typical_first(photos: list[ClusterPhoto], tmp_path: Path) -> None:
    mine = [one for one in photos if one.cluster == 0]
    cluster_sheet(tmp_path / "sheet.png", 0, mine, typical=8, border=8)
    sheet = decode((tmp_path / "sheet.png").read_bytes())
    width = 8 * 118
    assert abs(sheet.shape[1] - width) <= 1
    assert abs(sheet.shape[0] - (34 + 2 * (26 + 118))) <= 1
    first, last = sheet[60:172, 3:115].astype(int), sheet[60 + 118 + 26 : 60 + 118 + 26 + 112, 3:115].astype(int)
    for patch, one in ((first, mine[0]), (last, mine[-1])):
        picture = decode(one.path.read_bytes())
        height, width = (round(side * 112 / max(picture.shape[:2])) for side in picture.shape[:2])
        top, left = (112 - height) // 2, (112 - width) // 2
        shown = patch[top : top + height, left : left + width]
        assert np.abs(shown - enlarge(picture, height, width)).mean() < 25
    cluster_sheet(tmp_path / "one.png", 3, mine[:1])
    cluster_sheet(tmp_path / "none.png", -1, mine[:30], typical=4)
    with pytest.raises(OptionError, match="cannot be written"):
        cluster_sheet(tmp_path / "no" / "sheet.png", 0, mine)


def test_the_picture_of_the_estimate(tmp_path: Path) -> None:
    ks = np.arange(2, 8)
    values = np.linspace(0.1, 0.9, 6)
    count = Count(ks, values, values[::-1].copy(), values, values / 10, (7, 2, 4), 4)
    for name in ("k.png", "k.svg"):
        plot_count(count, tmp_path / name)
    assert decode((tmp_path / "k.png").read_bytes()).std() > 10
    before = (tmp_path / "k.png").read_bytes()
    plot_count(count, tmp_path / "k.png")
    assert (tmp_path / "k.png").read_bytes() == before
    with pytest.raises(OptionError):
        plot_count(count, tmp_path / "no" / "k.png")
