"""``greffon explain``: what is in the folder, and what it says of bad input."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn import encode, photo
from exporting_models import CLASSES, model_of
from greffon import explain, predict
from greffon.cli import main
from greffon.errors import DataError, OptionError
from greffon.explaining import METHODS
from greffon.images import decode, read_bytes, thumbnail
from greffon.jobs.explain import _pictures_of as pictures_of
from greffon.model import Examples, Model, save_model
from growing import drawn_network

pytestmark = pytest.mark.usefixtures("one_thread")

KEYS = {"path", "label", "probability", "explained", "box", "peak", "gap", "picture", "nearest"}


def remembering(model: Model, shown: bool = True) -> Model:
    """With four training photos."""
    features = np.random.default_rng(0).normal(size=(4, len(model.normaliser.mean))).astype(np.float32)
    pictures = [thumbnail(photo(i), 96) for i in range(4)]
    labels, names = np.array([0, 1, 2, 0]), ["<b>a</b>.jpg", "b.jpg", "c.jpg", "d.jpg"]
    return replace(model, examples=Examples.of(features, labels, names, pictures) if shown else Examples.of(features, labels))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of three kinds."""
    network = drawn_network("test_resnet", 96)
    root = tmp_path_factory.mktemp("explain")
    for name, model in (("plain", remembering(model_of(backbone=network))), ("votes", model_of("knn", backbone=network)),
                        ("unseen", remembering(model_of(backbone=network), shown=False))):  # fmt: skip
        save_model(replace(model, precision="bfloat16") if name == "votes" else model, root / name)
    return {path.name: path for path in root.iterdir()}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "wide <i>.jpg").write_bytes(encode(photo(1, 90, 200), "JPEG"))
    (folder / "é 2.png").write_bytes(encode(photo(2, 96, 96)))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    return folder


