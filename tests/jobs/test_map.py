"""The whole of ``map``, on drawn photos with VGG16's real weights at 32 pixels."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from drawn import encode, photo
from greffon import index, map_photos
from greffon.cli import main
from greffon.errors import DataError, GreffonError, OptionError
from greffon.progress import Silent
from greffon.transfer.unsupervised import has_umap

pytestmark = pytest.mark.usefixtures("vgg16_package")

SMALL: dict[str, Any] = {"size": 32, "precision": "float32"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heap") / "photos"
    for number in range(24):
        path = folder / f"roll {number % 3}" / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(photo(number), "JPEG"))
    (folder / "broken.jpg").write_bytes(b"nothing")
    return folder


def test_the_page_holds_every_photo(photos: Path, tmp_path: Path) -> None:
    listener = Silent()
    result = map_photos(photos, out=tmp_path / "new" / "map.html", progress=listener, **SMALL)
    page = (tmp_path / "new" / "map.html").read_text()
    assert len(result.names) == result.photos == 24 and result.flat.method == "t-SNE"
    assert all(f'"roll {number % 3}/{number:02}.jpg"' in page for number in range(24))
    assert any("broken.jpg" in text for text in listener.warnings)
    assert "http" not in page
    told = result.to_dict()
    assert told["shown"] == 24 and len(told["points"]) == 24
    again = map_photos(photos, out=tmp_path / "again.html", **SMALL)
    assert (tmp_path / "again.html").read_bytes() == result.file.read_bytes() and (again.flat.points == result.flat.points).all()


def test_folders_names_change_nothing(photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in photos.rglob("*.jpg"):
        shutil.copy(path, other)
    one, two = (map_photos(folder, out=tmp_path / "map.html", method="pca", **SMALL) for folder in (photos, other))
    mine = {Path(name).name: point.tolist() for name, point in zip(one.names, one.flat.points, strict=True)}
    theirs = {name: point.tolist() for name, point in zip(two.names, two.flat.points, strict=True)}
    assert {name: pytest.approx(point, abs=1e-5) for name, point in mine.items()} == theirs


def test_an_index_can_be_mapped(photos: Path, tmp_path: Path) -> None:
    index(photos, out=tmp_path / "index", **SMALL)
    result = map_photos(tmp_path / "index", out=tmp_path / "map.html", method="pca")
    direct = map_photos(photos, out=tmp_path / "direct.html", method="pca", **SMALL)
    assert result.names == direct.names
    assert result.flat.points == pytest.approx(direct.flat.points, abs=1e-5)


def test_of_many_some_are_drawn(photos: Path, tmp_path: Path) -> None:
    results = [map_photos(photos, out=tmp_path / "map.html", most=11, seed=seed, **SMALL) for seed in (0, 0, 1)]
    assert results[0].names == results[1].names != results[2].names
    assert len(results[0].names) == 11 and results[0].photos == 24
    assert "drawn by chance from 24" in (tmp_path / "map.html").read_text()


@pytest.mark.parametrize("same", [1, 12])
def test_one_photo_and_identical_photos(photos: Path, tmp_path: Path, same: int) -> None:
    folder = tmp_path / "same"
    folder.mkdir()
    for number in range(same):
        shutil.copy(photos / "roll 0" / "00.jpg", folder / f"{number}.jpg")
    result = map_photos(folder, out=tmp_path / "map.html", **SMALL)
    assert result.flat.points.tolist() == [[0, 0]] * same and result.file.is_file()


def test_bad_input_is_one_clear_error(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "map.html"
    cases: list[tuple[Path, dict[str, Any], type[GreffonError], str]] = [
        (tmp_path / "nowhere", {}, DataError, "no such file or folder"),
        (tmp_path / "empty", {}, DataError, "holds no image files"),
        (photos, {"out": tmp_path / "map.png"}, OptionError, "ends in .html"),
        (photos, {"method": "isomap"}, OptionError, "tsne, pca, umap"),
        (photos, {"most": 0}, OptionError, "--most must be from 1 to 10000"),
        (photos, {"backbone": "vgg61"}, GreffonError, "vgg61"),
    ]
    if not has_umap():
        cases.append((photos, {"method": "umap"}, OptionError, "umap-learn"))
    for data, options, kind, said in cases:
        with pytest.raises(GreffonError) as caught:
            map_photos(data, **{"out": out, **SMALL, **options})
        assert isinstance(caught.value, kind) and said in caught.value.what, (options, caught.value)
        assert not out.exists()


def test_the_command(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["greffon", "map", str(photos), "--out", str(tmp_path / "map.html"), "--size", "32", "--method", "pca"]
    for more in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", [*words, *more])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        said = capsys.readouterr().out
        assert json.loads(said)["shown"] == 24 if more else "24 of 24 photos, by PCA" in said
