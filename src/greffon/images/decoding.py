"""Untrusted bytes become RGB pixels, and pixels become small pictures."""

from __future__ import annotations

import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image

from greffon.errors import ImageError

__all__ = [
    "FORMATS",
    "Limits",
    "Signature",
    "decode",
    "encode_png",
    "enlarge",
    "read_bytes",
    "signature",
    "thumbnail",
]

Image.init()
#: Formats that are told from their first bytes, as far as this Pillow was built with them. TGA and the like
#: have no such mark, and are not read.
FORMATS = tuple(
    name
    for name in ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000")
    if name in Image.OPEN
)

#: EXIF tag 0x0112: how the stored picture must be turned to stand upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest input that is looked at: encoded bytes, and decoded pixels (height × width).

    More than twice ``PIL.Image.MAX_IMAGE_PIXELS`` is refused whatever ``max_pixels`` says, by Pillow itself.
    """

    max_bytes: int = 256 * 2**20
    max_pixels: int = 2**30 // 12  # 89,478,485: where Pillow, too, begins to suspect a bomb


def read_bytes(path: Path, *, limits: Limits = Limits()) -> bytes:
    """The bytes of a file, or an ``ImageError`` if it cannot be read or is larger than the limit."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # to open a pipe would wait for its writer, perhaps for ever
            raise ImageError(f"{path}: cannot be read (not a file)")
        with path.open("rb") as file:
            data = file.read(min(about.st_size, limits.max_bytes) + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"{path}: cannot be read ({reason})") from error
    if len(data) > limits.max_bytes:
        raise ImageError(f"{path}: larger than {limits.max_bytes:,} bytes, the limit for one image file")
    return data


def decode(data: bytes, *, limits: Limits = Limits(), reduce_to: int = 0) -> np.ndarray:
    """Decode one image.

    EXIF orientation is applied, transparency is laid on white, 16-bit and float greys are scaled
    to 8 bits, an animation gives its first frame, and colour profiles are not applied. 16-bit colour loses its
    lower byte, as Pillow reads it, which is within one level.

    Parameters
    ----------
    data
        An encoded image. Its format is told from its content.
    limits
        Refuses larger input before it is decoded.
    reduce_to
        If not 0, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as its shorter side
        keeps this many pixels. Faster, but it changes pixels: by up to 62 levels in photos.

    Returns
    -------
    uint8 (h, w, 3), RGB, read-only.

    Raises
    ------
    ImageError
        Not an image, damaged, or over a limit. Never another exception, whatever the bytes.
    """
    return _decode(data, limits, reduce_to)[0]


def _decode(data: bytes, limits: Limits, reduce_to: int) -> tuple[np.ndarray, int, int]:
    """The pixels as ``decode`` gives them, and the height and width that they have without reduction."""
    if not data:
        raise ImageError("the file is empty")
    if len(data) > limits.max_bytes:
        raise ImageError(f"{len(data):,} bytes, over the limit of {limits.max_bytes:,}")
    try:
        return _without_warnings(data, limits, reduce_to)
    except ImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"not an image of a known format ({', '.join(FORMATS)})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        most = min(limits.max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or limits.max_pixels))
        raise ImageError(f"more pixels than the limit of {most:,}") from error
    except Exception as error:  # decoders of hostile bytes raise anything: struct.error, KeyError, MemoryError, ...
        reason = (str(error) or type(error).__name__).strip()
        raise ImageError(f"damaged image ({reason.partition(chr(10))[0][:200]})") from error


def _without_warnings(data: bytes, limits: Limits, reduce_to: int, tries: int = 20) -> tuple[np.ndarray, int, int]:
    """Another thread may put a filter that makes warnings errors before ours while the image is decoded: once more, then."""
    for left in range(tries, 0, -1):
        try:
            with _quiet_pillow():
                return _pixels(data, limits, reduce_to)
        except UserWarning:
            if left == 1:
                raise
    raise ValueError("tries must be 1 or more")


def _pixels(data: bytes, limits: Limits, reduce_to: int) -> tuple[np.ndarray, int, int]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width < 1 or height < 1:
            raise ImageError(f"{width} × {height} pixels")
        if width * height > limits.max_pixels:
            raise ImageError(f"{width} × {height} pixels, over the limit of {limits.max_pixels:,}")
        if image.format in ("JPEG", "MPO"):
            _refuse_endless_scans(data, width * height, limits)
        if reduce_to and image.format == "JPEG":
            image.draft(None, _at_least(width, height, reduce_to))
            image.load()
        else:
            image.load()
            width, height = image.size
        # Asked after loading, because Pillow itself turns a TIFF while it loads it, and a PNG may bring its EXIF last.
        orientation = _orientation(image)
        rgb = _to_rgb(image)
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
        if 5 <= orientation <= 8:
            width, height = height, width
        return np.asarray(rgb), height, width


