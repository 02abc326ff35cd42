"""``greffon views``: the sheet shows the views that a network gets, and bad input gives one clear error."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn import encode, photo
from greffon.backbones import entry, resized
from greffon.cli import main
from greffon.errors import BackboneError, GreffonError, ImageError, OptionError
from greffon.images import decode
from greffon.images import views as views_of_policy
from greffon.jobs.views import views

GAP = 4


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(photo(0, 120, 150), "JPEG"))
    return path


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (5, 2, 3), (8, 3, 3)])
def test_every_view_stands_in_its_place(picture: Path, tmp_path: Path, count: int, rows: int, columns: int) -> None:
    result = views(picture, out=tmp_path / "deep" / "sheet.png", policy="strong", count=count, seed=3, size=48)
    sheet = decode(result.file.read_bytes())
    assert sheet.shape == (rows * (48 + GAP) - GAP, columns * (48 + GAP) - GAP, 3)
    data = picture.read_bytes()
    pre = resized(entry("vgg16"), 48).preprocess
    wanted = views_of_policy("strong", count, 3)
    assert (result.views, result.height, result.width) == (wanted, 48, 48)
    for place in range(rows * columns):
        top, left = place // columns * (48 + GAP), place % columns * (48 + GAP)
        tile = sheet[top : top + 48, left : left + 48]
        if place < count:
            expected = wanted[place].fit(decode(data), hashlib.sha256(data).hexdigest(), pre)
            np.testing.assert_array_equal(tile, expected)
        else:
            assert (tile == 255).all()


def test_another_backbone_has_another_size(picture: Path, tmp_path: Path) -> None:
    result = views(picture, out=tmp_path / "sheet.png", policy="flip", count=2, backbone="inception_v3.tv_in1k")
    assert decode(result.file.read_bytes()).shape == (299, 2 * 299 + GAP, 3)


def test_bad_input_is_said_in_one_sentence(picture: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.jpg"
    nothing.write_bytes(b"no image")
    out = tmp_path / "sheet.png"
    cases: list[tuple[dict[str, Any], type[GreffonError], str]] = [
        ({"photo": tmp_path / "none.jpg", "out": out}, ImageError, "none.jpg: cannot be read"),
        ({"photo": nothing, "out": out}, ImageError, "nothing.jpg: not an image"),
        ({"photo": picture, "out": tmp_path}, OptionError, "--out"),
        ({"photo": picture, "out": out, "policy": "magic"}, OptionError, "policy must be one of none, flip"),
        ({"photo": picture, "out": out, "policy": "none"}, OptionError, "no more than 1 different"),
        ({"photo": picture, "out": out, "count": 0}, OptionError, "count"),
        ({"photo": picture, "out": out, "seed": -1}, OptionError, "seed"),
        ({"photo": picture, "out": out, "backbone": "vgg61"}, BackboneError, "vgg61"),
    ]
    for words, kind, said in cases:
        with pytest.raises(GreffonError) as caught:
            views(**words)
        assert isinstance(caught.value, kind)
        assert said in caught.value.what
        assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nothing.jpg", "photo.jpg"]


def test_the_command(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "sheet.png"
    monkeypatch.setattr(sys, "argv", ["greffon", "views", str(picture), "--out", str(out), "--policy", "light", "--count",
                                      "3", "--size", "40"])  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert capsys.readouterr().out.startswith(f"{out}: plain, v1-")
    assert decode(out.read_bytes()).shape == (2 * 40 + GAP, 2 * 40 + GAP, 3)
