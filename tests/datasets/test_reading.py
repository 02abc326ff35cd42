"""What a folder or a table says of itself, and what is said when it says nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drawn import encode, photo, write_classes
from greffon.datasets import Dataset, read_dataset, read_photos
from greffon.errors import DataError


def rows(dataset: Dataset) -> list[tuple[str, str, str, str]]:
    """(file name, class, split, domain) of every image."""
    names = [dataset.classes[label] if label >= 0 else "" for label in dataset.labels]
    return list(zip((path.name for path in dataset.paths), names, dataset.splits, dataset.domains, strict=True))


def table(root: Path, text: str, name: str = "data.csv") -> Path:
    (root / name).write_bytes(text.encode())
    return root / name


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encode(photo(number, 8, 8)))
    return tmp_path


# --- folders ---------------------------------------------------------------------------------------------------


def test_a_folder_per_class(tmp_path: Path) -> None:
    write_classes(tmp_path, {"zebra": 2, "ape": 1, "Éléphant": 1, "漢字 🌱": 1})
    (tmp_path / "ape" / "inner" / "deeper").mkdir(parents=True)
    (tmp_path / "ape" / "inner" / "deeper" / "x").write_bytes(encode(photo(9)))
    (tmp_path / "ape" / ".hidden.png").write_bytes(b"")
    (tmp_path / "ape" / "notes.txt").write_bytes(b"")
    (tmp_path / "void").mkdir()
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("ape", "zebra", "Éléphant", "漢字 🌱")
    assert [name for name, *_ in rows(dataset)] == ["000.png", "x", "000.png", "001.png", "000.png", "000.png"]
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2, 3]
    assert dataset.labels.dtype == np.int64
    assert set(dataset.splits) == {""}
    assert any("'void' is empty" in note for note in dataset.notes)
    assert any("1 files are no images" in note for note in dataset.notes)


def test_train_val_and_test(tmp_path: Path) -> None:
    for folder, counts in {"Train": {"b": 2, "a": 1}, "valid": {"a": 1}, "test": {"c": 1}}.items():
        write_classes(tmp_path / folder, counts)
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("a", "b", "c")
    assert dataset.splits == ("train", "train", "train", "test", "val")
    assert [row[1] for row in rows(dataset)] == ["a", "b", "b", "c", "a"]


@pytest.mark.parametrize("beside", ["__MACOSX", "labels"])
def test_what_lies_beside_the_splits_is_no_class(tmp_path: Path, beside: str) -> None:
    for folder in ("train", "test"):
        write_classes(tmp_path / folder, {"a": 1, "b": 1})
    write_classes(tmp_path, {beside: 1})
    (tmp_path / "cover.png").write_bytes(encode(photo(1)))
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("a", "b")
    assert len(dataset) == 4
    assert any(beside in note and "cover.png" in note for note in dataset.notes)


def test_one_split_alone(tmp_path: Path) -> None:
    for role in ("train", "test"):
        write_classes(tmp_path / role / role, {"a": 1, "b": 1})
        dataset = read_dataset(tmp_path / role)
        assert dataset.classes == ("a", "b")
        assert set(dataset.splits) == {role}


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    dataset = read_dataset(write_classes(tmp_path, {"bus": 1, "car": 1, "train": 1}))
    assert dataset.classes == ("bus", "car", "train")
    assert set(dataset.splits) == {""}


def test_domains(tmp_path: Path) -> None:
    for domain in ("photo", "art"):
        write_classes(tmp_path / domain, {"cat": 1, "dog": 1})
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.domains == ("art", "art", "photo", "photo")
    assert any("domains" in note for note in dataset.notes)


def test_images_without_classes(images: Path) -> None:
    dataset = read_dataset(images, labelled=False)
    assert dataset.labels.tolist() == [-1] * 4
    with pytest.raises(DataError, match="4 images but no class"):
        read_dataset(images)


def test_loose_images_beside_classes_are_left_out_with_a_note(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "loose.png").write_bytes(encode(photo(3)))
    dataset = read_dataset(tmp_path)
    assert len(dataset) == 2
    assert any("loose.png" in note for note in dataset.notes)
    assert len(read_dataset(tmp_path, labelled=False)) == 3


def test_links(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", {"a": 2, "b": 1})
    write_classes(tmp_path / "outside", {"c": 3})
    write_classes(tmp_path / "secret", {"d": 3})
    (root / "a" / "round").symlink_to(root / "a")
    (root / "b" / "up").symlink_to(root)
    (root / "b" / "far up").symlink_to(tmp_path)  # everything else of the user's lies there
    (root / "b" / "self").symlink_to(root / "b" / "self")
    (root / "b" / "broken.png").symlink_to(root / "nothing.png")
    (root / "b" / "good.png").symlink_to(root / "a" / "000.png")
    (root / "c").symlink_to(tmp_path / "outside" / "c")
    dataset = read_dataset(root)
    assert dataset.classes == ("a", "b", "c")
    assert np.bincount(dataset.labels).tolist() == [2, 4, 3]  # b: its own, self, broken and good; the scan tells which
    assert not any("secret" in str(path) for path in dataset.paths)
    assert sorted(path.name for path, _ in dataset.set_aside) == ["far up", "round", "up"]


def test_a_link_to_itself_beside_the_classes_hides_nothing(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert read_dataset(tmp_path).classes == ("a", "b")


def test_names_that_are_no_unicode_stay_apart_and_can_be_printed(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"caf\xe8"):
        (tmp_path / os.fsdecode(name)).mkdir()
        (tmp_path / os.fsdecode(name) / "a.png").write_bytes(encode(photo(1)))
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("caf\\xe8", "caf\\xe9")
    "".join(dataset.classes).encode("utf-8")
    assert all(path.is_file() for path in dataset.paths)


def test_folders_a_thousand_deep(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    here = os.open(tmp_path / "a", os.O_RDONLY)
    depth = 0
    try:
        for _ in range(1100):
            os.mkdir("d", dir_fd=here)  # a path this long can only be made step by step
            inner = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here, depth = inner, depth + 1
    finally:
        os.close(here)
    try:
        assert depth == 1100
        assert len(read_dataset(tmp_path)) == 2
    finally:  # pytest's own clearing away would be too deep for Python
        subprocess.run(["rm", "-rf", tmp_path / "a"], check=True)


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1, "closed": 1})
    scandir = os.scandir

    def guarded(path: os.PathLike[str] | str) -> object:
        if Path(path) in closed:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    closed = {tmp_path / "closed"}
    monkeypatch.setattr(os, "scandir", guarded)
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("a", "b")
    assert dataset.set_aside == ((tmp_path / "closed", "the folder cannot be read (Permission denied)"),)
    assert not any("empty" in note for note in dataset.notes)
    closed.add(tmp_path)
    with pytest.raises(DataError, match="Permission denied"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("name", ["missing", "x" * 300, "y/" * 3000 + "z", "a\0b", "~nobody-of-this-name/x"])
def test_what_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"there is no such|cannot be looked at"):
        read_dataset(name if name.startswith("~") else tmp_path / name)


@pytest.mark.parametrize("labelled", [True, False])
def test_folders_without_images(tmp_path: Path, labelled: bool) -> None:
    with pytest.raises(DataError, match="no image files"):
        read_dataset(tmp_path, labelled=labelled)
    (tmp_path / "a").mkdir()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match="no image files"):
        read_dataset(tmp_path, labelled=labelled)


# --- tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n"])
def test_csv(images: Path, delimiter: str, newline: str, start: str) -> None:
    lines = [
        "Path,label,split,domain",
        "0.png,zèbre,train,x",
        "",
        "1.png, ape ,Test,y",
        '"2.png","a ""q""",valid,',
        "3.png,,,",
    ]
    text = start + newline.join(lines).replace(",", delimiter) + newline
    dataset = read_dataset(table(images, text), labelled=False)
    assert rows(dataset) == [("0.png", "zèbre", "train", "x"), ("1.png", "ape", "test", "y"),
                             ("2.png", 'a "q"', "val", ""), ("3.png", "", "", "")]  # fmt: skip
    assert dataset.classes == ("zèbre", "ape", 'a "q"')  # as they first appear
    assert all(path.is_file() for path in dataset.paths)


