"""Where things lie: paths of this machine, and addresses such as ``s3://bucket/photos``, through pyarrow or fsspec."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, final

from greffon.errors import DataError, ImageError, OptionError
from greffon.images import Limits

__all__ = ["Found", "is_address", "listed", "opened", "read_object", "system_of"]

_LIMITS = Limits()
_T = TypeVar("_T")
#: Schemes that pyarrow itself speaks; the others are fsspec's, whose packages the user installs.
_ARROW = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "file")
#: How long a store may take to answer.
_SECONDS = 40.0


@final
@dataclass(frozen=True, slots=True)
class _Asker:
    """How a store learns who asks: variables, files in the user's home, or the machine itself, where it is one of that cloud's."""

    variables: tuple[str, ...]
    files: tuple[str, ...]
    vendor: str
    advice: str


_ASKERS = {
    "s3": _Asker(
        ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
         "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_SHARED_CREDENTIALS_FILE"),
        (".aws/credentials", ".aws/config"),
        "Amazon",
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; a public bucket is s3://anonymous@BUCKET/...",
    ),
    "gs": _Asker(
        ("GOOGLE_APPLICATION_CREDENTIALS",), (".config/gcloud/application_default_credentials.json",), "Google",
        "Set GOOGLE_APPLICATION_CREDENTIALS, or log in with gcloud; a public bucket is gs://anonymous@BUCKET/...",
    ),
    "abfs": _Asker(
        ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_CONNECTION_STRING", "AZURE_CLIENT_ID"), (".azure",), "Microsoft",
        "Set AZURE_STORAGE_ACCOUNT and a key, or log in with az.",
    ),
}  # fmt: skip
_SAME = {"gcs": "gs", "abfss": "abfs"}


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
    _must_know_who_asks(place, scheme)
    try:
        if scheme in _ARROW:
            return fs.FileSystem.from_uri(_hurried(place, scheme))
        import fsspec

        system, path = fsspec.core.url_to_fs(place)
        return fs.PyFileSystem(fs.FSSpecHandler(system)), path
    except Exception as error:  # pyarrow's, fsspec's and each store's own kinds
        raise OptionError(f"{place}: cannot be reached ({_first(error)})", hint=_hint(scheme)) from error


def _must_know_who_asks(place: str, scheme: str) -> None:
    """Raises OptionError where no credentials can be found: the stores' libraries look for minutes, and over the network."""
    asker = _ASKERS.get(_SAME.get(scheme, scheme))
    if asker is None or "@" in place.partition("://")[2].partition("/")[0]:
        return
    if any(os.environ.get(name) for name in asker.variables) or any((Path.home() / name).exists() for name in asker.files):
        return
    with contextlib.suppress(OSError):
        if asker.vendor in Path("/sys/class/dmi/id/sys_vendor").read_text("utf-8", "replace"):
            return
    fault = f"{place}: there are no credentials for {scheme}:// on this machine"
    raise OptionError(fault, hint=f"{asker.advice} Every machine of the cluster needs them.")


def _hurried(place: str, scheme: str) -> str:
    """Google's library tries for a quarter of an hour, if it is not told otherwise."""
    if scheme in ("gs", "gcs") and "retry_limit_seconds" not in place:
        return f"{place}{'&' if '?' in place else '?'}retry_limit_seconds=20"
    return place


def _hint(scheme: str) -> str:
    asker = _ASKERS.get(_SAME.get(scheme, scheme))
    if asker is not None:
        return f"Are the name and the credentials right, on every machine of the cluster? {asker.advice}"
    if scheme in _ARROW:
        return "Is the address right?"
    return f"Is fsspec's package for {scheme}:// installed, and are the credentials right, on every machine of the cluster?"


def _in_time(place: str, ask: Callable[[], _T]) -> _T:
    """What a store answers, or an OptionError where it takes too long."""
    if not is_address(place):
        return ask()
    answers: SimpleQueue[tuple[_T | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            answers.put((ask(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=run, name="greffon-store", daemon=True).start()
    try:
        value, error = answers.get(timeout=_SECONDS)
    except Empty:
        raise OptionError(f"{place}: no answer within {_SECONDS:.0f} s", hint=_hint(place.partition("://")[0])) from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # there is a value where there is no error


def listed(place: str) -> list[Found]:
    """Every file below a folder, or the one file, in the order of their names. Raises OptionError, DataError."""
    return _in_time(place, lambda: _listed(place))


def _listed(place: str) -> list[Found]:
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
