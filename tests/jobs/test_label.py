"""The whole of ``label``, on handwritten digits with VGG16's real weights at 32 pixels."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn import encode, photo
from greffon import evaluate, label, predict
from greffon.activations import chosen_engine
from greffon.cli import main
from greffon.datasets import read_dataset
from greffon.demo import write_digits
from greffon.errors import DataError, GreffonError, OptionError
from greffon.jobs.label import LabelResult
from greffon.progress import Silent

pytestmark = pytest.mark.usefixtures("vgg16_package")

#: Small, and one precision on every machine.
SMALL: dict[str, Any] = {"size": 32, "precision": "float32"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "digits"
    write_digits(folder, images=300)
    return folder


@pytest.fixture(scope="module")
def few(digits: Path) -> Path:
    """Three of each of four digits, moved out of the rest."""
    folder = digits.parent / "few"
    for name in "0147":
        (folder / name).mkdir(parents=True)
        for path in sorted((digits / name).iterdir())[:3]:
            shutil.move(path, folder / name / path.name)
    return folder


@pytest.fixture(scope="module")
def mixed(digits: Path, few: Path) -> Path:
    """The others of the four, under names that say nothing or the wrong thing, with what else lies in a folder."""
    folder = digits.parent / "mixed"
    (folder / "deep" / "0").mkdir(parents=True)
    for name in "0147":
        for number, path in enumerate(sorted((digits / name).iterdir())):
            shutil.copy(path, (folder if number % 2 else folder / "deep" / "0") / f"x{number:03}-{name}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (folder / "notes.txt").write_text("not a photo")
    shutil.copy(sorted((few / "4").iterdir())[0], folder / "known-4.png")
    shutil.copy(folder / "x001-7.png", folder / "copy-7.png")
    return folder


@pytest.fixture(scope="module")
def listener() -> Silent:
    return Silent()


@pytest.fixture(scope="module")
def result(mixed: Path, few: Path, listener: Silent) -> LabelResult:
    return label(mixed, labelled=few, out=mixed.parent / "out", progress=listener, **SMALL)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_photo_has_a_row(result: LabelResult, mixed: Path) -> None:
    found = rows(result.folder / "labels.csv")
    assert list(found[0]) == ["path", "label", "confidence", "best", "second", "decided"]
    assert {Path(row["path"]) for row in found} == set(mixed.rglob("*.png"))
    by_name = {Path(row["path"]).name: row for row in found}
    assert by_name["broken.png"]["decided"] == "unreadable"
    assert by_name["known-4.png"] | {"path": ""} == {"path": "", "label": "4", "confidence": "1.0000", "best": "4", "second": "",
                                                     "decided": "given"}  # fmt: skip
    assert by_name["copy-7.png"] | {"path": ""} == by_name["x001-7.png"] | {"path": ""}
    for row in found:
        assert bool(row["label"]) == (row["decided"] in ("spread+head agree", "given"))
        if row["decided"] == "spread+head agree":
            assert row["label"] == row["best"] != row["second"]
            assert float(row["confidence"]) >= 0.6
    assert [(str(photo.path), photo.label) for photo in result.photos] == [(row["path"], row["label"]) for row in found]


def test_the_labels_are_right_though_the_folders_lie(result: LabelResult, listener: Silent) -> None:
    found = [photo for photo in result.photos if photo.decided == "spread+head agree"]
    assert len(found) > 60
    assert np.mean([photo.label == photo.path.stem[-1] for photo in found]) > 0.9
    told = [photo for photo in result.photos if photo.best]
    assert np.mean([photo.best == photo.path.stem[-1] for photo in told]) > 0.85
    warned = "\n".join(listener.warnings)
    assert "folders in" in warned and "no label is taken from them" in warned
    assert "broken.png" in warned


def test_the_json_counts(result: LabelResult) -> None:
    told = json.loads((result.folder / "label.json").read_text())
    assert told["photos"] == len(result.photos)
    assert told["labelled"] + told["unsure"] + told["given"] + len(told["unreadable"]) == told["photos"]
    assert told["labelled"] == sum(told["labelled_by_class"].values())
    assert told["given_by_class"] == {"0": 3, "1": 3, "4": 3, "7": 3}
    assert told["calibrated"] is True
    assert told["held_out"]["n"] == 12
    low, high = told["held_out"]["accuracy_interval"]
    assert low <= told["held_out"]["accuracy"] <= high


def test_the_data_set_can_be_read_and_holds_each_label_once(result: LabelResult, few: Path) -> None:
    dataset = read_dataset(result.folder / "dataset.csv")
    found = rows(result.folder / "dataset.csv")
    assert not dataset.notes and not dataset.set_aside
    assert set(dataset.classes) == {"0", "1", "4", "7"}
    assert sum(row["source"] == "given" for row in found) == 12
    assert {Path(row["path"]) for row in found if row["source"] == "given"} == set(few.rglob("*.png"))
    agreed = {str(one.path): one.label for one in result.photos if one.decided == "spread+head agree"}
    assert {row["path"]: row["label"] for row in found if row["source"] == "found"} == agreed
    # And labels.csv, too, those left open being left out.
    assert len(read_dataset(result.folder / "labels.csv")) == len(agreed) + 1


def test_the_model_is_an_ordinary_one(result: LabelResult, mixed: Path, few: Path, tmp_path: Path) -> None:
    guesses = {
        guess.path: guess for guess in predict(result.folder / "model", [mixed / "x001-7.png", mixed / "x003-1.png"])
    }
    assert [guess.label for guess in guesses.values()] == ["7", "1"]
    table = tmp_path / "truth.csv"
    own = sorted(mixed.rglob("x*.png"))
    table.write_text("path,label\n" + "".join(f"{path},{path.stem[-1]}\n" for path in own))
    measured = evaluate(result.folder / "model", table)
    assert measured.evaluation.accuracy > 0.85
    assert evaluate(result.folder / "model", few).evaluation.accuracy == 1


def test_the_page_needs_nothing_else(result: LabelResult) -> None:
    page = (result.folder / "labels.html").read_text()
    assert "http" not in page.split("</style>")[1], "the page must not reach for a network"
    assert page.count("data:image/jpeg;base64,") >= 4 * 3
    counts = json.loads((result.folder / "label.json").read_text())
    assert f"{counts['labelled']} of {counts['labelled'] + counts['unsure']}" in page
    assert "Left open" in page


def test_the_second_run_computes_nothing_and_writes_the_same(
    result: LabelResult, mixed: Path, few: Path, tmp_path: Path
) -> None:
    again = label(mixed, labelled=few, out=tmp_path / "again", **SMALL)
    assert again.computed == 0
    for name in ("labels.csv", "dataset.csv", "model/model.safetensors"):
        assert (again.folder / name).read_bytes() == (result.folder / name).read_bytes()
    # Into a folder of its own, and over it.
    label(mixed, labelled=few, out=tmp_path / "again", threshold=0.99, **SMALL)
    assert len(rows(tmp_path / "again" / "dataset.csv")) < len(rows(result.folder / "dataset.csv"))


def test_one_label_a_class_and_one_photo(mixed: Path, few: Path, tmp_path: Path) -> None:
    ones, single = tmp_path / "ones", tmp_path / "single"
    for name in "17":
        (ones / name).mkdir(parents=True)
        shutil.copy(sorted((few / name).iterdir())[0], ones / name / "a.png")
    single.mkdir()
    shutil.copy(mixed / "x003-1.png", single)
    found = label(single, labelled=ones, out=tmp_path / "out", threshold=0.0, **SMALL)
    assert [one.best for one in found.photos] == ["1"]
    told = found.to_dict()
    assert (told["calibrated"], told["held_out"]["n"], told["held_out"]["accuracy"]) == (False, 0, None)
    assert "not calibrated" in (found.folder / "labels.html").read_text()


def test_a_known_share_of_the_classes_counts(mixed: Path, few: Path, tmp_path: Path) -> None:
    sevens = {"0": 0.02, "1": 0.02, "4": 0.02, "7": 0.94}
    found = label(mixed, labelled=few, out=tmp_path / "out", prior=sevens, **SMALL)
    plain = label(mixed, labelled=few, out=tmp_path / "plain", **SMALL)
    assert sum(one.best == "7" for one in found.photos) > sum(one.best == "7" for one in plain.photos)


def test_the_labelled_may_lie_in_the_photos(mixed: Path, few: Path, tmp_path: Path) -> None:
    both, listener = tmp_path / "both", Silent()
    shutil.copytree(mixed, both)
    shutil.copytree(few, both / "few")
    found = label(both, labelled=both / "few", out=tmp_path / "out", progress=listener, **SMALL)
    assert not any(both / "few" in one.path.parents for one in found.photos)
    assert any("12 files of" in text and "left out" in text for text in listener.warnings)


def test_labelling_some_more_by_hand_chooses_the_same_engine(
    mixed: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Int8 is calibrated on some of the photos, and what it gives is kept for just that calibration."""
    seen: list[list[bytes]] = []

    def spy(network: Any, tap: Any, precision: Any, photos: Any, progress: Any) -> Any:
        seen.append([path.read_bytes() for path in photos])
        return chosen_engine(network, tap, precision, photos, progress)

    monkeypatch.setattr("greffon.jobs.label.job.chosen_engine", spy)
    more, rest = tmp_path / "more", tmp_path / "rest"
    shutil.copytree(few, more)
    shutil.copytree(mixed, rest)
    label(rest, labelled=more, out=tmp_path / "out", **SMALL)
    shutil.copy(rest / "x003-1.png", more / "1")  # copied
    shutil.move(rest / "x005-1.png", more / "1")  # moved
    again = label(rest, labelled=more, out=tmp_path / "out", **SMALL)
    assert seen[0] == seen[1]
    assert again.computed == 0
    assert again.to_dict()["given_by_class"]["1"] == 5


