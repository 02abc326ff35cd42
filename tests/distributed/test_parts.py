"""One block, its file and what that says of itself. Ray has no part in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from shards import files_of, write_folder, write_shard, write_table

from greffon.activations import LocalExecutor, Tap, TorchEngine
from greffon.distributed.embedding import embedded
from greffon.distributed.pipeline import BlockWorker
from greffon.distributed.sources import find_source
from greffon.distributed.writing import (
    MANIFEST,
    SCHEMA,
    Part,
    block_digest,
    part_name,
    read_part,
    remove_leavings,
    write_manifest,
    written,
)
from greffon.errors import DataError, OptionError
from greffon.heads import Representation
from growing import drawn_network

pytestmark = pytest.mark.usefixtures("one_thread")
FILES = files_of(6)
ENGINE = TorchEngine(drawn_network(), Tap("pooled"), "float32", batch=4)
TAKEN = Representation("last", "mean", "standard")


def do(data: Path, out: Path, number: int = 0) -> Part:
    block = find_source(data, 256).blocks[number]
    digest = block_digest(block, "f")
    written(str(out))
    return embedded(block, digest, part_name(number, digest), ENGINE, LocalExecutor(1), TAKEN, str(out))


def test_the_three_kinds_of_input_give_the_same_features(tmp_path: Path) -> None:
    in_order = sorted(FILES, key=lambda one: one[0])
    found = []
    for name, data in (
        ("folder", write_folder(tmp_path / "photos", in_order)),
        ("shard", write_shard(tmp_path / "a.tar", in_order)),
        ("table", write_table(tmp_path / "a.parquet", in_order, rows=10)),
    ):
        part = do(data, tmp_path / name)
        assert (part.rows, part.features, part.set_aside, part.fault) == (6, drawn_network().widths()[-1], (), "")
        table = pq.read_table(tmp_path / name / part.file)
        assert table.schema.remove_metadata().equals(SCHEMA)
        found.append((table["label"].to_pylist(), np.array(table["features"].to_pylist(), np.float32)))
    assert found[0][0] == [label for label, _ in in_order]
    for labels, features in found[1:]:
        assert labels == found[0][0] and np.array_equal(features, found[0][1])


def test_a_bad_image_is_named_in_the_part_and_a_damaged_shard_has_none(tmp_path: Path) -> None:
    part = do(write_shard(tmp_path / "a.tar", [*FILES, ("cat", b"no image")]), tmp_path / "out")
    assert part.rows == 6
    assert part.set_aside[0][0].endswith("a.tar/006.png") and part.set_aside[0][1].startswith("not an image")
    assert read_part(str(tmp_path / "out"), part.file) == part
    shard = write_shard(tmp_path / "b.tar", FILES)
    shard.write_bytes(shard.read_bytes()[:6000])
    part = do(shard, tmp_path / "other")
    assert part.fault.startswith(f"{shard}: a damaged shard") and written(str(tmp_path / "other")) == []


def test_a_file_speaks_only_for_what_it_is_of(tmp_path: Path) -> None:
    out = tmp_path / "out"
    part = do(write_folder(tmp_path / "photos", FILES), out)
    file = out / part.file
    assert written(str(out)) == [part.file]
    data = file.read_bytes()
    for broken in (data[:-4], data[: len(data) // 2], b""):
        file.write_bytes(broken)
        assert read_part(str(out), part.file) is None
    file.write_bytes(data)
    file.rename(out / "part-000009-0123456789ab.parquet")
    assert read_part(str(out), "part-000009-0123456789ab.parquet") is None
    block = find_source(tmp_path / "photos").blocks[0]
    assert len({block_digest(block, "f"), block_digest(block, "g"), part.block}) == 2


def test_the_manifest_is_last_and_leavings_go(tmp_path: Path) -> None:
    (tmp_path / ".part-000000-x.parquet-host-1").write_bytes(b"half")
    (tmp_path / "part-000000-0123456789ab.parquet").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("mine")
    write_manifest(str(tmp_path), {"rows": 1, "name": "é"})
    assert json.loads((tmp_path / MANIFEST).read_text()) == {"rows": 1, "name": "é"}
    remove_leavings(str(tmp_path))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["notes.txt", "part-000000-0123456789ab.parquet"]


def test_out_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "f.parquet").write_bytes(b"x")
    with pytest.raises(OptionError, match=r"f\.parquet: is a file, expected a folder"):
        written(str(tmp_path / "f.parquet"))
    with pytest.raises(OptionError, match="cannot be written"):
        written("/proc/no/such")


class Refusing:
    """A worker that cannot begin."""

    def __init__(self, what: str) -> None:
        raise DataError(what, hint="try this")


def test_errors_of_a_worker_are_answers() -> None:
    import pyarrow as pa

    told = BlockWorker(Refusing, ("it is so",))(pa.table({"order": [b"1"]}))
    assert json.loads(told["fault"].to_pylist()[0]) == ["DataError", "it is so", "try this"]
