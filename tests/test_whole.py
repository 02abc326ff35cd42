"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from greffon.whole import whole_file


def test_the_file_comes_in_one_piece(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")
    with whole_file(file) as part:
        part.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("kind", [OSError, ValueError, KeyboardInterrupt])
def test_a_fault_leaves_what_was_there(tmp_path: Path, kind: type[BaseException]) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")
    with pytest.raises(kind), whole_file(file) as part:
        part.write_text("ne")
        raise kind
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("letter", ["a", "é", "桜"])
def test_the_longest_names(tmp_path: Path, letter: str) -> None:
    file = tmp_path / (letter * (255 // len(letter.encode())))
    with whole_file(file) as part:
        part.write_text("x")
    assert file.read_text() == "x"


def test_a_name_that_is_too_long_is_told_by_the_first_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"), whole_file(tmp_path / ("a" * 256)) as part:
        part.write_text("x")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(NotADirectoryError), whole_file(tmp_path / "a" / "b") as part:
        part.write_text("x")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"\xff" * 250)
    with whole_file(file) as part:
        part.write_text("x")
    assert file.read_text() == "x"
