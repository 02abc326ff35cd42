"""The store against real processes that are killed, that write at once, a disk that is full, and damaged files."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from shelved import FACTS, KEY, WRITING, assert_holds, close_all, filled, name_of, put, shards

import greffon
from greffon.activations import Shelf, Store
from greffon.activations.disk import database
from greffon.errors import StoreError


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_all()


#: The package itself imports torch, which takes seconds; what the store needs does not.
CHILD = """
import sys, types
from pathlib import Path
import greffon
package = types.ModuleType("greffon.activations")
package.__path__ = [str(Path(greffon.__file__).parent / "activations")]
sys.modules["greffon.activations"] = package
import hashlib
import numpy as np
from greffon.activations.shelf import Key, Shelf

def name_of(number):
    return hashlib.sha256(str(number).encode()).hexdigest()

def record_of(number):
    return np.random.default_rng(number).random(64, dtype=np.float32)

key = Key(weights="w", preprocess={"height": 8}, view="plain", tap="pooled", engine="e", shape=(64,), dtype="float32",
          backbone="tiny")
folder, start, stop, size = Path(sys.argv[1]), *map(int, sys.argv[2:5])
shelf = Shelf(folder, key)
for first in range(start, stop, size):
    numbers = range(first, min(stop, first + size))
    shelf.write([name_of(i) for i in numbers], np.stack([record_of(i) for i in numbers]))
    print(numbers[-1], flush=True)
