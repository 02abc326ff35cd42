"""Names for clusters: the files that are read, whose name wins, and the data set that they make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from greffon.datasets import read_dataset
from greffon.errors import DataError, OptionError
from greffon.jobs.cluster.dataset import check_dataset, write_dataset
from greffon.jobs.cluster.naming import Names, read_names


def test_the_nearest_name_wins() -> None:
    names = Names({"0": "cat", "1": "dog", "1.2": "wolf", "1.1.2": "", "2": ""}, {"/a.jpg": "fox", "/b.jpg": ""})
    assert names.of("/x.jpg", 0, "1.2") == "cat"
    assert names.of("/x.jpg", 1, "2.1") == "wolf"
    assert names.of("/x.jpg", 1, "1.1") == "dog"
    assert names.of("/x.jpg", 1, "1.2") == ""
    assert names.of("/x.jpg", 1, "") == "dog"
    assert names.of("/x.jpg", 2, "1") == ""
    assert names.of("/x.jpg", 10, "1") == ""
    assert names.of("/a.jpg", 0, "1") == "fox"
    assert names.of("/b.jpg", 0, "1") == ""


def test_both_kinds_of_file_say_the_same(tmp_path: Path) -> None:
    as_json, as_csv = tmp_path / "names.json", tmp_path / "names.csv"
    as_json.write_text(json.dumps({"clustering": "abc", "names": {"0": " cat ", "3.1": "été,"}, "photos": {"/a b.jpg": ""}}))
    as_csv.write_text('\ufeffcluster,name,path\r\n0,cat,\r\n3.1,"été, ",\r\n,,/a b.jpg\r\n', encoding="utf-8")
    one, other = read_names(as_json), read_names(as_csv)
    assert one.clusters == other.clusters == {"0": "cat", "3.1": "été,"}
    assert one.photos == other.photos == {"/a b.jpg": ""}
    assert (one.clustering, other.clustering) == ("abc", "")
    as_csv.write_text("name,cluster\ncat,0\n\ndog,1\n")
    assert read_names(as_csv).clusters == {"0": "cat", "1": "dog"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected the columns cluster,name, got nothing"),
        ("path,label\na,b", "expected the columns cluster,name, got path, label"),
        ("cluster,name\n0", "row 1 has 1 fields"),
        ("cluster,name\n0,a\n0,b", "names '0' a second time"),
        ("cluster,name\ncat,0", "'cat' is no cluster"),
        ("cluster,name\n3.4,a", "'3.4' is no cluster"),
        ("cluster,name\n0,a/b", "cannot be the name of a folder"),
        ("cluster,name\n0,..", "starts or ends with a dot"),
        ("cluster,name\n0,a\x07", "a sign that cannot be seen"),
        ("cluster,name\n0," + "x" * 121, "longer than 120 bytes"),
        ("cluster,name\n0,", "names nothing"),
        ('{"names": ', "damaged JSON"),
        ("[1]", "expected an object"),
        ('{"names": {"0": 1}}', "must give clusters names"),
        ('{"photos": {}}', "must give clusters names"),
        ('{"names": {"0": "a"}, "photos": [1]}', "must give clusters names"),
        ("[" * 100000, "nested"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "names"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        read_names(file)
    assert said in caught.value.what
    assert str(file) in caught.value.what


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_names(tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot be read"):
        read_names(tmp_path)
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_names(tmp_path / "x")


def photos(root: Path) -> list[tuple[Path, str]]:
    rows = []
    for folder, name in (("a", "cat"), ("b", "cat"), ("c", "cat"), ("d", "big dog")):
        for file in ("IMG.jpg", "img.jpg"):
            path = root / folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{folder}/{file}")
            rows.append((path, name))
    return rows


def test_links_lead_to_every_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = photos(Path("photos"))  # relative: the links must still hold
    write_dataset(tmp_path / "out" / "deep", rows)
    dataset = read_dataset(tmp_path / "out" / "deep")
    assert set(dataset.classes) == {"cat", "big dog"}
    assert sorted(path.read_text() for path in dataset.paths) == sorted(path.read_text() for path, _ in rows)
    cats = [path.name for path in (tmp_path / "out" / "deep" / "cat").iterdir()]
    assert len({name.casefold() for name in cats}) == 6


def test_a_table_instead(tmp_path: Path) -> None:
    rows = photos(tmp_path / "photos")
    write_dataset(tmp_path / "new" / "data.csv", rows)
    dataset = read_dataset(tmp_path / "new" / "data.csv")
    assert [(path, dataset.classes[i]) for path, i in zip(dataset.paths, dataset.labels, strict=True)] == rows


def test_where_a_data_set_cannot_go(tmp_path: Path) -> None:
    data, full = tmp_path / "data", tmp_path / "full"
    for folder in (data, full, tmp_path / "x.csv"):
        folder.mkdir()
    (full / "thesis.txt").write_text("years of work")
    for target, said in ((data / "in", "lies in the data"), (full, "something else already"), (full / "thesis.txt", "is a file"),
                         (tmp_path / "x.csv", "is a folder")):  # fmt: skip
        with pytest.raises(OptionError) as caught:
            check_dataset(target, data)
        assert said in caught.value.what
        assert caught.value.what.startswith(f"--to-dataset {target}")
    check_dataset(tmp_path / "new", data)
    check_dataset(tmp_path / "new.csv", data)
    with pytest.raises(OptionError, match="no photo is left"):
        write_dataset(tmp_path / "new", [])
    with pytest.raises(OptionError, match="cannot be written"):
        write_dataset(full / "thesis.txt" / "x", photos(tmp_path / "photos"))
