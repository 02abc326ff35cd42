"""Images that tests draw themselves, and where the real ones lie if this machine has any."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

__all__ = ["encode", "frames", "photo", "shared_data", "with_orientation", "write_classes"]


def photo(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """uint8 (height, width, 3): a sky of soft colours, some sharp boxes before it, and grain."""
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    pixels = np.array(soft.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    for _ in range(6):
        top, left = rng.integers(0, height), rng.integers(0, width)
        pixels[top : top + height // 4 + 1, left : left + width // 5 + 1] = rng.integers(0, 256, 3)
    return np.clip(pixels + rng.integers(-6, 7, pixels.shape), 0, 255).astype(np.uint8)


def encode(picture: np.ndarray | Image.Image, kind: str = "PNG", quality: int = 90) -> bytes:
    """An image as a file of one format; WEBP and TIFF without loss."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    if kind == "JPEG":
        image.save(file, kind, quality=quality)
    elif kind == "WEBP":
        image.save(file, kind, lossless=True, exact=True)
    else:
        image.save(file, kind)
    return file.getvalue()


def frames(pictures: Sequence[np.ndarray], kind: str) -> bytes:
    """An animation, or a file of several pages."""
    first, *rest = [Image.fromarray(picture) for picture in pictures]
    file = io.BytesIO()
    if kind == "WEBP":
        first.save(file, kind, save_all=True, append_images=rest, lossless=True)
    else:
        first.save(file, kind, save_all=True, append_images=rest)
    return file.getvalue()


def with_orientation(picture: np.ndarray, kind: str, orientation: int, compression: str = "raw") -> bytes:
    """A file whose EXIF says that it must be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image = Image.fromarray(picture)
    if kind == "TIFF":
        image.save(file, kind, exif=exif, compression=compression)
    elif kind == "WEBP":
        image.save(file, kind, exif=exif, lossless=True, exact=True)
    else:
        image.save(file, kind, exif=exif)
    return file.getvalue()


def write_classes(root: Path, counts: dict[str, int], size: tuple[int, int] = (48, 64)) -> Path:
    """A folder per class with so many different PNG images each."""
    seed = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / name / f"{number:03}.png").write_bytes(encode(photo(seed, *size)))
            seed += 1
    return root


def shared_data(name: str) -> Path:
    """A folder of the real images beside the repository; skips the test where there is none."""
    folder = Path(__file__).parents[1] / "../shared/data" / name
    if not folder.is_dir():
        pytest.skip(f"the sample data {name!r} is not on this machine")
    return folder