def test_signs_that_python_takes_for_line_ends_may_stand_in_a_name(images: Path) -> None:
    dataset = read_dataset(table(images, '0.png,a\u2028b\n1.png,"c\x85d"\n2.png,"e\nf"\n'.join(["path,label\n", ""])))
    assert dataset.classes == ("a\u2028b", "c\x85d", "e\nf")


def test_a_row_without_a_label_is_left_out_with_a_note(images: Path) -> None:
    dataset = read_dataset(table(images, "path,label\n0.png,a\n1.png,\n2.png,b\n"))
    assert [path.name for path in dataset.paths] == ["0.png", "2.png"]
    assert any("1 images have no label" in note and "1.png" in note for note in dataset.notes)
    with pytest.raises(DataError, match="no class"):
        read_dataset(table(images, "path,label\n0.png,\n1.png,\n"))
    with pytest.raises(DataError, match="no class"):
        read_dataset(table(images, "path\n0.png\n"))


def test_a_file_that_is_not_there_is_set_aside(images: Path) -> None:
    long = "l" * 5000 + ".png"
    dataset = read_dataset(table(images, f"path,label\n0.png,a\ngone.png,b\n{long},b\n1.png,c\n"))
    assert [path.name for path in dataset.paths] == ["0.png", "1.png"]
    assert dataset.classes == ("a", "c")
    assert [(path.name, reason) for path, reason in dataset.set_aside] == [
        ("gone.png", "row 2: there is no such file"),
        (long, "row 3: there is no such file"),
    ]
    with pytest.raises(DataError, match="none of its 1 files is there"):
        read_dataset(table(images, "path,label\ngone.png,a\n"))