"""


def child(folder: Path, start: int, stop: int, size: int) -> subprocess.Popen[str]:
    source = str(Path(greffon.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CHILD, str(folder), str(start), str(stop), str(size)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": source},
    )  # fmt: skip


def test_what_a_killed_process_committed_is_there(tmp_path: Path) -> None:
    folder, chance, start, waited = tmp_path / "shelf", random.Random(0), 0, 0
    for _ in range(12):
        process = child(folder, start, start + 10**6, 7)
        assert process.stdout and process.stderr
        seen = process.stdout.readline()  # it is at work
        time.sleep(chance.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        rest, faults = process.communicate()
        assert not faults
        last = int((seen + rest).split()[-1])
        shelf = Shelf(folder, KEY)
        assert shelf.faults == []
        numbers = list(range(start, last + 1))
        assert shelf.has([name_of(i) for i in numbers]) == {name_of(i) for i in numbers}
        assert_holds(shelf, numbers)
        with database(folder / "index.sqlite") as index:
            rows = index.execute("SELECT digest, shard FROM records").fetchall()
        everything = [digest for digest, _ in rows]
        assert shelf.verify(everything) == set(everything)
        assert {shard for _, shard in rows} == {path.name for path in shards(shelf)}, "no shard without a row"
        start, waited = last + 10**6, waited + (last - start) // 7
    assert waited > 12, "the children were killed while they wrote"


@pytest.mark.parametrize("count", [2, 3])
def test_processes_that_write_at_once(tmp_path: Path, count: int) -> None:
    folder = tmp_path / "shelf"
    processes = [child(folder, 50 * i, 200 + 50 * i, 3 + 2 * i) for i in range(count)]  # each overlaps with the others
    for process in processes:
        _, faults = process.communicate(timeout=60)
        assert process.returncode == 0, faults
    shelf = Shelf(folder, KEY)
    assert shelf.faults == []
    assert_holds(shelf, range(150 + 50 * count))
    assert len(list(folder.glob("*.shard"))) <= count


def test_a_process_opens_while_others_write(tmp_path: Path) -> None:
    process = child(tmp_path / "shelf", 0, 300, 3)
    for i in range(1000, 1040):
        shelf = Shelf(tmp_path / "shelf", KEY)
        put(shelf, [i])
        shelf.close()
        assert shelf.faults == []
    _, faults = process.communicate(timeout=60)
    assert process.returncode == 0, faults
    assert_holds(Shelf(tmp_path / "shelf", KEY), [*range(300), *range(1000, 1040)])


# --- a full disk -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting is not permitted")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    shelf = Shelf(small_disk / "shelf", KEY)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 500_000)
    first = 0
    with pytest.raises(StoreError, match=r"the disk is full.*is kept") as caught:
        while first < 10_000:
            put(shelf, range(first, first + 20))
            first += 20
    assert "GREFFON_CACHE" in caught.value.hint
    assert 100 < first < 5000
    with pytest.raises(StoreError, match="the disk is full"):
        for start in range(20_000, 30_000, 20):
            put(shelf, range(start, start + 20))
    shelf.close()
    with pytest.raises(StoreError, match="the disk is full"):
        # Filled to the last byte, the index cannot even be opened: an error, and nothing is thrown away.
        with (small_disk / "more").open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(b"x" * 4096)
                except OSError:
                    break
        put(Shelf(small_disk / "shelf", KEY), range(first, first + 100))
    ballast.unlink()
    again = Shelf(small_disk / "shelf", KEY)
    assert again.faults == []
    assert_holds(again, range(first))
    put(again, range(first, first + 100))
    assert_holds(again, range(first + 100))


@pytest.mark.parametrize("call", ["fdatasync", "write"])
def test_a_write_that_fails_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    shelf = Shelf(tmp_path / "shelf", KEY)
    put(shelf, range(5))
    if call == "fdatasync":
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        monkeypatch.setattr(os, "fdatasync", full)
        with pytest.raises(StoreError, match="the disk is full"):
            put(shelf, range(5, 9))
        monkeypatch.undo()
    else:
        class Failing:
            """Writes half of what it is given, once, and then finds no room."""

            def __init__(self, file: object) -> None:
                self.file, self.calls = file, 0

            def write(self, data: memoryview) -> int:
                self.calls += 1
                if self.calls > 1:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return self.file.write(data[: len(data) // 2])  # type: ignore[attr-defined]  # a file

            def __getattr__(self, name: str) -> object:
                return getattr(self.file, name)

        shelf._file = Failing(shelf._file)  # type: ignore[assignment]  # stands in for a file
        with pytest.raises(StoreError, match="the disk is full"):
            put(shelf, range(5, 9))
    assert [path.stat().st_size for path in shards(shelf)] == [5 * (72 + 256)], "the half-written records are given back"
    put(shelf, range(5, 12))
    assert_holds(shelf, range(12))
    assert_holds(Shelf(tmp_path / "shelf", KEY), range(12))


def test_a_busy_or_forbidden_index_is_not_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path / "shelf", KEY)
    put(shelf, range(5))
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: real(*args, **{**more, "timeout": 0.1}))
    with database(shelf.folder / "index.sqlite") as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            put(shelf, range(5, 9))
        assert_holds(shelf, range(5))
    monkeypatch.undo()
    again = Shelf(tmp_path / "shelf", KEY)
    assert again.faults == []
    assert_holds(again, range(5))


# --- what is swept ---------------------------------------------------------------------------------------------


def test_a_shard_without_rows_is_swept_and_what_is_whole_kept(tmp_path: Path) -> None:
    shelf = filled(tmp_path / "shelf", 6)
    data = shards(shelf)[0].read_bytes()
    with database(shelf.folder / "index.sqlite") as index, index:
        index.execute("DELETE FROM records")
    (shelf.folder / "dead.shard").write_bytes(bytes(1000))
    (shelf.folder / "empty.shard").write_bytes(b"")
    (shelf.folder / "half.shard").write_bytes(data[: 328 - 1])
    again = Shelf(shelf.folder, KEY)
    assert [path.name for path in shards(again)] == [shards(shelf)[0].name]
    assert_holds(again, range(6))
    (shelf.folder / "copy.shard").write_bytes(data)
    assert len(shards(Shelf(shelf.folder, KEY))) == 1, "it holds nothing that is not known"


def test_the_shard_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", KEY)
    WRITING.append(shelf)
    shelf._open_shard()  # nothing is committed yet
    other = Shelf(tmp_path / "shelf", KEY)
    assert len(shards(other)) == 1
    put(shelf, range(3))
    assert_holds(other, range(3))
    shelf.close()
    third = Shelf(tmp_path / "shelf", KEY)
    assert len(shards(third)) == 1, "committed, though its writer is gone"
    assert_holds(third, range(3))


def test_a_damaged_record_that_another_process_has_replaced_stays(tmp_path: Path) -> None:
    shelf = filled(tmp_path / "shelf", 3)
    slow = Shelf(tmp_path / "shelf", KEY)
    slow.has([name_of(1)])
    with shards(shelf)[0].open("r+b") as file:
        file.seek(328 + 80)
        file.write(b"????")
    assert shelf.read([name_of(1)])[1] == [0]
    put(shelf, [1])
    assert slow.read([name_of(1)])[1] == [0], "it still knew the old place"
    assert_holds(slow, [1])


# --- the rest --------------------------------------------------------------------------------------------------


def test_keys_have_folders_of_their_own(tmp_path: Path) -> None:
    from dataclasses import replace

    others = [
        replace(KEY, weights="x"), replace(KEY, preprocess={"height": 9}), replace(KEY, view="flip"),
        replace(KEY, tap="map:none"), replace(KEY, engine="f"), replace(KEY, shape=(65,)), replace(KEY, dtype="uint16"),
    ]  # fmt: skip
    assert len({key.folder for key in [KEY, *others]}) == 8
    put(Store(tmp_path).shelf(KEY), [1])
    assert Store(tmp_path).shelf(others[0]).has([name_of(1)]) == set()


def test_shelves_and_clear(tmp_path: Path) -> None:
    from dataclasses import replace

    store = Store(tmp_path)
    assert store.shelves() == []
    put(store.shelf(KEY), range(4))
    put(store.shelf(replace(KEY, backbone="other")), range(9))
    store.remember({"a": FACTS})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("not the store's")
    infos = {info.backbone: info for info in store.shelves()}
    assert {name: info.records for name, info in infos.items()} == {"tiny": 4, "other": 9}
    assert infos["tiny"].bytes >= 4 * 328
    (infos["other"].folder / "key.json").write_text("[garbage")
    assert {info.backbone for info in store.shelves()} == {"tiny", "damaged"}
    (infos["tiny"].folder / "index.sqlite").unlink()
    assert {info.records for info in store.shelves()} == {0}
    assert not (infos["tiny"].folder / "index.sqlite").exists(), "looking makes nothing"
    assert store.clear("tiny") > 4 * 328
    assert [info.backbone for info in store.shelves()] == ["damaged"]
    assert store.clear() > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_wrong_records_are_refused(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", KEY)
    with pytest.raises(ValueError, match=r"expected \(1, 64\) float32, got \(1, 63\) float32"):
        shelf.write(["a"], np.zeros((1, 63), np.float32))
    with pytest.raises(ValueError, match="from 1 to 64 letters"):
        shelf.write([""], np.zeros((1, 64), np.float32))
    assert shelf.read([])[0].shape == (0, 64)
    values, damaged = shelf.read(["unknown"])
    assert damaged == [0]
    assert not values.any()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        Store(tmp_path / "taken").shelf(KEY)


def test_twenty_thousand_records_are_looked_up_at_once(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", KEY)
    names = [name_of(i) for i in range(20_000)]
    for start in range(0, 20_000, 2000):
        shelf.write(names[start : start + 2000], np.full((2000, 64), start, np.float32))
    shelf.close()
    again = Shelf(tmp_path / "shelf", KEY)
    started = time.process_time()
    assert len(again.verify(names)) == 20_000
    assert again.read(names[-3:])[0].tolist() == [[18_000.0] * 64] * 3
    assert time.process_time() - started < 2
