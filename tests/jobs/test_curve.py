"""The whole of ``curve``, on handwritten digits with VGG16's real weights at 32 pixels."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from greffon import curve
from greffon.cli import main
from greffon.demo import write_digits
from greffon.errors import DataError, GreffonError, OptionError
from greffon.jobs.curve import CurveResult

pytestmark = pytest.mark.usefixtures("vgg16_package")

SMALL: dict[str, Any] = {"size": 32, "precision": "float32"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "digits"
    write_digits(folder, images=240)
    for name in "2356789":
        shutil.rmtree(folder / name)
    (folder / "4" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return folder


@pytest.fixture(scope="module")
def result(digits: Path) -> CurveResult:
    return curve(digits, repeats=2, out=digits.parent / "curve", **SMALL)


def test_the_curve_is_written(result: CurveResult, digits: Path) -> None:
    written = json.loads((digits.parent / "curve" / "curve.json").read_text())
    assert written == result.to_dict()
    assert {path.name for path in result.files} == {"curve.json", "curve.png", "curve.svg"}
    assert [path.name for path, _ in result.unreadable] == ["broken.png"]
    growth = result.growth
    assert growth.images == len(result.scan.dataset)
    assert growth.points[-1].images == pytest.approx(0.8 * growth.images, abs=3)
    assert growth.points[-1].accuracy > 0.9
    assert growth.points[-1].accuracy >= growth.points[0].accuracy - 0.02
    assert growth.sentence.startswith("Twice as many photos")


def test_the_test_split_is_not_looked_at(digits: Path, tmp_path: Path) -> None:
    for name in "014":
        shutil.copytree(digits / name, tmp_path / "d" / "train" / name)
        (tmp_path / "d" / "test" / name).mkdir(parents=True)
        (tmp_path / "d" / "test" / name / "unread.png").write_bytes(b"this would be told as broken")
    found = curve(tmp_path / "d", repeats=1, **SMALL)
    assert "unread.png" not in {path.name for path, _ in found.unreadable}
    shutil.rmtree(tmp_path / "d" / "train")
    with pytest.raises(GreffonError):
        curve(tmp_path / "d", **SMALL)


def test_what_cannot_be(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="head must be one of"):
        curve(digits, head="forest", **SMALL)
    with pytest.raises(OptionError, match="--repeats must be from 1"):
        curve(digits, repeats=0, **SMALL)
    with pytest.raises(OptionError, match="lies in the data"):
        curve(digits, out=digits / "out", **SMALL)
    for name in "01":
        (tmp_path / "two" / name).mkdir(parents=True)
        shutil.copy(next((digits / name).iterdir()), tmp_path / "two" / name)
    with pytest.raises(DataError, match="two different images of each"):
        curve(tmp_path / "two", **SMALL)


def test_the_command(digits: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def call(*more: str) -> str:
        words = ["greffon", "curve", str(digits), "--size", "32", "--precision", "float32", "--repeats", "1", *more]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        return capsys.readouterr().out

    said = call("--out", str(tmp_path / "out"))
    assert "training images" in said and "Twice as many photos" in said and "curve.svg" in said
    assert json.loads(call("--json", "--quiet"))["repeats"] == 1
