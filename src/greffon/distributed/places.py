"""Where things lie: paths of this machine, and addresses such as ``s3://bucket/photos``, through pyarrow or fsspec."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

from greffon.errors import DataError, ImageError, OptionError
from greffon.images import Limits

__all__ = ["Found", "is_address", "listed", "opened", "read_object", "system_of"]

_LIMITS = Limits()
#: Schemes that pyarrow itself speaks; the others are fsspec's, whose packages the user installs.
_ARROW = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "file")
#: What tells each store who asks, for the hint of an error.
_WHO = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or the machine's role; s3://anonymous@BUCKET/... for a public one",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or the machine's service account; gs://anonymous@BUCKET/... for a public one",
    "abfs": "AZURE_STORAGE_ACCOUNT and a key, or the machine's identity",
}


@final
@dataclass(frozen=True, slots=True)
class Found:
    """A file: where it lies, and what changes when it is written anew."""

    place: str
    size: int
    changed: str


def is_address(data: object) -> bool:
    """Whether it is an address with a scheme, and no path of this machine."""
    scheme, mark, _ = str(data).partition("://")
    return bool(mark) and scheme.replace("+", "").isalnum()


def system_of(place: str) -> tuple[Any, str]:
    """pyarrow's file system for a path or an address, and the path in it. Raises OptionError."""
    from pyarrow import fs

    if not is_address(place):
        return fs.LocalFileSystem(), os.path.abspath(place)  # noqa: PTH100  # Path.absolute leaves "..", which Arrow refuses
    scheme = place.partition("://")[0]
    if scheme == "s3":
        # A machine outside of that cloud would wait for minutes for the role that it has not.
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true" if not _has_role() else "false")
    try:
        if scheme in _ARROW:
            return fs.FileSystem.from_uri(place)
        import fsspec

        system, path = fsspec.core.url_to_fs(place)
        return fs.PyFileSystem(fs.FSSpecHandler(system)), path
    except Exception as error:  # pyarrow's, fsspec's and each store's own kinds
        raise OptionError(f"{place}: cannot be reached ({_first(error)})", hint=_hint(scheme)) from error


def _has_role() -> bool:
    return any(os.environ.get(name) for name in ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"))


def _hint(scheme: str) -> str:
    who = _WHO.get({"gcs": "gs", "abfss": "abfs"}.get(scheme, scheme), "")
    if scheme in _ARROW:
        return f"Are the name and the credentials right, on every machine of the cluster? {who}".strip()
    return f"Is fsspec's package for {scheme}:// installed, and are the credentials right, on every machine of the cluster?"


def listed(place: str) -> list[Found]:
    """Every file below a folder, or the one file, in the order of their names. Raises OptionError, DataError."""
    from pyarrow import fs

    system, path = system_of(place)
    head = place[: len(place) - len(path)] if is_address(place) and place.endswith(path) else ""
    try:
        about = system.get_file_info(path)
        if about.type == fs.FileType.NotFound:
            raise DataError(f"{place}: there is no such file or folder")
        entries = [about] if about.type == fs.FileType.File else system.get_file_info(fs.FileSelector(path, recursive=True))
    except DataError:
        raise
    except Exception as error:
        raise OptionError(f"{place}: cannot be listed ({_first(error)})", hint=_hint(place.partition("://")[0])) from error
    head = head or (f"{place.partition('://')[0]}://" if is_address(place) else "")
    return [
        Found(f"{head}{one.path}", one.size or 0, str(one.mtime_ns or one.mtime))
        for one in sorted(entries, key=lambda one: one.path)
        if one.type == fs.FileType.File and not one.base_name.startswith((".", "_"))
    ]


@contextmanager
def opened(place: str) -> Iterator[Any]:
    """A file to read from, anywhere in it. Raises OSError, OptionError."""
    system, path = system_of(place)
    with system.open_input_file(path) as file:
        yield file


def read_object(place: str, limits: Limits = _LIMITS, tries: int = 3) -> bytes:
    """The bytes of one object. A store that fails is asked again. Raises ImageError."""
    for left in range(tries - 1, -1, -1):
        try:
            system, path = system_of(place)
            with system.open_input_stream(path) as file:
                data = file.read(limits.max_bytes + 1)
        except FileNotFoundError as error:
            raise ImageError(f"{place}: there is no such object") from error
        except Exception as error:
            if not left:
                raise ImageError(f"{place}: cannot be read ({_first(error)})") from error
            time.sleep(0.5)
            continue
        if len(data) > limits.max_bytes:
            raise ImageError(f"{place}: larger than {limits.max_bytes:,} bytes, the limit for one image file")
        return data
    raise ValueError("tries must be 1 or more")


def _first(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]
