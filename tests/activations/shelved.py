"""A shelf of records that are known by their number."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from greffon.activations import Key, Shelf
from greffon.datasets import Facts

KEY = Key(
    weights="w", preprocess={"height": 8}, view="plain", tap="pooled", engine="e", shape=(64,), dtype="float32",
    backbone="tiny",
)  # fmt: skip


def name_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def record_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).random(64, dtype=np.float32)


FACTS = Facts(4, 5, bytes(256), bytes(48), "")

#: The shelves that a test wrote to, which are closed at its end.
WRITING: list[Shelf] = []


def put(shelf: Shelf, numbers: Sequence[int]) -> None:
    WRITING.append(shelf)
    shelf.write([name_of(i) for i in numbers], np.stack([record_of(i) for i in numbers]))


def assert_holds(shelf: Shelf, numbers: Sequence[int]) -> None:
    values, damaged = shelf.read([name_of(i) for i in numbers])
    assert damaged == []
    np.testing.assert_array_equal(values, np.stack([record_of(i) for i in numbers]))


def shards(shelf: Shelf) -> list[Path]:
    return sorted(shelf.folder.glob("*.shard"))


def close_all() -> None:
    """Close what was written to."""
    while WRITING:
        WRITING.pop().close()


def filled(folder: Path, count: int = 20) -> Shelf:
    shelf = Shelf(folder, KEY)
    put(shelf, range(count))
    shelf.close()
    return Shelf(folder, KEY)
