"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["sync_file", "whole_file"]


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A hidden file beside ``path`` to write to, which takes its place when the block ends.

    Where the block or the renaming fails, or the run is interrupted, the hidden file is removed, ``path`` is as it was, and
    the error goes on. The hidden file's name is never longer than 255 bytes where ``path``'s own is not.

    Raises
    ------
    OSError, ValueError
        What the disk says; ValueError for a path without a name.
    """
    ending = f"-{os.getpid()}"
    name = os.fsdecode(os.fsencode(path.name)[: 254 - len(ending)])
    part = path.with_name(f".{name}{ending}")
    try:
        yield part
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError, ValueError):   # the error that counts is the one that brought us here
            part.unlink(missing_ok=True)
        raise


def sync_file(path: Path) -> None:
    """Wait until what was written is on the disk. Raises OSError."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
