"""``run.py``: that it reads photos as greffon does, is short, and needs neither greffon nor torch."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawn import encode, frames, photo, with_orientation
from greffon.exporting.files import FORMATS, runner_text
from greffon.images import decode

Reader = Callable[[Path], np.ndarray]


@pytest.fixture(scope="module")
def read() -> Reader:
    """The function of that name in the program."""
    pytest.importorskip("onnxruntime")
    names: dict[str, Any] = {}
    exec(runner_text(FORMATS[0]).partition("session =")[0], names)
    return names["read"]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def kinds() -> dict[str, bytes]:
    colours = photo(1, 30, 40)
    rgb = Image.fromarray(colours)
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))))
    palette = rgb.quantize(16)
    deep = np.linspace(0, 65535, 1200).reshape(30, 40)
    whole = deep.astype(np.uint16)
    return {
        "jpeg": encode(colours, "JPEG"),
        "cmyk jpeg": saved(rgb.convert("CMYK"), "JPEG"),
        "grey": saved(rgb.convert("L"), "PNG"),
        "one bit": saved(rgb.convert("1"), "PNG"),
        "grey with alpha": saved(alpha.convert("LA"), "PNG"),
        "alpha": saved(alpha, "PNG"),
        "webp with alpha": saved(alpha, "WEBP", lossless=True, exact=True),
        "palette": saved(palette, "PNG"),
        "palette, one colour clear": saved(palette, "PNG", transparency=3),
        "palette, gif": saved(palette, "GIF", transparency=5),
        "grey, one level clear": saved(rgb.convert("L"), "PNG", transparency=int(np.asarray(rgb.convert("L"))[0, 0])),
        "rgb, one colour clear": saved(rgb, "PNG", transparency=tuple(int(level) for level in colours[0, 0])),
        "16 bits": saved(Image.fromarray(whole), "PNG"),
        "16 bits, one level clear": saved(Image.fromarray(whole), "PNG", transparency=int(whole[3, 3])),
        "16 bits, tiff": saved(Image.fromarray(whole), "TIFF"),
        "32 bits, tiff": saved(Image.fromarray((deep * 3 - 70000).astype(np.int32)), "TIFF"),
        "fractions": saved(Image.fromarray((deep / 65535).astype(np.float32)), "TIFF"),
        "fractions of levels": saved(Image.fromarray((deep / 257).astype(np.float32)), "TIFF"),
        "fractions below zero": saved(Image.fromarray((deep - 3e4).astype(np.float32)), "TIFF"),
        "animation": frames([colours, photo(2, 30, 40)], "GIF"),
        **{f"{kind} turned {n}": with_orientation(colours, kind, n) for kind in ("JPEG", "PNG", "TIFF") for n in range(1, 9)},
    }


KINDS = kinds()


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_is_read_as_greffon_reads_it(kind: str, read: Reader, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(KINDS[kind])
    assert np.array_equal(read(tmp_path / "photo"), decode(KINDS[kind]))


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_it_is_short_and_needs_three_packages(form: Any) -> None:
    text = runner_text(form)
    assert len(text.splitlines()) < 40
    compile(text, "run.py", "exec")
    packages = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from ")) and "," not in line}
    assert packages == {"pathlib", "numpy", "PIL", form.needs}
    assert "@" not in text
