"""The whole of ``suggest``, on handwritten digits with VGG16's real weights at 32 pixels."""

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
from greffon import label, suggest
from greffon.cli import main
from greffon.datasets import read_dataset
from greffon.demo import write_digits
from greffon.errors import DataError, GreffonError, OptionError
from greffon.images import decode, read_bytes
from greffon.jobs.suggest import SuggestResult
from greffon.progress import Silent

pytestmark = pytest.mark.usefixtures("vgg16_package")

#: Small, and one precision on every machine.
SMALL: dict[str, Any] = {"size": 32, "precision": "float32"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four digits in folders whose names say nothing, with what else lies in a folder; a file's name ends with the truth."""
    folder = tmp_path_factory.mktemp("suggest")
    write_digits(folder / "digits", images=300)
    for name in "0147":
        for number, path in enumerate(sorted((folder / "digits" / name).iterdir())):
            target = folder / "photos" / ("a", "b/deep")[number % 2] / f"{path.stem}-{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
    own = sorted((folder / "photos").rglob("*.png"))
    shutil.copy(own[0], folder / "photos" / "copy.png")
    (folder / "photos" / "nearly.jpg").write_bytes(encode(decode(read_bytes(own[1])), "JPEG", 85))
    (folder / "photos" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (folder / "photos" / "notes.txt").write_text("not a photo")
    return folder / "photos"


@pytest.fixture(scope="module")
def listener() -> Silent:
    return Silent()


@pytest.fixture(scope="module")
def result(photos: Path, listener: Silent) -> SuggestResult:
    return suggest(photos, out=photos.parent / "first", budget=12, progress=listener, **SMALL)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def truth(path: Path | str) -> str:
    return Path(path).stem[-1]


def filled(table: Path, to: Path, count: int = 1000) -> Path:
    """What a person makes of ``suggestions.csv``: the first labels filled in, the others left empty."""
    known = rows(table)
    with to.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(known[0]))
        writer.writeheader()
        writer.writerows(row | {"label": truth(row["path"]) if i < count else ""} for i, row in enumerate(known))
    return to


def contents(found: SuggestResult) -> list[bytes]:
    return [one.path.read_bytes() for one in found.photos]


def test_the_table_is_to_be_filled_in(result: SuggestResult, photos: Path, listener: Silent) -> None:
    found = rows(result.folder / "suggestions.csv")
    assert list(found[0]) == ["path", "label", "rank", "why"]
    assert [row["rank"] for row in found] == [str(i) for i in range(1, 13)]
    assert {row["label"] for row in found} == {""}
    assert all(Path(row["path"]).is_file() and row["why"].startswith("stands for") for row in found)
    assert len({row["path"] for row in found}) == 12
    assert not any("broken" in row["path"] for row in found)
    warned = "\n".join(listener.warnings)
    assert "broken.png" in warned and "no label is taken from them" in warned
    told = json.loads((result.folder / "suggest.json").read_text())
    assert (told["suggested"], told["copies"], told["labelled_by_class"]) == (12, 1, {})
    assert [Path(path).name for path in told["unreadable"]] == ["broken.png"]
    assert told["pool"] == len(list(photos.rglob("*.png"))) - 1  # one more that is nearly a copy, two fewer
    assert not (result.folder / "labelled.csv").exists()


def test_the_first_ones_show_every_digit(result: SuggestResult) -> None:
    assert {truth(one.path) for one in result.photos} >= set("0147")


def test_the_names_of_folders_and_files_have_no_part(result: SuggestResult, photos: Path, tmp_path: Path) -> None:
    """Labels are permuted: every photo goes under the name of another class, in another order."""
    names = "zyxwvut"
    every = [path for path in sorted(photos.rglob("*.png")) if path.name not in ("broken.png", "copy.png")] + [photos / "nearly.jpg"]
    rng = np.random.default_rng(0)
    for number, at in enumerate(rng.permutation(len(every))):
        target = tmp_path / "photos" / names[int(rng.integers(7))] / f"{number:04}{every[at].suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(every[at], target)
    again = suggest(tmp_path / "photos", out=tmp_path / "out", budget=12, **SMALL)
    assert contents(again) == contents(result)
    assert again.computed == 0
    # And the labels of a table.
    table = tmp_path / "table.csv"
    table.write_text("path,label,split\n" + "".join(f"{path},{names[i % 7]},test\n" for i, path in enumerate(every)))
    assert contents(suggest(table, out=tmp_path / "by-table", budget=12, **SMALL)) == contents(result)


def test_the_second_run_computes_nothing_and_writes_the_same(result: SuggestResult, photos: Path, tmp_path: Path) -> None:
    again = suggest(photos, out=tmp_path / "again", budget=12, **SMALL)
    assert again.computed == 0
    for name in ("suggestions.csv", "suggestions.html", "suggestions.png"):
        assert (again.folder / name).read_bytes() == (result.folder / name).read_bytes()
    suggest(photos, out=tmp_path / "again", budget=3, **SMALL)  # over it: nothing was filled in
    assert len(rows(tmp_path / "again" / "suggestions.csv")) == 3


def test_it_goes_on_from_the_labels(result: SuggestResult, photos: Path, tmp_path: Path) -> None:
    labels = filled(result.folder / "suggestions.csv", tmp_path / "filled.csv", 10)
    second = suggest(photos, out=tmp_path / "second", budget=8, labelled=labels, **SMALL)
    before = {one.path for one in result.photos[:10]}
    assert not before & {one.path for one in second.photos}
    assert second.computed == 0
    assert all(" % or " in one.why for one in second.photos)
    assert {row["path"]: row["label"] for row in rows(tmp_path / "second" / "labelled.csv")} == {str(p): truth(p) for p in before}
    # The two tables together, a folder, and the same labels under other names of files: all say the same.
    both = filled(second.folder / "suggestions.csv", tmp_path / "filled-2.csv")
    third = suggest(photos, out=tmp_path / "third", budget=5, labelled=[labels, both], **SMALL)
    few = tmp_path / "few"
    for one in [*result.photos[:10], *second.photos]:
        (few / truth(one.path)).mkdir(parents=True, exist_ok=True)
        shutil.copy(one.path, few / truth(one.path) / f"{one.rank}-{one.path.name}")
    by_folder = suggest(photos, out=tmp_path / "by-folder", budget=5, labelled=few, **SMALL)
    assert contents(third) == contents(by_folder)
    assert sum(third.labelled_by_class().values()) == 18
    # Moved out of the photos, they still are what is gone on from.
    rest = tmp_path / "rest"
    shutil.copytree(photos, rest)
    for one in [*result.photos[:10], *second.photos]:
        (rest / one.path.relative_to(photos)).unlink()
    apart = suggest(rest, out=tmp_path / "apart", budget=5, labelled=few, **SMALL)
    assert not set(contents(apart)) & (set(contents(second)) | {path.read_bytes() for path in before})


def test_other_commands_read_the_table_that_was_filled_in(result: SuggestResult, photos: Path, tmp_path: Path) -> None:
    table = filled(result.folder / "suggestions.csv", tmp_path / "filled.csv", 10)
    dataset = read_dataset(table)
    assert len(dataset) == 10
    assert set(dataset.classes) <= set("0147")
    assert any("2 images have no label" in note for note in dataset.notes)
    told = label(photos, labelled=table, out=tmp_path / "labelled", **SMALL)
    assert sum(one.decided == "given" for one in told.photos) >= 10


def test_labels_that_were_filled_in_are_not_written_over(result: SuggestResult, photos: Path, tmp_path: Path) -> None:
    suggest(photos, out=tmp_path / "out", budget=4, **SMALL)
    table = tmp_path / "out" / "suggestions.csv"
    filled(table, table, 2)
    text = table.read_text()
    for labelled in ((), table):
        with pytest.raises(OptionError, match="labels filled in, which would be lost"):
            suggest(photos, out=tmp_path / "out", budget=4, labelled=labelled, **SMALL)
    assert table.read_text() == text


def test_all_of_them_one_and_all_the_same(photos: Path, tmp_path: Path) -> None:
    every = suggest(photos, out=tmp_path / "every", budget=10_000, **SMALL)
    assert len(every.photos) < every.pool  # the near-duplicates
    assert len({one.path for one in every.photos}) == len(every.photos)
    names = {one.path.name for one in every.photos}
    own = sorted(photos.rglob("*.png"))
    assert len(names & {"nearly.jpg", own[1].name}) <= 1 and len(names & {"copy.png", own[0].name}) <= 1
    single, same = tmp_path / "single", tmp_path / "same"
    for folder, count in ((single, 1), (same, 5)):
        folder.mkdir()
        for i in range(count):
            (folder / f"{i}.png").write_bytes(encode(photo(1, 64, 64)))
    for folder in (single, same):
        assert len(suggest(folder, out=tmp_path / f"{folder.name}-out", **SMALL).photos) == 1


def test_labels_of_one_class_and_photos_from_elsewhere(result: SuggestResult, photos: Path, tmp_path: Path) -> None:
    few, listener = tmp_path / "few", Silent()
    (few / "7").mkdir(parents=True)
    (few / "7" / "elsewhere.png").write_bytes(encode(photo(3, 64, 64)))
    found = suggest(photos, out=tmp_path / "out", budget=6, labelled=few, progress=listener, **SMALL)
    assert len(found.photos) == 6
    assert not any("%" in one.why for one in found.photos)
    assert any("labels of one class alone" in text for text in listener.warnings)


def test_the_pages_need_nothing_else(result: SuggestResult) -> None:
    page = (result.folder / "suggestions.html").read_text()
    assert "http:" not in page and "https:" not in page and "default-src 'none'" in page
    assert page.count("data:image/jpeg;base64,") == 12
    sheet = decode(read_bytes(result.folder / "suggestions.png"))
    assert sheet.shape[1] > sheet.shape[0] > 300


def test_bad_input_is_said_in_one_sentence(photos: Path, result: SuggestResult, tmp_path: Path) -> None:
    blank, none = tmp_path / "blank.csv", tmp_path / "none"
    blank.write_bytes((result.folder / "suggestions.csv").read_bytes())
    full, bad = tmp_path / "full", tmp_path / "bad"
    for folder in (none, full, bad):
        folder.mkdir()
    (full / "thesis.doc").write_text("important")
    (bad / "a.png").write_bytes(b"nothing")
    out = tmp_path / "out"
    cases: list[tuple[Path, dict[str, Any], type[GreffonError], str]] = [
        (photos, {"budget": 0}, OptionError, "--budget must be at least 1, got 0"),
        (photos, {"budget": -2}, OptionError, "--budget must be at least 1, got -2"),
        (none, {}, DataError, "holds no image files"),
        (bad, {}, DataError, "none of its 1 files is a readable image"),
        (tmp_path / "missing", {}, DataError, "no such file or folder"),
        (photos, {"labelled": blank}, DataError, "none of its 12 photos has a label yet"),
        (photos, {"labelled": tmp_path / "missing.csv"}, DataError, "no such file or folder"),
        (photos, {"labelled": photos.parent}, DataError, "lie in it"),
        (photos / "a", {"labelled": photos}, DataError, "lie in it"),
        (photos, {"out": photos / "out"}, OptionError, "lies in the data"),
        (photos, {"out": full}, OptionError, "something else already"),
        (photos, {"precision": "float8"}, OptionError, "precision"),
        (photos, {"backbone": "vgg61"}, GreffonError, "vgg61"),
    ]
    for data, options, kind, said in cases:
        with pytest.raises(GreffonError) as caught:
            suggest(data, **{"out": out, **SMALL, **options})
        assert isinstance(caught.value, kind), (options, caught.value)
        assert said in caught.value.what, caught.value
        assert not out.exists(), said


def test_the_command(
    result: SuggestResult, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["greffon", "suggest", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    options = ["--size", 32, "--precision", "float32"]
    code, said, _ = call(photos, *options, "--budget", 12, "--out", tmp_path / "out")
    assert code == 0
    assert f"12 of {result.pool} photos are worth labelling first; 1 unreadable" in said
    assert str(tmp_path / "out" / "suggestions.html") in said
    labels = filled(result.folder / "suggestions.csv", tmp_path / "filled.csv")
    code, said, _ = call(photos, *options, "--labels", labels, "--budget", 3, "--out", tmp_path / "next", "--json", "--quiet")
    assert code == 0
    told = json.loads(said)
    assert sum(told["labelled_by_class"].values()) == 12
    assert [one["rank"] for one in told["suggestions"]] == [1, 2, 3]
    code, _, said = call(photos, *options, "--budget", 0, "--out", tmp_path / "none")
    assert (code, said.count("error:")) == (2, 1)
    assert "--budget" in said
