"""A list of files that are left out."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from drawn import write_classes
from greffon.datasets import path_in_table, read_dataset, without_excluded
from greffon.errors import DataError


def listed(file: Path, paths: list[str]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "finding", "reason"])
        writer.writerows([path, "label-error", "a, with a comma"] for path in paths)
    return file


def test_files_are_left_out_by_absolute_and_by_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = write_classes(tmp_path / "photos", {"cat": 3, "dog": 3})
    file = listed(tmp_path / "exclude.csv", [str(photos / "cat" / "000.png"), "photos/dog/../dog/001.png"])
    for data in (photos, Path("photos")):
        monkeypatch.chdir(tmp_path)
        dataset = without_excluded(read_dataset(data), file)
        assert [path.name for path in dataset.paths] == ["001.png", "002.png", "000.png", "002.png"]
        assert dataset.labels.tolist() == [0, 0, 1, 1]
        assert dataset.notes == (f"2 files are left out, as {file} lists them",)
    assert without_excluded(read_dataset(photos), None).paths == read_dataset(photos).paths


def test_what_is_not_in_the_data_is_named(tmp_path: Path) -> None:
    photos = write_classes(tmp_path / "photos", {"cat": 3, "dog": 3})
    file = listed(tmp_path / "exclude.csv", ["elsewhere/1.png", *(f"photos/cat/{name}.png" for name in "abc"), "photos/cat/002.png"])
    dataset = without_excluded(read_dataset(photos), file)
    assert len(dataset) == 5
    assert dataset.notes[1] == (
        f"4 paths that {file} lists are not in {photos}, and leave nothing out: elsewhere/1.png, photos/cat/a.png, photos/cat/b.png"
        " and 1 more"
    )
    empty = without_excluded(read_dataset(photos), listed(tmp_path / "empty.csv", []))
    assert (len(empty), empty.notes) == (6, ())


def test_names_that_are_no_text(tmp_path: Path) -> None:
    photos = write_classes(tmp_path / "photos", {"cat": 2, "dog": 2})
    odd = Path(str(photos / "cat") + "/\udcff.png")
    try:
        (photos / "cat" / "000.png").rename(odd)
    except OSError:
        pytest.skip("this disk has no such names")
    dataset = without_excluded(read_dataset(photos), listed(tmp_path / "exclude.csv", [path_in_table(odd)]))
    assert len(dataset) == 3


def test_files_that_were_set_aside_need_no_second_word(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 2, "dog": 2})
    table = tmp_path / "data.csv"
    table.write_text("path,label\ncat/000.png,cat\ndog/000.png,dog\ngone.png,dog\n")
    dataset = read_dataset(table)
    assert len(dataset.set_aside) == 1
    left = without_excluded(dataset, listed(tmp_path / "exclude.csv", ["gone.png"]))
    assert (len(left), left.set_aside) == (2, ())


def test_bad_lists_are_one_clear_error(tmp_path: Path) -> None:
    photos = write_classes(tmp_path / "photos", {"cat": 2, "dog": 2})
    dataset = read_dataset(photos)
    everything = listed(tmp_path / "all.csv", [str(path) for path in dataset.paths])
    nameless, binary = tmp_path / "nameless.csv", tmp_path / "binary.csv"
    nameless.write_text("file,label\na,b\n")
    binary.write_bytes(b"\xff\xfe\x00")
    for file, said in [
        (everything, "names all 4 files"),
        (nameless, "expected a column 'path'"),
        (binary, "must be CSV in UTF-8"),
        (tmp_path / "nowhere.csv", "cannot be read"),
        (photos, "cannot be read"),
    ]:
        with pytest.raises(DataError, match=said):
            without_excluded(dataset, file)
