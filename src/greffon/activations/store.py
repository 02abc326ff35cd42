"""What is known already, on disk: a shelf for each key, and a book of what a look at each image told."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from greffon.activations.disk import database, is_damage, make_folder, parts
from greffon.activations.shelf import Key, Shelf
from greffon.datasets import Facts
from greffon.errors import StoreError
from greffon.settings import cache_root

__all__ = ["ShelfInfo", "Store"]

#: Of the table of facts; a book without this number is not finished.
_LAYOUT = 2


@dataclass(frozen=True, slots=True)
class ShelfInfo:
    """A folder of the store, for ``greffon cache``."""

    folder: Path
    backbone: str
    view: str
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
        """What is known of these images. A damaged book is begun anew: all that it held can be found out again."""
        found: dict[str, Facts] = {}
        wanted = list(digests)
        try:
            with self._book() as book:
                for part in parts(wanted):
                    rows = book.execute(
                        "SELECT digest, height, width, grey, colour, fault FROM facts"
                        f" WHERE digest IN ({','.join('?' * len(part))})",
                        part,
                    )
                    found.update({row[0]: Facts(*row[1:]) for row in rows if _is_facts(row)})
        except sqlite3.Error as error:
            # Whatever else it is (busy, full, not permitted), the images can be looked at once more.
            if is_damage(error):
                self._discard_book()
        return found

    def remember(self, facts: Mapping[str, Facts]) -> None:
        """Keep what looks at images told. A full disk is no reason to stop here: the facts are in hand."""
        rows = [(name, f.height, f.width, f.grey, f.colour, f.fault) for name, f in facts.items()]
        with contextlib.suppress(sqlite3.Error, StoreError), self._book() as book:
            book.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?, ?)", rows)

    @contextlib.contextmanager
    def _book(self) -> Iterator[sqlite3.Connection]:
        make_folder(self.root)
        with database(self.root / "images.sqlite") as book:
            if book.execute("PRAGMA user_version").fetchone()[0] != _LAYOUT:
                book.execute("PRAGMA journal_mode=WAL")
                book.execute(
                    "CREATE TABLE IF NOT EXISTS facts (digest TEXT PRIMARY KEY, height INT, width INT, grey BLOB,"
                    " colour BLOB, fault TEXT) WITHOUT ROWID"
                )
                book.execute(f"PRAGMA user_version={_LAYOUT}")
            with book:
                yield book

    def _discard_book(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                (self.root / f"images.sqlite{suffix}").unlink(missing_ok=True)

    def shelves(self) -> list[ShelfInfo]:
        """Every folder of the store, the largest first. A damaged one has the backbone ``"damaged"``."""
        infos = []
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else []:
            if not any((folder / name).is_file() for name in ("key.json", "index.sqlite")):
                continue
            about: dict[str, Any] = {}
            records = 0
            with contextlib.suppress(OSError, ValueError, TypeError, sqlite3.Error):
                about = dict(json.loads((folder / "key.json").read_text("utf-8")))
                # Only looked at: an empty index made here would pass for one that has lost everything.
                with database(folder / "index.sqlite", only_read=True) as index:
                    records = int(index.execute("SELECT COUNT(*) FROM records").fetchone()[0])
            backbone, view, tap, engine = (str(about.get(name, "")) for name in ("backbone", "view", "tap", "engine"))
            infos.append(ShelfInfo(folder, backbone or "damaged", view, tap, engine, records, _size(folder)))
        return sorted(infos, key=lambda info: -info.bytes)

    def clear(self, backbone: str = "") -> int:
        """Delete the activations of one backbone, or everything. Returns the number of bytes that were freed."""
        freed = 0
        for info in self.shelves():
            if not backbone or info.backbone == backbone:
                shutil.rmtree(info.folder, ignore_errors=True)
                freed += info.bytes - _size(info.folder)
        if not backbone and (self.root / "images.sqlite").is_file():
            freed += (self.root / "images.sqlite").stat().st_size
            self._discard_book()
        return freed


def _is_facts(row: tuple[Any, ...]) -> bool:
    kinds = (str, int, int, bytes, bytes, str)
    right = all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=True))
    return right and len(row[3]) == 16 * 16 and len(row[4]) == 4 * 4 * 3


def _size(folder: Path) -> int:
    size = 0
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            with contextlib.suppress(OSError):
                size += file.stat().st_size
    return size
