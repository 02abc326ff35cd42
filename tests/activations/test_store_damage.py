"""The store on damaged files: one fault costs at most one record, and never gives a wrong one."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from shelved import FACTS, KEY, assert_holds, close_all, filled, name_of, put, record_of, shards

from greffon.activations import Shelf, Store
from greffon.activations.disk import database
from greffon.errors import StoreError


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_all()


def test_flipped_bytes_cost_one_record(tmp_path: Path) -> None:
    shelf = filled(tmp_path / "shelf")
    with shards(shelf)[0].open("r+b") as file:
        file.seek(7 * 328 + 72 + 100)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    names = [name_of(i) for i in range(20)]
    assert shelf.verify(names) == set(names) - {names[7]}
    assert shelf.faults == [f"{shelf.folder}: 1 records are damaged; they are computed anew"]
    values, damaged = shelf.read(names)
    assert damaged == [7]
    assert not values[7].any()
    np.testing.assert_array_equal(values[8], record_of(8))
    put(shelf, [7])
    assert_holds(shelf, range(20))
    assert_holds(Shelf(shelf.folder, KEY), range(20))


def test_a_shard_cut_short(tmp_path: Path) -> None:
    shelf = filled(tmp_path / "shelf")
    os.truncate(shards(shelf)[0], 12 * 328 + 200)
    names = [name_of(i) for i in range(20)]
    assert shelf.has(names) == set(names[:12])
    assert "8 records are missing" in shelf.faults[0]
    put(shelf, range(12, 20))
    assert_holds(Shelf(shelf.folder, KEY), range(20))


def test_a_shard_cut_short_while_it_is_read(tmp_path: Path) -> None:
    shelf = filled(tmp_path / "shelf")
    assert_holds(shelf, range(20))
    os.truncate(shards(shelf)[0], 0)
    assert shelf.read([name_of(3)])[1] == [0], "an answer, and not the end of the process"


def test_a_deleted_shard(tmp_path: Path) -> None:
    shelf = filled(tmp_path / "shelf", 10)
    put(shelf, range(10, 15))
    next(path for path in shards(shelf) if path.stat().st_size == 10 * 328).unlink()
    names = [name_of(i) for i in range(15)]
    assert shelf.read(names)[1] == list(range(10))
    assert Shelf(shelf.folder, KEY).has(names) == set(names[10:])


@pytest.mark.parametrize("fault", ["garbage", "empty", "missing", "cut", "wal", "table"])
def test_a_damaged_index_costs_no_record(tmp_path: Path, fault: str) -> None:
    shelf = filled(tmp_path / "shelf", 500)
    put(shelf, range(500, 510))
    path = shelf.folder / "index.sqlite"
    if fault == "garbage":
        path.write_bytes(random.Random(0).randbytes(10_000))
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "missing":
        path.unlink()
    elif fault == "cut":
        os.truncate(path, 8192)
    elif fault == "wal":
        path.unlink()
        Path(f"{path}-wal").write_bytes(b"nonsense")
    else:
        with database(path) as index:
            index.execute("DROP TABLE records")
    names = [name_of(i) for i in range(510)]
    assert shelf.verify(names) == set(names), "found while it is in use"
    again = Shelf(shelf.folder, KEY)
    assert again.verify(names) == set(names)
    assert_holds(again, range(510))
    faults = shelf.faults + again.faults
    assert len(faults) == 1
    assert "the index was damaged; it was built anew, with 510 records" in faults[0]


def test_an_index_with_flipped_bytes_never_gives_a_wrong_record(tmp_path: Path) -> None:
    names = [name_of(i) for i in range(60)]
    refused = 0
    for seed in range(25):
        chance = random.Random(seed)
        shelf = filled(tmp_path / f"shelf{seed}", 60)
        path = shelf.folder / "index.sqlite"
        data = bytearray(path.read_bytes())
        for _ in range(chance.choice([1, 20, 400])):
            data[chance.randrange(100 if chance.random() < 0.3 else len(data))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            again = Shelf(shelf.folder, KEY)
            found = sorted(again.has(names))
            values, damaged = again.read(found)
            for i, name in enumerate(found):
                if i not in damaged:
                    np.testing.assert_array_equal(values[i], record_of(names.index(name)))
            lost = sorted(set(names) - again.has(names))
            if lost:
                put(again, [names.index(name) for name in lost])
            assert_holds(again, range(60))
        except StoreError:
            refused += 1
    assert refused <= 5, "nearly always it goes on; else a clear error"


def test_a_damaged_key_is_written_anew(tmp_path: Path) -> None:
    shelf = filled(tmp_path / "shelf")
    (shelf.folder / "key.json").write_bytes(b"\xff\x00garbage")
    again = Shelf(shelf.folder, KEY)
    assert_holds(again, range(20))
    assert "key.json: was damaged" in again.faults[0]
    assert (shelf.folder / "key.json").read_text() == KEY.to_json()


@pytest.mark.parametrize("fault", ["garbage", "empty", "rows"])
def test_a_damaged_book_is_begun_anew(tmp_path: Path, fault: str) -> None:
    store = Store(tmp_path)
    store.remember({"a": FACTS})
    assert store.facts(["a", "b"]) == {"a": FACTS}
    if fault == "rows":
        with database(tmp_path / "images.sqlite") as book, book:
            book.execute("UPDATE facts SET grey = x'00'")
    else:
        (tmp_path / "images.sqlite").write_bytes(b"garbage" * 999 if fault == "garbage" else b"")
    assert store.facts(["a"]) == {}
    store.remember({"a": FACTS})
    assert store.facts(["a"]) == {"a": FACTS}


def test_a_busy_book_is_not_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.remember({"a": FACTS})
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: real(*args, **{**more, "timeout": 0.1}))
    with database(tmp_path / "images.sqlite") as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        store.remember({"b": FACTS})  # finds no room, and says nothing
        store.facts(["a"])
        other.execute("ROLLBACK")
    monkeypatch.undo()
    assert store.facts(["a", "b"]) == {"a": FACTS}
