"""Values of a model folder in turn wrong, for the tests of what is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from greffon.errors import ModelError
from greffon.model import load_model


def refused(folder: Path, match: str | None = None) -> None:
    """Loading fails with one ModelError that names the folder, and with nothing else."""
    with pytest.raises(ModelError, match=match) as caught:
        load_model(folder)
    assert str(folder) in caught.value.what
    assert len(caught.value.what) < 1500


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every value of a JSON document."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, one in value.items():
            yield from places(one, (*path, key))
    if isinstance(value, list):
        for i, one in enumerate(value):
            yield from places(one, (*path, i))


WRONG: tuple[Any, ...] = (
    None, True, -1, 7, 3.5, 10**400, -1e308, "", "../../etc/passwd", "hf-hub:a/b", "\0", "9" * 3000, [], {}, ["a", "a"], [None, [1]],
    {"a": {"b": {}}},
)  # fmt: skip

#: What loading does not need, or what only people read; other values of the right type pass there.
FREE = ("training", "figures", "data", "versions")
NOTES = (("backbone", "name"), ("backbone", "weights_of"), ("backbone", "licence"))


def changed(about: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """A document with one value set, or left out where it is ``...``."""
    new = copy.deepcopy(about)
    inner = new
    for step in place[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return new


def item_at(about: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        about = about[step]
    return about
