"""What is known already, on disk.

One folder per (weights, preprocessing, view, cut, engine). In it, shard files of fixed-size records, which are only
ever appended to, and an SQLite index in WAL mode. A record exists once its row is committed, and a row is committed
after the record's bytes are synced; so whatever happens, what the index names is whole. Every writer has shard files
of its own: two processes never write into one file. Beside these folders, ``images.sqlite`` keeps what a look at each
image told.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, final

import numpy as np

from greffon.datasets import Facts
from greffon.errors import StoreError
from greffon.settings import cache_root

__all__ = ["Key", "Shelf", "ShelfInfo", "Store"]

_SHARD_BYTES = 2**30
_HINT = "Free some space, give another folder by GREFFON_CACHE, or see: greffon cache"


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
        Which deterministic view of the image; ``"plain"`` is the image itself.
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

    @property
    def folder(self) -> str:
        """A name for the folder: stable, and different for different keys."""
        return f"{self.backbone[:40]}-{hashlib.sha256(self.to_json().encode()).hexdigest()[:24]}".replace("/", "_")


@dataclass(frozen=True, slots=True)
class ShelfInfo:
    """A folder of the store, for ``greffon cache``."""

    folder: Path
    backbone: str
    tap: str
    engine: str
    records: int
    bytes: int


@final
class Store:
    """The store under one root. Opening it costs nothing; folders are made when something is written.

    Parameters
    ----------
    root
        Default: ``activations`` under greffon's cache.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_root() / "activations"

    def shelf(self, key: Key) -> Shelf:
        """The records that belong to one key. Raises StoreError where the folder cannot be used."""
        return Shelf(self.root / key.folder, key)

    def facts(self, digests: Iterable[str]) -> dict[str, Facts]:
        """What is known of these images. A damaged book is begun anew: it holds nothing that cannot be found out again."""
        found: dict[str, Facts] = {}
        wanted = list(digests)
        try:
            with self._book() as book:
                for start in range(0, len(wanted), 500):
                    part = wanted[start : start + 500]
                    rows = book.execute(
                        f"SELECT digest, height, width, grey, colour, fault FROM facts WHERE digest IN ({','.join('?' * len(part))})",
                        part,
                    )
                    found.update({row[0]: Facts(*row[1:]) for row in rows})
        except sqlite3.DatabaseError:
            self._discard_book()
        return found

    def remember(self, facts: Mapping[str, Facts]) -> None:
        """Keep what looks at images told. A full disk is no reason to stop here: the facts are in hand."""
        rows = [(name, f.height, f.width, f.grey, f.colour, f.fault) for name, f in facts.items()]
        with contextlib.suppress(sqlite3.Error, StoreError), self._book() as book:
            book.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?, ?)", rows)

    @contextlib.contextmanager
    def _book(self) -> Iterator[sqlite3.Connection]:
        _make(self.root)
        with _database(self.root / "images.sqlite") as book:
            book.execute(
                "CREATE TABLE IF NOT EXISTS facts (digest TEXT PRIMARY KEY, height INT, width INT, grey BLOB, colour BLOB,"
                " fault TEXT) WITHOUT ROWID"
            )
            with book:
                yield book

    def _discard_book(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            (self.root / f"images.sqlite{suffix}").unlink(missing_ok=True)

    def shelves(self) -> list[ShelfInfo]:
        """Every folder of the store, the largest first."""
        infos = []
        if self.root.is_dir():
            for meta in sorted(self.root.glob("*/key.json")):
                try:
                    about = json.loads(meta.read_text())
                    with _database(meta.parent / "index.sqlite") as index:
                        records = index.execute("SELECT COUNT(*) FROM records").fetchone()[0]
                except (OSError, ValueError, sqlite3.Error):
                    about, records = {}, 0
                size = sum(file.stat().st_size for file in meta.parent.iterdir() if file.is_file())
                infos.append(ShelfInfo(meta.parent, str(about.get("backbone", "damaged")), str(about.get("tap", "")),
                                       str(about.get("engine", "")), records, size))  # fmt: skip
        return sorted(infos, key=lambda info: -info.bytes)

    def clear(self, backbone: str = "") -> int:
        """Delete the activations of one backbone, or everything. Returns the number of bytes that were freed."""
        freed = 0
        for info in self.shelves():
            if not backbone or info.backbone == backbone:
                freed += info.bytes
                shutil.rmtree(info.folder, ignore_errors=True)
        if not backbone and (self.root / "images.sqlite").is_file():
            freed += (self.root / "images.sqlite").stat().st_size
            self._discard_book()
        return freed


@final
class Shelf:
    """The records of one key, by the digest of their image."""

    def __init__(self, folder: Path, key: Key) -> None:
        self.folder = folder
        self.key = key
        #: What was found damaged and put aside while reading, for the user to know.
        self.faults: list[str] = []
        self._maps: dict[str, np.ndarray] = {}
        self._rows: dict[str, tuple[str, int, int]] = {}
        self._file: IO[bytes] | None = None
        self._shard = ""
        self._written = 0
        _make(folder)
        meta = folder / "key.json"
        if not meta.is_file():
            part = folder / f".key-{uuid.uuid4().hex}"
            with _disk(folder):
                part.write_text(key.to_json())
                part.replace(meta)
        try:
            self._prepare()
        except sqlite3.DatabaseError:
            # The index is lost, so the records are: without it nobody knows which are whole.
            self.faults.append(f"{folder}: the index was damaged; its activations are computed anew")
            aside = folder.with_name(f"{folder.name}.damaged-{uuid.uuid4().hex[:8]}")
            folder.replace(aside)
            shutil.rmtree(aside, ignore_errors=True)
            _make(folder)
            with _disk(folder):
                meta.write_text(key.to_json())
            self._prepare()

    def _prepare(self) -> None:
        with _database(self.folder / "index.sqlite") as index, index:
            index.execute(
                "CREATE TABLE IF NOT EXISTS records (digest TEXT PRIMARY KEY, shard TEXT NOT NULL, row INT NOT NULL,"
                " crc INT NOT NULL) WITHOUT ROWID"
            )
        self._sweep()

    def _sweep(self) -> None:
        """Delete shard files that no row names and that no living process writes: left behind by a killed one."""
        with _database(self.folder / "index.sqlite") as index:
            for path in self.folder.glob("*.shard"):
                with contextlib.suppress(OSError), path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # Asked only now that the lock is held: its writer may have committed a moment ago.
                    if index.execute("SELECT 1 FROM records WHERE shard = ? LIMIT 1", (path.name,)).fetchone() is None:
                        path.unlink()

    def has(self, digests: Sequence[str]) -> set[str]:
        """Which of these are kept. Rows whose shard is missing or too short are dropped, and named in ``faults``."""
        wanted = [digest for digest in dict.fromkeys(digests) if digest not in self._rows]
        with _database(self.folder / "index.sqlite") as index:
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                for digest, shard, row, crc in index.execute(
                    f"SELECT digest, shard, row, crc FROM records WHERE digest IN ({','.join('?' * len(part))})", part
                ):
                    self._rows[digest] = (shard, row, crc)
        lost = [digest for digest in digests if digest in self._rows and not self._holds(*self._rows[digest][:2])]
        if lost:
            self._drop(lost, f"{self.folder}: {len(lost)} records are missing from their shards")
        return {digest for digest in digests if digest in self._rows}

    def read(self, digests: Sequence[str]) -> tuple[np.ndarray, list[int]]:
        """Records by digest.

        Returns
        -------
        values
            (n, *shape) in the key's dtype; zeros where a record is damaged.
        damaged
            Positions whose checksum is wrong. Their rows are dropped, so they can be computed anew.
        """
        out = np.zeros((len(digests), *self.key.shape), self.key.dtype)
        damaged = []
        for i, digest in enumerate(digests):
            shard, row, crc = self._rows[digest]
            record = self._map(shard)[row]
            if zlib.crc32(memoryview(np.ascontiguousarray(record)).cast("B")) == crc:
                out[i] = record
            else:
                damaged.append(i)
        if damaged:
            lost = [digests[i] for i in damaged]
            self._drop(lost, f"{self.folder}: {len(damaged)} records are damaged")
        return out, damaged

    def write(self, digests: Sequence[str], values: np.ndarray) -> None:
        """Keep records: append, sync, and only then commit their rows. Raises StoreError on a full disk."""
        if values.shape != (len(digests), *self.key.shape) or values.dtype != np.dtype(self.key.dtype):
            raise ValueError(f"Shelf.write: expected ({len(digests)}, {self.key.shape}) {self.key.dtype}, got {values.shape} {values.dtype}")
        if not digests:
            return
        with _disk(self.folder):
            file = self._open_shard()
            first = self._written
            data = np.ascontiguousarray(values)
            try:
                file.write(memoryview(data).cast("B"))
                file.flush()
                os.fdatasync(file.fileno())
            except OSError:
                self.close()  # what was half written lies in a shard that this process will not touch again
                raise
            self._written += len(digests)
            rows = [
                (digest, self._shard, first + i, zlib.crc32(memoryview(data[i]).cast("B"))) for i, digest in enumerate(digests)
            ]
            with _database(self.folder / "index.sqlite") as index, index:
                # Two processes may have computed the same image: the first one's record stays.
                index.executemany("INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Give the shard file back. Reading goes on to work."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _open_shard(self) -> IO[bytes]:
        if self._file is None or self._written * self.key.record_bytes >= _SHARD_BYTES:
            self.close()
            while True:
                self._shard, self._written = f"{uuid.uuid4().hex}.shard", 0
                self._file = (self.folder / self._shard).open("wb")
                fcntl.flock(self._file, fcntl.LOCK_EX)
                if (self.folder / self._shard).exists():
                    break
                self._file.close()  # swept away by another process before the lock was held
        return self._file

    def _holds(self, shard: str, row: int) -> bool:
        try:
            return row < len(self._map(shard))
        except (OSError, ValueError):
            return False

    def _map(self, shard: str) -> np.ndarray:
        path = self.folder / shard
        known = self._maps.get(shard)
        rows = path.stat().st_size // self.key.record_bytes
        if known is None or len(known) < rows:
            known = np.memmap(path, self.key.dtype, "r", shape=(rows, *self.key.shape))
            self._maps[shard] = known
        return known

    def _drop(self, digests: Sequence[str], fault: str) -> None:
        self.faults.append(f"{fault}; they are computed anew")
        for digest in digests:
            self._rows.pop(digest, None)
        with _disk(self.folder), _database(self.folder / "index.sqlite") as index, index:
            index.executemany("DELETE FROM records WHERE digest = ?", [(digest,) for digest in digests])


def _make(folder: Path) -> None:
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Faults of the disk as one clear error."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full; everything computed up to here is kept" if full else f"cannot be written ({error.strerror})"
        raise StoreError(f"{folder}: {what}", hint=_HINT) from error
    except sqlite3.OperationalError as error:
        full = "full" in str(error)
        what = "the disk is full; everything computed up to here is kept" if full else f"its index cannot be written ({error})"
        raise StoreError(f"{folder}: {what}", hint=_HINT) from error


@contextlib.contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, timeout=60)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        yield connection
    finally:
        connection.close()
