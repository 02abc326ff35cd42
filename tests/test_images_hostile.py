"""Whatever the bytes: an array or an ImageError; no other exception, no hang, no warning."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from drawn import encode, frames, photo, with_orientation
from greffon.errors import ImageError
from greffon.images import Limits, Preprocess, decode, read_bytes, signature

PRE = Preprocess(height=32, width=32, resize="shortest", resize_to=36, interpolation="bicubic", antialias=True,
                 channels="rgb", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale=1.0)  # fmt: skip
SMALL = Limits(max_pixels=2**22)  # so that a flipped bit in a header is refused, and not two thousand large images made


def seeds() -> dict[str, bytes]:
    """Small files of every kind."""
    picture, other = photo(0, 40, 48), photo(1, 40, 48)
    image = Image.fromarray(picture)
    palette = image.quantize(32)
    files = {kind.lower(): encode(picture, kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")}

    def saved(kind: str, source: Image.Image = image, **options: object) -> bytes:
        file = io.BytesIO()
        source.save(file, kind, **options)
        return file.getvalue()

    files["jpeg progressive"] = saved("JPEG", progressive=True)
    files["jpeg turned"] = with_orientation(picture, "JPEG", 6)
    files["jpeg cmyk"] = saved("JPEG", image.convert("CMYK"))
    files["png palette"] = saved("PNG", palette, transparency=3)
    files["png 16"] = encode(picture[..., 0].astype(np.uint16) * 257)
    files["png alpha turned"] = with_orientation(np.dstack([picture, picture[..., 0]]), "PNG", 5)
    files["apng"] = frames([picture, other], "PNG")
    files["gif animated"] = frames([picture, other], "GIF")
    files["bmp rle"] = saved("BMP", palette)
    files["webp lossy"] = saved("WEBP", quality=60)
    files["webp animated"] = frames([picture, other], "WEBP")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        files[f"tiff {compression}"] = with_orientation(picture, "TIFF", 8, compression)
    files["tiff float"] = encode(picture[..., 0].astype(np.float32), "TIFF")
    files["tiff 16 big-endian"] = encode(Image.fromarray(picture[..., 0].astype(">u2")), "TIFF")
    files["ppm plain"] = b"P3 6 5 255\n" + b" ".join(b"%d" % value for value in picture[:5, :6].ravel())
    files["pgm 16"] = b"P5 48 40 65535\n" + picture[..., 0].astype(">u2").tobytes()
    files["pbm"] = b"P4 48 40\n" + np.packbits(picture[..., 0] > 128, axis=1).tobytes()
    return files


def mutants(data: bytes, other: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Bit flips (half of them in the head, where the structure is), truncations, splices, in turn."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        bytes_ = bytearray(data)
        if number % 4 < 2:
            reach = len(data) if number % 4 else min(len(data), 200)
            for place in rng.integers(0, reach, int(rng.integers(1, 12))):
                bytes_[place] ^= 1 << int(rng.integers(0, 8))
        elif number % 4 == 2:
            del bytes_[int(rng.integers(0, len(data))) :]
        else:
            start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 120))
            source = int(rng.integers(0, max(1, len(other) - length)))
            bytes_[start : start + int(rng.integers(0, length))] = other[source : source + length]
        yield bytes(bytes_)


FILES = seeds()


def test_the_unharmed_files_are_read() -> None:
    for name, data in FILES.items():
        assert decode(data).shape in ((40, 48, 3), (48, 40, 3), (5, 6, 3)), name


@pytest.mark.parametrize("name", FILES)
def test_mutated_files(name: str) -> None:
    others = [data for other, data in FILES.items() if other != name]
    read = refused = 0
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for number, data in enumerate(mutants(FILES[name], others[number_of(name)], 88, number_of(name))):
            begin = time.perf_counter()
            try:
                pixels = decode(data, limits=SMALL)
                assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size
                read += 1
            except ImageError:
                refused += 1
                with pytest.raises(ImageError):
                    signature(data, limits=SMALL)
                with pytest.raises(ImageError):
                    PRE.read(data, limits=SMALL)
            else:
                seen = signature(data, limits=SMALL)
                assert (seen.height, seen.width) == pixels.shape[:2]
                assert np.array_equal(PRE.read(data, limits=SMALL), PRE.fit(pixels))
            assert time.perf_counter() - begin < 10, (name, number)
    assert heard == []
    assert read + refused == 88 and refused > 5


def number_of(name: str) -> int:
    return list(FILES).index(name) % (len(FILES) - 1)


def test_there_are_two_thousand_of_them() -> None:
    assert len(FILES) * 88 >= 2000


@pytest.mark.parametrize("kind", [KeyError, MemoryError, RecursionError, struct.error, ZeroDivisionError, SystemError])
def test_whatever_a_decoder_raises(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: ImageFile.ImageFile) -> None:
        raise kind("\n of some sort\nand more")

    monkeypatch.setattr(ImageFile.ImageFile, "load", broken)
    for read in (decode, signature, PRE.read):
        with pytest.raises(ImageError, match="damaged image"):
            read(FILES["bmp"])


NO_IMAGES = [b"", b"\0", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"<svg/>", b"P6 0 0 255\n", b"%PDF-1.4",
             b"II*\0\x08\0\0\0\0\0", b"RIFF\0\0\0\0WEBP", np.random.default_rng(0).bytes(5000)]  # fmt: skip


@pytest.mark.parametrize("data", NO_IMAGES)
def test_what_is_no_image(data: bytes) -> None:
    for read in (decode, signature, PRE.read):
        with pytest.raises(ImageError):
            read(data)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def flat_png(width: int, height: int) -> bytes:
    """A black picture of one bit a pixel, in next to no bytes."""
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    body = b"".join(packer.compress(row * 500) for _ in range(-(-height // 500))) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_500, 12_000, 30_000])  # under Pillow's warning, between it and its error, over both
def test_a_bomb_is_refused_before_it_is_decoded(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = flat_png(side, side)
    assert len(bomb) < side * side / 5000
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("the pixels were asked for"))
    begin = time.perf_counter()
    for read in (decode, signature, PRE.read):
        with pytest.raises(ImageError, match=r"pixels, over the limit|more pixels than the limit"):
            read(bomb, limits=Limits(max_pixels=min(side * side - 1, Limits().max_pixels)))
    assert time.perf_counter() - begin < 0.5


def test_a_larger_limit_is_a_larger_limit() -> None:
    with pytest.raises(ImageError, match="over the limit"):
        decode(flat_png(9_500, 9_500))
    assert decode(flat_png(9_500, 9_500), limits=Limits(max_pixels=10**8)).shape == (9_500, 9_500, 3)


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    file = io.BytesIO()
    Image.new("L", (3000, 3000)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    bomb = data[:last] + scan * 2000 + data[-2:]
    begin = time.perf_counter()
    with pytest.raises(ImageError, match="scans"):
        decode(bomb)
    assert time.perf_counter() - begin < 0.5
    assert decode(data).shape == (3000, 3000, 3)


def test_a_text_chunk_that_swells_is_refused_or_passed_over() -> None:
    data = FILES["png"]
    swollen = zlib.compress(b"a" * 300_000_000, 9)
    bomb = data[:33] + chunk(b"zTXt", b"Comment\0\0" + swollen) + data[33:]
    begin = time.perf_counter()
    with suppress(ImageError):
        assert np.array_equal(decode(bomb), decode(data))
    assert time.perf_counter() - begin < 2


# --- warnings --------------------------------------------------------------------------------------------------


def odd_exif() -> bytes:
    """A sound JPEG whose EXIF block points behind the end of the file; Pillow warns of it."""
    exif = Image.Exif()
    exif[0x010E] = "a description that is longer than four bytes"
    file = io.BytesIO()
    Image.fromarray(photo(2)).save(file, "JPEG", exif=exif)
    data = bytearray(file.getvalue())
    at = data.index(b"MM\0*") + 8 + 2 + 8  # the offset of the first entry's value
    data[at : at + 4] = struct.pack(">I", 60_000)
    return bytes(data)


@pytest.mark.parametrize("mode", ["error", "always", "default"])
def test_odd_metadata_costs_no_picture_and_no_warning(mode: str) -> None:
    data = odd_exif()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        Image.open(io.BytesIO(data)).getexif()
    assert heard, "Pillow does not warn of this file any more; find another"
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter(mode)  # type: ignore[arg-type]
        assert decode(data).shape == (96, 128, 3)
        signature(data)
        with pytest.raises(ImageError):
            decode(flat_png(12_000, 12_000))
    assert heard == []


def test_others_keep_their_warnings() -> None:
    decode(odd_exif())
    with pytest.raises(UserWarning):
        Image.open(io.BytesIO(odd_exif())).getexif()
    with pytest.raises(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


def test_many_threads_decode_while_others_change_the_filters() -> None:
    data, stop = odd_exif(), threading.Event()
    before = list(warnings.filters)

    def disturb() -> None:
        while not stop.is_set():
            warnings.simplefilter("error", UserWarning)
            time.sleep(0.001)

    with warnings.catch_warnings(record=True) as heard, ThreadPoolExecutor(9) as pool:
        warnings.simplefilter("error")
        other = pool.submit(disturb)
        try:
            shapes = {pixels.shape for pixels in pool.map(decode, [data] * 400)}
        finally:
            stop.set()  # else a failure here would wait for the other thread for ever
        other.result()
        assert len(warnings.filters) < len(before) + 20
    assert shapes == {(96, 128, 3)}
    assert heard == []


# --- files -----------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "loop", tmp_path / "broken", tmp_path / "pipe",
                 tmp_path / ("x" * 5000), Path("a\0b"), Path("/dev/zero")):  # fmt: skip
        with pytest.raises(ImageError, match="cannot be read"):
            read_bytes(path)


def test_a_link_and_odd_names_are_read(tmp_path: Path) -> None:
    data = FILES["gif"]
    for name in ("é 漢字 🌱.jpg", "n" * 250 + ".jpg", os.fsdecode(b"caf\xe9.png")):
        (tmp_path / name).write_bytes(data)
        (tmp_path / "link").symlink_to(tmp_path / name)
        assert decode(read_bytes(tmp_path / "link")).shape == (40, 48, 3)
        (tmp_path / "link").unlink()