def _refuse_endless_scans(data: bytes, pixels: int, limits: Limits) -> None:
    """A progressive JPEG has some ten scans. A hostile one has thousands, each over all its pixels, and takes hours."""
    scans = data.count(b"\xff\xda")
    if scans > 64 and scans * pixels > 8 * limits.max_pixels:
        raise ImageError(f"a JPEG of {scans} scans over {pixels:,} pixels, too much to decode")


@final
class _Decoding(threading.local):
    """Matches the name of a module of Pillow's while the asking thread decodes an image, and nothing else."""

    depth = 0
    #: What a compiled expression has, too: scikit-learn writes the filters down anew in its threads. There this one matches nothing.
    pattern = "(?!)"

    def match(self, module: str) -> bool:
        return self.depth > 0 and module.startswith("PIL.")


_DECODING = _Decoding()
_IGNORED = [("ignore", None, category, _DECODING, 0) for category in (UserWarning, Image.DecompressionBombWarning)]


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings about the metadata of a file from its reader.

    A camera's odd EXIF block is not worth a line on somebody's terminal, and where warnings are errors it would cost
    the picture. ``warnings.catch_warnings`` would change what other threads see, and is not safe among threads, so
    the filters of the process get two more, which match only in a thread that decodes. They are put back in front when
    somebody has put others before them.
    """
    filters: list[Any] = warnings.filters  # type: ignore[assignment]  # a list; declared as a sequence
    if filters[: len(_IGNORED)] != _IGNORED:
        for item in _IGNORED:
            with suppress(ValueError):
                filters.remove(item)
        filters[:0] = _IGNORED
    _DECODING.depth += 1
    try:
        yield
    finally:
        _DECODING.depth -= 1


def _at_least(width: int, height: int, shorter: int) -> tuple[int, int]:
    side = max(1, min(width, height))
    return max(1, width * shorter // side), max(1, height * shorter // side)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a damaged EXIF block is no reason to lose the picture
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    transparency = image.info.get("transparency")
    if mode == "RGB" and transparency is None:
        return image
    if mode == "F" or mode.startswith("I"):
        values = np.asarray(image)
        levels = _grey_levels(values, sixteen_bits=image.format != "TIFF")
        if isinstance(transparency, int):
            levels[values == transparency] = 255
        return Image.fromarray(levels).convert("RGB")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or transparency is not None:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _grey_levels(values: np.ndarray, sixteen_bits: bool) -> np.ndarray:
    """Deep greys as uint8: 16-bit integers by 257, others from [0, 1] (floats), [0, 255], 16 bits, or their own range.

    With ``sixteen_bits``, wider integers are known to hold 16 bits, however dark they are (PGM).
    """
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:  # in either byte order
        return ((values.astype(np.uint32) * 255 + 32895) >> 16).astype(np.uint8)
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    whole = values.dtype.kind != "f"
    if not whole and low >= 0 and high <= 1:
        scaled = finite * 255
    elif low >= 0 and high <= 255 and not (whole and sixteen_bits):
        scaled = finite
    elif low >= 0 and high <= 65535 and whole:
        scaled = finite / 257
    else:
        span = max(high / 2 - low / 2, 1e-300)  # by halves, for high - low may be more than a float holds
        scaled = (finite / 2 - low / 2) / span * 255
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Signature:
    """What one cheap look at an image tells: its upright size, and small pictures to find its like by."""

    height: int
    width: int
    grey: np.ndarray  # uint8 (16, 16)
    colour: np.ndarray  # uint8 (4, 4, 3)


def signature(data: bytes, *, limits: Limits = Limits()) -> Signature:
    """Read every byte of an image at a fraction of the cost of ``decode``. Raises ImageError where that would.

    The small pictures are area averages of the whole image, JPEGs taken at reduced scale.
    """
    image, height, width = _decode(data, limits, reduce_to=64)
    small = Image.fromarray(image).resize((16, 16), Image.Resampling.BOX)
    return Signature(
        height, width, np.asarray(small.convert("L")), np.asarray(small.resize((4, 4), Image.Resampling.BOX))
    )


def thumbnail(image: np.ndarray, side: int = 96, quality: int = 70) -> bytes:
    """A JPEG no larger than ``side`` × ``side`` pixels of uint8 (h, w, 3)."""
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def enlarge(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (h, w, 3) to uint8 (height, width, 3), smoothly."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def encode_png(image: np.ndarray) -> bytes:
    """uint8 (h, w, 3) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
