"""The folder of figures: what goes into it, and what must not be one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from greffon.errors import OptionError
from greffon.report import check_results_folder, check_sheet, write_results


def test_a_table_and_two_pictures_are_written_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    for number in (1, 2):

        def draw(path: Path, text: str = f"picture {number}") -> None:
            path.write_text(text + path.suffix)

        files = write_results(folder, "depth", {"n": number}, draw)
        assert files == (folder / "depth.json", folder / "depth.png", folder / "depth.svg")
        assert json.loads((folder / "depth.json").read_text()) == {"n": number}
        assert (folder / "depth.svg").read_text() == f"picture {number}.svg"
    assert len(list(folder.iterdir())) == 3


def test_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "cat").mkdir(parents=True)
    check_results_folder(tmp_path / "new", photos)
    check_results_folder(tmp_path, photos)
    check_results_folder(tmp_path / "photos-depth", photos)
    for inside in (photos, photos / "cat", photos / "new", photos / "cat" / ".." / "x"):
        with pytest.raises(OptionError, match="lies in the data"):
            check_results_folder(inside, photos)
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="is a file"):
        check_results_folder(tmp_path / "file", photos)
    with pytest.raises(OptionError, match="cannot be used"):
        check_results_folder(Path("a\0b"), photos)
    with pytest.raises(OptionError, match="cannot be written"):
        write_results(tmp_path / "file" / "x", "depth", {}, lambda path: None)


def test_a_sheet_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    check_sheet(tmp_path / "new" / "folder" / "sheet.html")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    for path, words in (
        (tmp_path / "sheet.txt", "expected a file that ends in .html or .png"),
        (tmp_path, "expected a file that ends in"),
        (tmp_path / "file" / "sheet.html", "file is a file, and no folder"),
        (tmp_path / ("a" * 300 + ".html"), "File name too long"),
        (tmp_path / ("a" * 300) / "sheet.html", "File name too long"),
        (tmp_path / "a\0.html", "null byte"),
    ):
        with pytest.raises(OptionError, match=words):
            check_sheet(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is refused to this user")
def test_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OptionError, match="nothing can be written to"):
        check_sheet(tmp_path / "sheet.html")
    tmp_path.chmod(0o700)
