"""What the user names becomes blocks of images. Ray has no part in it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shards import files_of, write_folder, write_shard, write_table

from greffon.activations import Encoded
from greffon.distributed.places import is_address, listed, read_object
from greffon.distributed.sources import find_source, items
from greffon.errors import DataError, ImageError, OptionError

FILES = files_of(10)


def contents(data: Path | str, size: int = 4) -> list[tuple[str | None, bytes]]:
    """The label and the bytes of every image, in the order of the rows that would be written."""
    found = []
    for block in find_source(data, size).blocks:
        for _, label, one in items(block):
            assert not hasattr(one, "shape")
            found.append((label, one.read() if isinstance(one, Encoded) else Path(str(one)).read_bytes()))
    return found


IN_ORDER = list(FILES)
BY_CLASS = sorted(FILES, key=lambda one: one[0])  # a stable sort: cat first, each class in the order of its numbers


def test_a_folder_per_class_in_blocks(tmp_path: Path) -> None:
    source = find_source(write_folder(tmp_path / "photos", FILES), 4)
    assert [block.images for block in source.blocks] == [4, 4, 2]
    assert source.local
    assert contents(tmp_path / "photos") == BY_CLASS


def test_the_same_folder_at_an_address(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", FILES)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    address = f"file://{tmp_path}/photos"
    assert is_address(address) and not is_address(tmp_path)
    assert not find_source(address).local
    assert contents(address) == BY_CLASS


def test_roles_above_the_classes_are_no_labels_at_an_address(tmp_path: Path) -> None:
    for role in ("train", "test"):
        write_folder(tmp_path / role, FILES[:2])
    assert [label for label, _ in contents(f"file://{tmp_path}")] == ["cat", "dog", "cat", "dog"]


@pytest.mark.parametrize("struct", [False, True])
def test_a_table_of_bytes_has_a_block_for_each_row_group(tmp_path: Path, struct: bool) -> None:
    table = write_table(tmp_path / "images.parquet", FILES, rows=4, struct=struct)
    assert [block.images for block in find_source(table).blocks] == [4, 4, 2]
    assert contents(table) == IN_ORDER
    names = [name for block in find_source(table).blocks for name, _, _ in items(block)]
    assert names == [f"{i:03}.png" for i in range(10)]


def test_a_folder_of_tables_of_paths_is_read_by_the_workers(tmp_path: Path) -> None:
    write_folder(tmp_path, FILES)
    names = [f"{label}/{i:03}.png" for i, (label, _) in enumerate(FILES)]
    (tmp_path / "tables").mkdir()
    for k in (0, 1):
        some = slice(5 * k, 5 * k + 5)
        table = pa.table({"path": [f"../{name}" for name in names[some]], "label": [one[0] for one in FILES[some]]})
        pq.write_table(table, tmp_path / "tables" / f"{k}.parquet")
    assert [block.images for block in find_source(tmp_path / "tables", 4).blocks] == [4, 1, 4, 1]
    assert contents(tmp_path / "tables") == IN_ORDER


def test_a_manifest_of_local_files_is_read_as_ever(tmp_path: Path) -> None:
    write_folder(tmp_path, FILES)
    rows = [f"{label}/{i:03}.png,{label}" for i, (label, _) in enumerate(FILES)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows, "gone.png,cat"]))
    assert contents(tmp_path / "list.csv") == IN_ORDER
    assert find_source(tmp_path / "list.csv").set_aside[0][0].endswith("gone.png")


def test_shards_one_a_folder_a_pattern_and_braces(tmp_path: Path) -> None:
    for k in (0, 1):
        write_shard(tmp_path / "shards" / f"set-{k:03}.tar", FILES[5 * k : 5 * k + 5])
    assert contents(tmp_path / "shards" / "set-000.tar") == IN_ORDER[:5]
    for data in ("shards", "shards/*.tar", "shards/set-{000..001}.tar", "shards/{set-000,set-001}.tar"):
        assert contents(str(tmp_path / data)) == IN_ORDER, data
        assert len(find_source(str(tmp_path / data)).blocks) == 2
    assert contents(f"file://{tmp_path}/shards/set-{{000..001}}.tar") == IN_ORDER


@pytest.mark.parametrize("part", [0.97, 0.6, 0.31])
def test_a_shard_that_breaks_off_is_damaged_wherever_it_does(tmp_path: Path, part: float) -> None:
    shard = write_shard(tmp_path / "a.tar", FILES[:3])
    data = shard.read_bytes().rstrip(b"\0")
    shard.write_bytes(data[: int(part * len(data)) // 512 * 512])
    with pytest.raises(DataError, match=r"a\.tar: a damaged shard"):
        contents(shard)


def test_garbage_between_members_is_no_end(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", FILES[:2])
    second = write_shard(tmp_path / "b.tar", FILES[:1]).read_bytes()
    data = shard.read_bytes().rstrip(b"\0")
    data += b"\0" * (-len(data) % 512)
    shard.write_bytes(data + b"\x7f" * 512 + second)
    with pytest.raises(DataError, match="breaks off"):
        contents(shard)


def test_a_damaged_table_is_set_aside_and_named(tmp_path: Path) -> None:
    write_table(tmp_path / "t" / "a.parquet", FILES[:4])
    (tmp_path / "t" / "b.parquet").write_bytes((tmp_path / "t" / "a.parquet").read_bytes()[:-20])
    source = find_source(tmp_path / "t")
    assert [(Path(place).name, "damaged" in reason) for place, reason in source.set_aside] == [("b.parquet", True)]
    assert contents(tmp_path / "t") == IN_ORDER[:4]


def test_one_unreadable_cell_costs_one_image(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.parquet", [*FILES[:2], ("cat", b"")])
    assert contents(table)[2] == ("cat", b"")


def test_what_changes_changes_its_block(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", FILES[:4])
    before = [block.content for block in find_source(folder, 2).blocks]
    (folder / "dog" / "000.png").write_bytes(FILES[9][1])
    after = [block.content for block in find_source(folder, 2).blocks]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("file:///no/such/folder", "there is no such file or folder"),
        ("nothing-*.tar", "nothing matches"),
        ("file:///x/*.tar", "does not work at an address"),
        ("quux://bucket/photos", "cannot be reached"),
    ],
)
def test_what_is_not_there_is_one_error(data: str, told: str) -> None:
    with pytest.raises((DataError, OptionError), match=told) as raised:
        find_source(data)
    assert data.split("*")[0] in str(raised.value)


def test_an_object_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no such object"):
        read_object(f"file://{tmp_path}/gone.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.png").write_bytes(b"123")
    (tmp_path / "_hidden").write_bytes(b"")
    assert [Path(one.place).name for one in listed(f"file://{tmp_path}")] == ["x.png"]
    assert read_object(listed(f"file://{tmp_path}")[0].place) == b"123"
