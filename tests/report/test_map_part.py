"""The map as a part of a page: what is in it, that names cannot break out of it, and how large it is."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawn import encode, photo
from greffon.errors import OptionError
from greffon.report import Atlas, make_atlas, map_part, map_report


def held(page: str) -> dict:
    found = re.search(r'<script type="application/json" class="gmap-data">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def unpacked(text: str, kind: str) -> list[int]:
    return np.frombuffer(base64.b64decode(text), kind).tolist()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("map")
    shapes = [(60, 90), (90, 60), (300, 300), (5, 400)]
    for number, (height, width) in enumerate(shapes):
        (folder / f"{number}.png").write_bytes(encode(photo(number, height, width)))
    (folder / "9.png").write_bytes(b"nothing")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def atlas(paths: list[Path]) -> Atlas:
    return make_atlas(paths)


def test_the_atlas_holds_each_photo_at_its_place(paths: list[Path], atlas: Atlas) -> None:
    assert (atlas.side, atlas.columns, len(atlas.sheets)) == (160, 11, 1)
    assert atlas.sizes.tolist() == [[160, 107], [107, 160], [160, 160], [160, 2], [0, 0]]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(atlas.sheets[0]))))
    assert sheet.shape == (160, 11 * 160, 3)
    for i in range(3):
        wide, tall = atlas.sizes[i].tolist()
        own = np.asarray(Image.open(paths[i]).convert("RGB").resize((wide, tall), Image.Resampling.BICUBIC))
        drawn = sheet[:tall, 160 * i : 160 * i + wide]
        assert np.abs(own.astype(float) - drawn).mean() < 12
        assert np.abs(sheet[tall + 2 :, 160 * i : 160 * i + 160].astype(float) - 128).max(initial=0) < 60
    assert make_atlas(paths).sheets == atlas.sheets


def test_many_photos_have_small_thumbnails_on_several_sheets(paths: list[Path]) -> None:
    atlas = make_atlas(paths * 500)
    assert atlas.side == int((32_000_000 / 2500) ** 0.5)
    assert len(atlas.sheets) == -(-2500 // atlas.columns**2)
    assert sum(map(len, atlas.sheets)) < 11_500_000
    assert make_atlas([]).sheets == ()


def test_points_keep_their_shape(atlas: Atlas) -> None:
    points = np.array([[0, 0], [10, 0], [10, 5], [0, 5], [5, 2.5]])
    data = held(map_part(points, list("abcde"), atlas, near=np.array([[1, 4]] * 5)))
    placed = np.array(unpacked(data["points"], "<u2")).reshape(-1, 2)
    assert placed.tolist() == [[0, 49151], [65535, 49151], [65535, 16384], [0, 16384], [32768, 32768]]
    assert unpacked(data["near"], "<u2") == [1, 4] * 5 and data["k"] == 2
    assert unpacked(data["sizes"], "<u1") == atlas.sizes.ravel().tolist()
    same = held(map_part(np.ones((5, 2)), list("abcde"), atlas))
    assert set(unpacked(same["points"], "<u2")) == {32768} and same["k"] == 0
    broken = np.where(np.arange(10).reshape(5, 2) == 3, np.nan, points)
    assert len(unpacked(held(map_part(broken, list("abcde"), atlas))["points"], "<u2")) == 10


def test_names_cannot_break_out(atlas: Atlas, tmp_path: Path) -> None:
    names = ["</script><script>alert(1)</script>", "<!--", "a\udce9.jpg", 'q"uote', "é\u2028"]
    part = map_part(np.random.default_rng(0).normal(size=(5, 2)), names, atlas, groups=np.array([0, 1, -1, 0, 1]), group_names=names[:2])
    assert part.count("</script>") == part.count("<script") == 2 + len(atlas.sheets)
    assert "alert(1)</script" not in part
    data = held(part)
    assert data["names"][0] == names[0] and data["names"][3:] == names[3:]
    assert unpacked(data["groups"], "<i4") == [0, 1, -1, 0, 1] and data["groupNames"] == names[:2]
    map_report(tmp_path / "map.html", part, "<b>5</b>", "lead & more")
    page = (tmp_path / "map.html").read_text()
    assert "<b>5</b>" not in page and "lead &amp; more" in page
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:)\w+:""", page)
    assert not re.findall(r"https?://", page), "nothing from elsewhere"


def test_photos_may_have_a_ring_and_a_note(atlas: Atlas) -> None:
    marked = np.array([True, False, False, True, False])
    part = map_part(np.zeros((5, 2)), list("abcde"), atlas, marked=marked, marked_name="Wrong <ones>", notes={3: "</script>taken for x"})
    data = held(part)
    assert unpacked(data["marked"], "<u1") == [1, 0, 0, 1, 0] and data["notes"] == {"3": "</script>taken for x"}
    assert "Wrong &lt;ones&gt;</button>" in part and part.count("</script>") == 2 + len(atlas.sheets)
    assert 'data-do="marked"' not in map_part(np.zeros((5, 2)), list("abcde"), atlas)


def test_a_page_may_hold_two_maps_in_two_languages(atlas: Atlas) -> None:
    points = np.zeros((5, 2))
    both = map_part(points, list("abcde"), atlas) + map_part(points, list("abcde"), atlas, lang="fr")
    assert " id=" not in both, "names of elements would be there twice"
    assert "Find by name" in both and "Chercher par nom" in both
    with pytest.raises(OptionError, match="en, fr"):
        map_part(points, list("abcde"), atlas, lang="de")


def test_lengths_must_be_one(atlas: Atlas) -> None:
    with pytest.raises(OptionError, match="4 points, 5 names and 5 pictures"):
        map_part(np.zeros((4, 2)), list("abcde"), atlas)


def test_an_empty_map_is_a_map() -> None:
    assert held(map_part(np.zeros((0, 2)), [], make_atlas([]), near=np.zeros((0, 6), np.int64)))["n"] == 0
