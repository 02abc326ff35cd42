"""The records of one key on disk.

One folder per (weights, preprocessing, view, cut, engine). In it, shard files of fixed-size records, which are only
ever appended to, and an SQLite index in WAL mode. A record exists once its row is committed, and a row is committed
after the record's bytes are synced; so whatever happens, what the index names is whole. Every writer has shard files
of its own: two processes never write into one file. Every record bears its digest and checksum before it, so a lost
index is built again from the shards.

    FOLDER/key.json       what the records depend on, for people
    FOLDER/index.sqlite   digest → shard, row, checksum
    FOLDER/*.shard        (digest 64 bytes, crc32, mark, record) again and again; locked by a living writer
    FOLDER/lock           shared by all who ask the index, exclusive for who builds it
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sqlite3
import struct
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import IO, Any, TypeVar, final

import numpy as np

from greffon.activations.disk import database, disk, is_damage, make_folder, parts, sync, sync_folder

__all__ = ["Key", "Shelf"]

_T = TypeVar("_T")
_SHARD_BYTES = 2**30

#: Of the files in a folder. Another layout is another folder, and an index without this number is not finished.
_LAYOUT = 2
#: Before each record: its image's digest, the crc32 of digest and record, and a mark.
_HEAD = struct.Struct("<64sI4s")
_MARK = b"grf\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """All that an activation depends on but the image.

    Parameters
    ----------
    weights
        Fingerprint of the tensors below the cut.
    preprocess
        As JSON values.
    view
        The name of a ``View`` of the image; ``"plain"`` is the image itself.
    tap
        What is taken out: ``"pooled"``, or ``"map:CUT"``.
    engine
        Fingerprint of the engine.
    shape, dtype
        Of one record; ``dtype`` is NumPy's name, with bfloat16 as ``"uint16"``.
    backbone
        For people.
    """

    weights: str
    preprocess: Mapping[str, Any]
    view: str
    tap: str
    engine: str
    shape: tuple[int, ...]
    dtype: str
    backbone: str

    @property
    def record_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def to_json(self) -> str:
        values = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({**values, "preprocess": dict(self.preprocess)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Key:
        """The inverse of ``to_json``."""
        values = json.loads(text)
        return cls(**{**values, "shape": tuple(values["shape"])})

    @property
    def folder(self) -> str:
        """A name for the folder: stable, and different for different keys."""
        digest = hashlib.sha256(f"{_LAYOUT} {self.to_json()}".encode()).hexdigest()
        return f"{self.backbone[:40]}-{digest[:24]}".replace("/", "_")


@final
class Shelf:
    """The records of one key, by the digest of their image. One thread at a time may write."""

    def __init__(self, folder: Path, key: Key) -> None:
        self.folder = folder
        self.key = key
        #: What was found damaged and put aside, for the user to know.
        self.faults: list[str] = []
        self._index = folder / "index.sqlite"
        self._stride = _HEAD.size + key.record_bytes
        self._rows: dict[str, tuple[str, int, int]] = {}
        self._file: IO[bytes] | None = None
        self._shard = ""
        self._written = 0
        make_folder(folder)
        with disk(folder), self._lock(fcntl.LOCK_EX):
            self._label()
            if not self._is_finished():
                self._build()
        self._sweep()

    def has(self, digests: Sequence[str]) -> set[str]:
        """Which of these are kept. Rows whose shard is missing or too short are dropped, and named in ``faults``."""
        wanted = [digest for digest in dict.fromkeys(digests) if digest not in self._rows]
        if wanted:
            self._rows.update(self._ask(lambda index: _rows_of(index, wanted)))
        lengths: dict[str, int] = {}
        lost = []
        for digest in dict.fromkeys(digests):
            if digest in self._rows:
                shard, row, _ = self._rows[digest]
                if shard not in lengths:
                    lengths[shard] = self._length(shard)
                if not 0 <= row < lengths[shard]:
                    lost.append(digest)
        if lost:
            self._drop(lost, f"{self.folder}: {len(lost)} records are missing from their shards")
        return {digest for digest in digests if digest in self._rows}

    def read(self, digests: Sequence[str]) -> tuple[np.ndarray, list[int]]:
        """Records by digest, each checked.

        Returns
        -------
        values
            (n, *shape) in the key's dtype; zeros where a record is damaged.
        damaged
            Positions whose record is missing, or whose checksum is wrong. Their rows are dropped, so they can be
            computed anew.
        """
        out = np.empty((len(digests), *self.key.shape), self.key.dtype)
        if not digests:
            return out, []
        places = out.reshape(len(digests), -1).view(np.uint8)
        damaged = self._fetch(digests, lambda i: places[i].data)
        out[damaged] = 0
        return out, damaged

    def verify(self, digests: Sequence[str]) -> set[str]:
        """Which of these are kept and whole. Reads each once, in the order of the disk, into one buffer."""
        buffer = np.empty(self.key.record_bytes, np.uint8).data
        wanted = list(self.has(digests))
        bad = self._fetch(wanted, lambda _: buffer)
        return set(wanted) - {wanted[i] for i in bad}

    def write(self, digests: Sequence[str], values: np.ndarray) -> None:
        """Keep records: append, sync, and only then commit their rows. Raises StoreError on a full disk."""
        if values.shape != (len(digests), *self.key.shape) or values.dtype != np.dtype(self.key.dtype):
            wanted = (len(digests), *self.key.shape)
            raise ValueError(f"Shelf.write: expected {wanted} {self.key.dtype}, got {values.shape} {values.dtype}")
        if not digests:
            return
        block = np.empty((len(digests), self._stride), np.uint8)
        block[:, _HEAD.size :] = np.ascontiguousarray(values).reshape(len(digests), -1).view(np.uint8)
        crcs = []
        for digest, place in zip(digests, block, strict=True):
            name = _name(digest)
            crcs.append(zlib.crc32(place[_HEAD.size :].data, zlib.crc32(name)))
            _HEAD.pack_into(place.data, 0, name, crcs[-1], _MARK)
        with disk(self.folder):
            file = self._open_shard()
            first = self._written
            try:
                left = block.data.cast("B")
                while left:
                    left = left[file.write(left) :]
                sync(file.fileno())
            except OSError:
                # What was half written is given back, and the shard is not touched again.
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), first * self._stride)
                self.close()
                raise
        self._written += len(digests)
        rows = list(zip(digests, [self._shard] * len(crcs), range(first, self._written), crcs, strict=True))
        self._ask(lambda index: _insert(index, rows))

    def close(self) -> None:
        """Give the shard file back. Reading goes on to work."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    # --- the index ---------------------------------------------------------------------------------------------

    def _ask(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do something with the index, in one transaction. A damaged index is built again, once."""
        with disk(self.folder):
            try:
                with self._lock(fcntl.LOCK_SH), database(self._index) as index, index:
                    return work(index)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
            with self._lock(fcntl.LOCK_EX):
                self._build()
            with self._lock(fcntl.LOCK_SH), database(self._index) as index, index:
                return work(index)

    @contextlib.contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        with (self.folder / "lock").open("ab") as file:
            fcntl.flock(file, kind)
            yield

    def _label(self) -> None:
        meta, text = self.folder / "key.json", self.key.to_json()
        found = meta.read_text("utf-8", "replace") if meta.exists() else None
        if found == text:
            return
        if found is not None:
            self.faults.append(f"{meta}: was damaged, and is written anew")
        part = self.folder / "key.json.part"  # one name for all: the lock is held
        part.write_text(text, "utf-8")
        part.replace(meta)

    def _is_finished(self) -> bool:
        try:
            with database(self._index) as index:
                return index.execute("PRAGMA user_version").fetchone()[0] == _LAYOUT
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                return False
            raise

    def _build(self) -> None:
        """Make the index from what lies in the shards: nothing, in a new folder. The lock is held."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{self._index}{suffix}").unlink(missing_ok=True)
        shards = sorted(self.folder.glob("*.shard"))
        with database(self._index) as index:
            index.execute("PRAGMA journal_mode=WAL")
            with index:
                index.execute("BEGIN IMMEDIATE")
                index.execute(
                    "CREATE TABLE records (digest TEXT PRIMARY KEY, shard TEXT NOT NULL, row INT NOT NULL,"
                    " crc INT NOT NULL) WITHOUT ROWID"
                )
                found = sum(_insert(index, self._whole(path)) for path in shards)
                index.execute(f"PRAGMA user_version={_LAYOUT}")
        if shards:
            self.faults.append(f"{self.folder}: the index was damaged; it was built anew, with {found} records")

    def _whole(self, path: Path) -> Iterator[tuple[str, str, int, int]]:
        """The rows of all records of a shard whose checksum is right."""
        with contextlib.suppress(OSError), path.open("rb") as file:
            for row in count():
                block = memoryview(file.read(self._stride))
                if len(block) < self._stride:
                    return
                name, crc, mark = _HEAD.unpack_from(block)
                if mark == _MARK and zlib.crc32(block[_HEAD.size :], zlib.crc32(name)) == crc:
                    yield name.rstrip(b"\0").decode("ascii", "replace"), path.name, row, crc

    def _sweep(self) -> None:
        """Shards that no row names and no living process writes: left behind by a killed one. What is whole is kept."""
        shards = list(self.folder.glob("*.shard"))
        named = self._ask(lambda index: {row[0] for row in index.execute("SELECT DISTINCT shard FROM records")})
        for path in shards:
            if path.name not in named:
                with contextlib.suppress(OSError), path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not self._adopt(path):
                        path.unlink()

    def _adopt(self, path: Path) -> bool:
        def work(index: sqlite3.Connection) -> bool:
            # Asked only now that the shard's lock is held: its writer may have committed a moment ago.
            if index.execute("SELECT 1 FROM records WHERE shard = ? LIMIT 1", (path.name,)).fetchone():
                return True
            return _insert(index, self._whole(path)) > 0

        return self._ask(work)

    def _drop(self, digests: Sequence[str], fault: str) -> None:
        self.faults.append(f"{fault}; they are computed anew")
        # The place as well: another process may have computed the record anew already.
        rows = [(digest, *self._rows.pop(digest)[:2]) for digest in digests]
        forget = "DELETE FROM records WHERE digest = ? AND shard = ? AND row = ?"
        self._ask(lambda index: index.executemany(forget, rows))

    # --- the shards --------------------------------------------------------------------------------------------

    def _fetch(self, digests: Sequence[str], into: Callable[[int], memoryview]) -> list[int]:
        """Read the record of each digest into its place, and drop those that are damaged: their positions."""
        self.has([digest for digest in digests if digest not in self._rows])
        damaged = [i for i, digest in enumerate(digests) if digest not in self._rows]
        places = sorted((*self._rows[digest], i) for i, digest in enumerate(digests) if digest in self._rows)
        # Not mapped: where a file is cut short or a sector is bad, a map would end the process (SIGBUS).
        for shard, group in groupby(places, key=lambda place: place[0]):
            with contextlib.ExitStack() as stack:
                file = None
                with contextlib.suppress(OSError):
                    file = stack.enter_context((self.folder / shard).open("rb", buffering=0))
                for _, row, crc, i in group:
                    if file is None or not self._is_read(file.fileno(), row, crc, _name(digests[i]), into(i)):
                        damaged.append(i)
        lost = {digests[i] for i in damaged if digests[i] in self._rows}
        if lost:
            self._drop(sorted(lost), f"{self.folder}: {len(lost)} records are damaged")
        return sorted(damaged)

    def _is_read(self, descriptor: int, row: int, crc: int, name: bytes, place: memoryview) -> bool:
        try:
            size = os.preadv(descriptor, [place], row * self._stride + _HEAD.size)
        except (OSError, OverflowError):
            return False
        return size == len(place) and zlib.crc32(place, zlib.crc32(name)) == crc

    def _length(self, shard: str) -> int:
        try:
            return (self.folder / shard).stat().st_size // self._stride
        except (OSError, ValueError):
            return 0

    def _open_shard(self) -> IO[bytes]:
        if self._file is not None and self._written * self._stride >= _SHARD_BYTES:
            self.close()
        while self._file is None:
            self._shard, self._written = f"{uuid.uuid4().hex}.shard", 0
            file = (self.folder / self._shard).open("wb", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX)
            if (self.folder / self._shard).exists():
                self._file = file
                sync_folder(self.folder)
            else:
                file.close()  # swept away by another process before the lock was held
        return self._file


def _name(digest: str) -> bytes:
    """A digest as it stands before its record."""
    name = digest.encode("ascii")
    if not 0 < len(name) <= 64:
        raise ValueError(f"a digest must have from 1 to 64 letters, got {digest!r}")
    return name.ljust(64, b"\0")


def _rows_of(index: sqlite3.Connection, digests: Sequence[str]) -> dict[str, tuple[str, int, int]]:
    shards: dict[str, str] = {}  # one string for each shard, not for each record
    found = {}
    for part in parts(digests):
        marks = ",".join("?" * len(part))
        for digest, shard, row, crc in index.execute(
            f"SELECT digest, shard, row, crc FROM records WHERE digest IN ({marks})", part
        ):
            if isinstance(shard, str) and isinstance(row, int) and isinstance(crc, int):
                found[digest] = (shards.setdefault(shard, shard), row, crc)
    return found


def _insert(index: sqlite3.Connection, rows: Iterable[tuple[str, str, int, int]]) -> int:
    """Name records that are on disk; returns how many are new."""
    # Two processes may have computed the same image: the first one's record stays.
    before = index.total_changes
    index.executemany("INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?)", rows)
    return index.total_changes - before
