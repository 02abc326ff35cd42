"""Downloads of published files: verified by their published hash, resumed where they broke off, one process at a time."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from greffon.backbones.catalogue import Download
from greffon.errors import WeightsError
from greffon.progress import Progress
from greffon.settings import mirror

__all__ = ["fetched", "source_of"]

_BLOCK = 2**20


def source_of(download: Download) -> str:
    """Where a file is fetched from: its official place, or the same file name under ``GREFFON_MIRROR``."""
    place = mirror()
    return f"{place.rstrip('/')}/{download.url.rsplit('/', 1)[-1]}" if place else download.url


@contextlib.contextmanager
def fetched(download: Download, folder: Path, progress: Progress, *, done: Callable[[], bool]) -> Iterator[Path | None]:
    """The published file, while the context lasts; it is removed afterwards.

    What came before a break is kept in ``folder`` as ``.download-HASH.part``, and the next try goes on from there.

    Parameters
    ----------
    done
        Asked when another process was waited for: whether that has done all that is to be done. Then None is given.

    Raises
    ------
    WeightsError
        It cannot be fetched, or what came does not have the published hash.
    """
    kind, _, expected = download.hash.partition(":")
    part, url = folder / f".download-{expected[:32]}.part", source_of(download)
    with _alone(part, progress) as waited:
        if waited and done():
            part.unlink(missing_ok=True)
            yield None
            return
        for again in (True, False):
            try:
                resumed = _fetch(url, part, progress)
            except WeightsError:
                if not part.stat().st_size:
                    part.unlink()
                raise
            with part.open("rb") as file:
                found = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
            if found == expected:
                break
            if not (again and resumed):
                part.unlink()
                raise WeightsError(f"{url}: what came is not the published file ({kind} {found}, expected {expected})")
            os.truncate(part, 0)  # a part of another file may have lain there: once more, from the beginning
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)


def _fetch(url: str, part: Path, progress: Progress) -> bool:
    """Fetch a file, or what is missing of it; whether something lay there already. Raises WeightsError."""
    try:
        before = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={before}-"} if before else {})
        try:
            answer = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not before:
                raise
            return True  # nothing is missing: the hash will tell
        with answer:
            goes_on = before > 0 and answer.status == 206
            total = int(answer.headers.get("Content-Length") or 0)
            _copy(answer, part, before if goes_on else 0, total, url, progress)
        return goes_on
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise WeightsError(f"{url} cannot be downloaded ({getattr(error, 'reason', None) or error})") from error


def _copy(answer: http.client.HTTPResponse, part: Path, start: int, total: int, url: str, progress: Progress) -> None:
    came = 0
    progress.begin(f"Downloading {url.rsplit('/', 1)[-1]} (MB)", max(1, (start + total) // _BLOCK))
    try:
        with part.open("ab" if start else "wb") as file:
            if start:
                progress.advance(start // _BLOCK)
            while block := answer.read(_BLOCK):
                file.write(block)
                came += len(block)
                progress.advance()
    finally:
        progress.end()
    if came < total:
        raise OSError(f"it broke off after {(start + came) / 1e6:.1f} of {(start + total) / 1e6:.1f} MB; the next try goes on")


@contextlib.contextmanager
def _alone(part: Path, progress: Progress) -> Iterator[bool]:
    """Two processes that fetch the same file do so one after the other, where the system has locks for files.

    Gives whether another one was waited for.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    waited = False
    while True:
        with part.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                progress.say("another process is downloading these weights: waiting for it")
                waited = True
                fcntl.flock(file, fcntl.LOCK_EX)
            # Who was before us may have removed the file that we hold: then it is not the one that others will lock.
            if not _is(part, file.fileno()):
                continue
            yield waited
            return


def _is(path: Path, opened: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(opened))
    except OSError:
        return False