def test_one_photo_under_two_labels_is_left_out(mixed: Path, few: Path, tmp_path: Path) -> None:
    odd, listener = tmp_path / "odd", Silent()
    shutil.copytree(few, odd)
    (odd / "9").mkdir()
    shutil.copy(sorted((odd / "4").iterdir())[0], odd / "9" / "same.png")
    (odd / "empty").mkdir()
    found = label(mixed, labelled=odd, out=tmp_path / "out", progress=listener, **SMALL)
    warned = "\n".join(listener.warnings)
    assert "under two labels" in warned
    assert "the class '9' has no labelled photo left" in warned
    assert "'empty' is empty" in warned
    assert found.classes == ("0", "1", "4", "7")
    assert found.to_dict()["given_by_class"]["4"] == 2


def test_a_test_split_has_no_part_in_it(mixed: Path, few: Path, tmp_path: Path) -> None:
    table = tmp_path / "few.csv"
    own = sorted(few.rglob("*.png"))
    lines = [f"{path},{path.parent.name},{'train' if number % 3 else 'test'}" for number, path in enumerate(own)]
    table.write_text("path,label,split\n" + "\n".join(lines))
    found = label(mixed, labelled=table, out=tmp_path / "out", **SMALL)
    assert found.to_dict()["given_by_class"] == {"0": 2, "1": 2, "4": 2, "7": 2}


