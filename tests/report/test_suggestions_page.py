"""The page to label in, and the contact sheet."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from drawn import encode, photo
from greffon.images import decode, read_bytes
from greffon.report import suggestions_page, suggestions_sheet

HOSTILE = "</script><script>alert(1)</script>,\"quoted\"'"


def drawn(folder: Path, count: int) -> list[Path]:
    files = [folder / f"photo {i}.png" for i in range(count)]
    for i, file in enumerate(files):
        file.write_bytes(encode(photo(i, 90, 120 if i % 2 else 60)))
    return files


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    file = tmp_path / HOSTILE.replace("/", "_")
    file.write_bytes(encode(photo(0, 40, 40)))
    page = tmp_path / "page.html"
    suggestions_page(page, [(file, 1, HOSTILE), (tmp_path / "gone.png", 2, "why")], {HOSTILE: 3}, [("/a.png", HOSTILE)])
    text = page.read_text()
    assert "<script>alert" not in text
    assert text.count("</script>") == 2
    assert text.count("no picture") == 1
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert match
    data = json.loads(match[1])
    assert data == {"rows": [[str(file), 1, HOSTILE], [str(tmp_path / "gone.png"), 2, "why"]], "classes": [HOSTILE],
                    "given": [["/a.png", HOSTILE]]}  # fmt: skip


def test_it_shows_the_first_ones_and_says_so(tmp_path: Path) -> None:
    files = drawn(tmp_path, 5)
    page = tmp_path / "page.html"
    suggestions_page(page, [(file, i + 1, "why") for i, file in enumerate(files)], {}, [], most=3)
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 3
    assert "2 more photos stand in suggestions.csv" in text


def test_the_sheet_has_a_cell_for_each(tmp_path: Path) -> None:
    files = drawn(tmp_path, 5)
    (tmp_path / "bad.png").write_bytes(b"none")
    sheet = tmp_path / "sheet.png"
    suggestions_sheet(sheet, [*files, tmp_path / "bad.png"], side=60)
    pixels = decode(read_bytes(sheet))
    assert pixels.shape == (2 * 66 + 6, 3 * 66 + 6, 3)
    cells = [pixels[6 + 66 * (i // 3) :, 6 + 66 * (i % 3) :][:60, :60] for i in range(6)]
    assert np.all(cells[5] == 128)
    assert all(cell.std() > 5 for cell in cells[:5])
    # Wide photos lie in the middle of their cells.
    assert np.all(cells[1][:7] == 255) and np.all(cells[1][-7:] == 255) and not np.all(cells[1][30] == 255)
    suggestions_sheet(sheet, files, side=60, most=1)
    assert decode(read_bytes(sheet)).shape == (72, 72, 3)
