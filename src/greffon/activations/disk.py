"""Files and SQLite where the disk may be full, slow or damaged: which fault it is, and one clear error for each."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from greffon.errors import StoreError

__all__ = ["database", "disk", "is_damage", "make_folder", "parts", "sync", "sync_folder"]

_HINT = "Free some space, give another folder by GREFFON_CACHE, or see: greffon cache"


def parts(items: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """Consecutive parts of ``items``: SQLite takes a limited number of values in one statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def is_damage(error: sqlite3.Error) -> bool:
    """Whether a database is damaged, not merely busy, full or forbidden."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by Python: text that is no UTF-8
        return isinstance(error, sqlite3.OperationalError)
    # Our statements are right: SQLITE_ERROR comes from a table that is not there, or is another.
    return code & 0xFF in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)


def sync(descriptor: int) -> None:
    """A file's bytes onto the disk."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_folder(folder: Path) -> None:
    """So that a new file is found after a power cut. Some file systems refuse; then its records are computed anew."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """A folder and those above it. Raises StoreError."""
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Faults of the disk as one clear error."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if _is_full(folder, error):
            what = "the disk is full; everything computed up to here is kept"
        elif isinstance(error, OSError):
            what = f"cannot be used ({error.strerror or error})"
        else:
            what = f"its index cannot be used ({error})"
        raise StoreError(f"{folder}: {what}", hint=_HINT) from error


def _is_full(folder: Path, error: OSError | sqlite3.Error) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):  # what SQLite says when its WAL finds no room
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free < 2**17
    return code == sqlite3.SQLITE_FULL


@contextlib.contextmanager
def database(path: Path, *, only_read: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection that waits for others, and is closed at the end."""
    name = f"{path.absolute().as_uri()}?mode={'ro' if only_read else 'rwc'}"
    connection = sqlite3.connect(name, timeout=60, uri=True)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        yield connection
    except UnicodeDecodeError as error:  # from Python's side of SQLite, of a damaged name or message
        raise sqlite3.OperationalError(f"text that is no UTF-8 ({error.reason})") from error
    finally:
        connection.close()