def test_bad_input_is_one_clear_error(mixed: Path, few: Path, tmp_path: Path) -> None:
    empty, one, rubbish, full = (tmp_path / name for name in ("empty", "one", "rubbish", "full"))
    for folder in (empty, rubbish, full):
        folder.mkdir()
    shutil.copytree(few / "1", one / "1")
    (rubbish / "a.png").write_bytes(b"nothing")
    (full / "thesis.txt").write_text("years of work")
    twice = tmp_path / "twice"
    for name in ("a", "b"):
        (twice / name).mkdir(parents=True)
        (twice / name / "x.png").write_bytes(encode(photo(1)))
    alike = tmp_path / "alike"
    alike.mkdir()
    shutil.copy(sorted((few / "4").iterdir())[0], alike)
    out = tmp_path / "out"
    cases: list[tuple[Path, Path, dict[str, Any], type[GreffonError], str]] = [
        (tmp_path / "nowhere", few, {}, DataError, "there is no such file or folder"),
        (mixed, tmp_path / "nowhere", {}, DataError, "there is no such file or folder"),
        (empty, few, {}, DataError, "holds no image files"),
        (rubbish, few, {}, DataError, "none of its 1 files is a readable image"),
        (mixed, empty, {}, DataError, "holds no image files"),
        (mixed, one, {}, DataError, "at least two classes, found 1"),
        (mixed, twice, {}, DataError, "every image stands under two labels"),
        (mixed, mixed.parent, {}, DataError, "lie in it, so their folder would be read as a class"),
        (mixed, mixed, {}, DataError, "lie in it"),
        (alike, few, {}, DataError, "none is left to label"),
        (mixed, few, {"out": mixed / "out"}, OptionError, "lies in the data"),
        (mixed, few, {"out": few / "out"}, OptionError, "lies in the data"),
        (mixed, few, {"out": full}, OptionError, "something else already"),
        (mixed, few, {"threshold": 1.5}, OptionError, "--threshold must be from 0 to 1"),
        (mixed, few, {"prior": {"0": 0.5, "1": 0.5}}, OptionError, "--prior must give each of 0, 1, 4, 7"),
        (mixed, few, {"prior": {"0": 0.5, "1": 0.5, "4": 0.5, "7": 0.5}}, OptionError, "1 in all"),
        (mixed, few, {"precision": "float8"}, OptionError, "precision"),
        (mixed, few, {"backbone": "vgg61"}, GreffonError, "vgg61"),
    ]
    for photos, labelled, options, kind, said in cases:
        with pytest.raises(GreffonError) as caught:
            label(photos, labelled=labelled, **{"out": out, **SMALL, **options})
        assert isinstance(caught.value, kind), (options, caught.value)
        assert said in caught.value.what, caught.value
        assert not out.exists(), said


def test_the_command(
    result: LabelResult,
    mixed: Path,
    few: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["greffon", "label", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    options = ["--labelled", few, "--size", 32, "--precision", "float32"]
    code, said, _ = call(mixed, *options, "--out", tmp_path / "out")
    assert code == 0
    told = result.to_dict()
    assert f"{told['labelled']} photos labelled, {told['unsure']} left open, 1 given already, 1 unreadable" in said
    assert "of 12 named rightly" in said
    assert str(tmp_path / "out" / "labels.html") in said
    code, said, _ = call(
        mixed, *options, "--out", tmp_path / "out", "--json", "--quiet", "--prior", "0=.25,1=.25,4=.25,7=.25"
    )
    assert code == 0
    assert json.loads(said)["training"]["prior"] == {"0": 0.25, "1": 0.25, "4": 0.25, "7": 0.25}
    for words, expected in [(["--prior", "7"], "cat=0.7,dog=0.3"), (["--threshold", "2"], "--threshold")]:
        code, _, said = call(mixed, *options, "--out", tmp_path / "none", *words)
        assert (code, said.count("error:")) == (2, 1)
        assert expected in said
        assert not (tmp_path / "none").exists()