def test_the_folder_holds_a_page_a_table_and_pictures(folders: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    result = explain(folders["plain"], [photos], out=tmp_path / "why", nearest=3)
    table = json.loads((tmp_path / "why" / "explanations.json").read_text())
    assert table == result.to_dict() and (table["method"], table["precision"], table["trained_in"]) == ("cam", "float32", "float32")
    assert [Path(row["path"]).name for row in table["photos"]] == ["broken.jpg", "wide <i>.jpg", "é 2.png"]
    assert set(table["photos"][0]) == {"path", "error"}
    guesses = {guess.path.name: guess for guess in predict(folders["plain"], [photos])}
    for row in table["photos"][1:]:
        assert set(row) == KEYS
        guess = guesses[Path(row["path"]).name]
        assert row["label"] == guess.label == row["explained"]["label"]
        assert row["probability"] == pytest.approx(guess.probability, abs=1e-4)
        assert abs(row["gap"]) < 1e-3
        assert decode(read_bytes(tmp_path / "why" / row["picture"])).shape[1] > 800
        assert [set(one) for one in row["nearest"]] == [{"label", "distance", "name"}] * 3
        assert row["nearest"] == sorted(row["nearest"], key=lambda one: one["distance"])
    wide, square = table["photos"][1:]
    assert square["box"][0] > 0 and wide["box"][0] > square["box"][0]
    assert wide["box"][0] <= wide["peak"][0] <= wide["box"][0] + wide["box"][2]
    assert len(list((tmp_path / "why").iterdir())) == 4


def test_the_page_is_one_file_and_hostile_names_are_only_names(folders: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    explain(folders["plain"], [photos], out=tmp_path / "why")
    page = (tmp_path / "why" / "explanations.html").read_text()
    assert "<i>" not in page and "wide &lt;i&gt;.jpg" in page and "<b>a</b>" not in page and "&lt;b&gt;a&lt;/b&gt;.jpg" in page
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    # The photo, the map, and four training photos, twice.
    assert page.count("data:image/jpeg;base64,") == 12
    explain(folders["unseen"], [photos], out=tmp_path / "why")
    page = (tmp_path / "why" / "explanations.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4 and "kept without pictures" in page


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_every_method_by_its_name(folders: dict[str, Path], photos: Path, tmp_path: Path, method: Any) -> None:
    result = explain(folders["plain"], [photos / "é 2.png"], out=tmp_path / "why", method=method.name, label=CLASSES[1])
    (row,) = result.photos
    assert row.explained == CLASSES[1] and (tmp_path / "why" / row.picture).is_file() and (row.gap is not None) == bool(method.adds_up)
    assert method.title in (tmp_path / "why" / "explanations.html").read_text().lower().replace("grad-cam", "Grad-CAM")


def test_votes_are_explained_by_occlusion(folders: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    heard: list[str] = []

    class Ear:
        def begin(self, task: str, total: int) -> None: ...
        def advance(self, steps: int = 1) -> None: ...
        def end(self) -> None: ...
        def say(self, text: str) -> None:
            heard.append(text)
        def warn(self, text: str) -> None: ...

    result = explain(folders["votes"], [photos], out=tmp_path / "why", progress=Ear())
    assert result.method.name == "occlusion" and result.photos[1].nearest == ()
    assert any("trained in bfloat16; it is explained in float32" in one for one in heard)
    assert "trained in bfloat16" in (tmp_path / "why" / "explanations.html").read_text()
    with pytest.raises(OptionError, match="gradcam cannot explain this model: the votes of its head, knn, have no derivatives") as caught:
        explain(folders["votes"], [photos], out=tmp_path / "other", method="gradcam")
    assert caught.value.hint == "These can: occlusion." and not (tmp_path / "other").exists()


def test_pictures_of_an_earlier_run_go_and_other_things_stay(folders: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "why"
    explain(folders["plain"], [photos], out=out)
    mine = ["2024-holiday.png", "notes.png"]   # the first could be one of ours by its name
    for name in mine:
        (out / name).write_bytes(b"mine")
    explain(folders["plain"], [photos / "é 2.png"], out=out)
    assert sorted(one.name for one in out.iterdir()) == ["0001-2.png", *mine[:1], "explanations.html", "explanations.json", *mine[1:]]


def test_after_an_interruption_it_is_run_again(
    folders: dict[str, Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "why"
    with monkeypatch.context() as patched:
        patched.setattr("greffon.jobs.explain.explanations_page", stop)
        with pytest.raises(KeyboardInterrupt):
            explain(folders["plain"], [photos], out=out)
    left = {one.name for one in out.glob("*.png")}
    assert len(left) > 1 and json.loads((out / "explanations.json").read_text())["unfinished"]
    explain(folders["plain"], [photos / "é 2.png"], out=out)
    assert sorted(one.name for one in out.iterdir()) == ["0001-2.png", "explanations.html", "explanations.json"]


def test_a_table_that_is_not_ours_takes_nothing_away(folders: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    out, mine = tmp_path / "why", tmp_path / "0001-a.png"
    out.mkdir()
    mine.write_bytes(b"mine")
    for text in ('{"photos": [{"picture": "../0001-a.png"}]}', "[" * 9999):
        (out / "explanations.json").write_text(text)
        explain(folders["plain"], [photos / "é 2.png"], out=out)
        assert mine.read_bytes() == b"mine"
    for text in ("", "[]", "{}", '{"photos": 3}', '{"photos": [3]}', '{"photos": [{"picture": 3}]}'):
        (out / "explanations.json").write_text(text)
        assert pictures_of(out / "explanations.json") == []


def test_bad_input_is_told_in_one_sentence(folders: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    plain, out = folders["plain"], tmp_path / "why"
    for message, options in (
        ("--class cat: the model has no such class", {"label": "cat"}),
        ("--method must be auto or one of cam, gradcam", {"method": "lime"}),
        ("--nearest must be 0 or more, got -1", {"nearest": -1}),
    ):
        with pytest.raises(OptionError, match=message):
            explain(plain, [photos], out=out, **options)  # type: ignore[arg-type]  # of several types
    with pytest.raises(OptionError, match="lies in the data"):
        explain(plain, [photos], out=photos / "why")
    with pytest.raises(DataError, match=r"none of the 1 photos could be read; .*broken.jpg: "):
        explain(plain, [photos / "broken.jpg"], out=out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(OptionError, match="there is something else already"):
        explain(plain, [photos], out=tmp_path / "full")
    assert not out.exists()


def test_from_the_command_line(folders: dict[str, Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                               capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    def run(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["greffon", "explain", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    assert run(folders["plain"], photos, "--out", tmp_path / "why", "--class", CLASSES[2], "--json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == json.loads((tmp_path / "why" / "explanations.json").read_text())
    assert "broken.jpg" in told.err
    assert run(folders["plain"], photos, "--out", tmp_path / "why") == 0
    assert "2 photos by class activation map" in capsys.readouterr().out
    assert run(folders["votes"], photos, "--out", tmp_path / "other", "--method", "cam") == 2
    assert "These can: occlusion." in capsys.readouterr().err