def test_parquet(images: Path) -> None:
    columns = {
        "Path": ["0.png", "1.png", "2.png", "3.png"],
        "label": pa.array([3, None, 1, 3], pa.int64()),
        "split": pa.array(["train", "test", None, "val"]).dictionary_encode(),
        "domain": pa.array([b"x", b"y", "é".encode(), None], pa.binary()),
        "extra": [[1], [2], [3], [4]],
    }
    pq.write_table(pa.table(columns), images / "t.parquet")
    dataset = read_dataset(images / "t.parquet", labelled=False)
    assert rows(dataset) == [("0.png", "3", "train", "x"), ("1.png", "", "test", "y"), ("2.png", "1", "", "é"),
                             ("3.png", "3", "val", "")]  # fmt: skip
    floats = pa.table({"path": ["0.png", "1.png"], "label": pa.array([1.5, float("nan")])})
    pq.write_table(floats, images / "f.parquet")
    assert read_dataset(images / "f.parquet").classes == ("1.5",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"), ("\n\n", "empty"), ("label\na\n", "expected a column 'path'"),
        ("path,label\n", "no image files"), ("path,label\n" + "x" * 200_000 + ",a\n", "not a CSV"),
        ("path,label\n0.png\n", "row 1 has 1 fields, the header has 2"), ("path,label\n,a\n", "row 1 has no path"),
        ("path,label,split\n0.png,a,later\n", "must be train, val or test, got 'later'"),
        ("path,label,Label\n0.png,a,b\n", "2 columns called 'label'"),
    ],
)  # fmt: skip
def test_bad_csv(images: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_dataset(table(images, text))


def test_bad_bytes(images: Path) -> None:
    pq.write_table(pa.table({"path": ["0.png"] * 50, "label": ["a"] * 50}), images / "t.parquet")
    data = (images / "t.parquet").read_bytes()
    rng = np.random.default_rng(0)
    bad = [b"\xff\xfe\0p", b"PAR1", b"PAR1" * 9, data[: len(data) // 2]]
    for _ in range(100):
        mutant = bytearray(data)
        for place in rng.integers(4, len(data), 4):
            mutant[place] ^= 1 << int(rng.integers(0, 8))
        bad.append(bytes(mutant))
    refused = 0
    for number, bytes_ in enumerate(bad):
        (images / "bad").write_bytes(bytes_)
        try:
            read_dataset(images / "bad")
        except DataError:
            refused += 1
        assert number >= 4 or refused == number + 1
    twins = pa.table([pa.array(["0.png"]), pa.array(["a"]), pa.array(["b"])], names=["path", "label", "label"])
    pq.write_table(twins, images / "twins.parquet")
    with pytest.raises(DataError, match="2 columns called 'label'"):
        read_dataset(images / "twins.parquet")
    pq.write_table(pa.table({"file": ["0.png"]}), images / "other.parquet")
    with pytest.raises(DataError, match="expected a column 'path', got \\['file'\\]"):
        read_dataset(images / "other.parquet")


def test_photos_are_read_without_any_label(tmp_path: Path) -> None:
    """Folders called train and test, or alike as domains are, mean nothing here, and no file beside them is passed over."""
    write_classes(tmp_path / "all" / "train", {"cat": 1, "dog": 1})
    write_classes(tmp_path / "all" / "test", {"cat": 1, "dog": 1})
    (tmp_path / "all" / "beside.png").write_bytes(encode(photo(9)))
    (tmp_path / "all" / "list.txt").write_text("x")
    found = read_photos(tmp_path / "all")
    assert set(found.paths) == set((tmp_path / "all").rglob("*.png"))
    assert (set(found.labels.tolist()), found.classes, set(found.splits), set(found.domains)) == ({-1}, (), {""}, {""})
    assert "the names of 4 folders" in found.notes[0]
    assert "1 files are no images" in found.notes[1]
    apart = read_photos(tmp_path / "all", apart=tmp_path / "all" / "test")
    assert set(apart.paths) == {path for path in found.paths if "test" not in path.relative_to(tmp_path).parts}
    assert "2 files of" in apart.notes[0]
    table = tmp_path / "list.csv"
    table.write_text("path,label,split\nall/beside.png,cat,test\n")
    listed = read_photos(table)
    assert (listed.labels.tolist(), listed.classes, listed.splits) == ([-1], (), ("",))


def test_no_photos_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, said in (("empty", "holds no image files"), ("nowhere", "there is no such file or folder")):
        with pytest.raises(DataError, match=said):
            read_photos(tmp_path / name)
    write_classes(tmp_path / "all", {"cat": 1})
    with pytest.raises(DataError, match="holds no image files"):
        read_photos(tmp_path / "all", apart=tmp_path / "all" / "cat")
