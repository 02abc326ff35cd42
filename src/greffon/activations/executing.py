"""Where the frozen part runs: photos are read, decoded and looked at ahead of the network."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

import numpy as np

from greffon.activations.engines import Engine
from greffon.errors import ImageError
from greffon.images import PLAIN, Limits, Preprocess, View, read_bytes
from greffon.settings import processors

__all__ = ["Batch", "Encoded", "Executor", "Job", "LocalExecutor", "Photo", "digest_of", "pixels_of"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """An image file that is no file on a disk of this machine: an object of a bucket, a cell of a table.

    Parameters
    ----------
    name
        For people.
    read
        Gives its bytes, every time that it is asked. Raises ImageError.
    """

    name: str
    read: Callable[[], bytes]


#: An image: where it lies, its file, or its pixels, uint8 (h, w, 3) RGB.
Photo = Path | Encoded | np.ndarray

#: Numbers of records, the records (len(numbers), *shape), and the reasons of failures by number.
Batch = tuple[list[int], np.ndarray, dict[int, str]]

_LIMITS = Limits()


@final
@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A photo and the views of it that are wanted.

    Parameters
    ----------
    digest
        Of the photo's content; "" leaves it unchecked.
    """

    photo: Photo
    digest: str
    views: tuple[View, ...]


class Executor(Protocol):
    """Where the frozen part runs."""

    def run(self, jobs: Sequence[Job], preprocess: Preprocess, engine: Engine) -> Iterator[Batch]:
        """The records of all jobs, numbered job by job and view by view: every number comes once, in any order.

        A file whose content no longer has its digest is a failure, for each of its views: its records would be kept
        under another's name.
        """
        ...


@final
class LocalExecutor:
    """This process: threads read and decode ahead of the network, a bounded number of images far.

    Parameters
    ----------
    workers
        Threads that decode; 0: as many as there are processors, two at least.
    ahead
        Batches that may lie decoded and waiting.
    limits
        Of an image file.
    """

    def __init__(self, workers: int = 0, ahead: int = 4, limits: Limits = _LIMITS) -> None:
        self.workers = workers or max(2, processors())
        self.ahead = ahead
        self.limits = limits

    def run(self, jobs: Sequence[Job], preprocess: Preprocess, engine: Engine) -> Iterator[Batch]:
        size = engine.batch
        numbers: list[int] = []
        images: list[np.ndarray] = []
        failed: dict[int, str] = {}
        with contextlib.closing(self._decoded(jobs, preprocess, size * (self.ahead + 1))) as decoded:
            for number, image in decoded:
                if isinstance(image, str):
                    failed[number] = image
                    continue
                numbers.append(number)
                images.append(image)
                if len(images) == size:
                    yield numbers, engine.run(np.stack(images)), failed
                    numbers, images, failed = [], [], {}
        if images:
            # The last batch is filled up: the same size for every image, so the same last bits.
            fill = [np.zeros_like(images[0])] * (size - len(images))
            yield numbers, engine.run(np.stack(images + fill))[: len(images)], failed
        elif failed:
            yield [], np.zeros((0,)), failed

    def _decoded(
        self, jobs: Sequence[Job], preprocess: Preprocess, most: int
    ) -> Generator[tuple[int, np.ndarray | str], None, None]:
        """Each record's number with its pixels, or with why there are none; about ``most`` of them lie ready."""
        with ThreadPoolExecutor(self.workers, "greffon-decode", _yield_to_the_network) as pool:
            waiting: deque[tuple[int, Future[list[np.ndarray]]]] = deque()
            upcoming = iter(jobs)
            ready = number = 0
            try:
                while True:
                    for job in upcoming:
                        waiting.append((len(job.views), pool.submit(_looks, job, preprocess, self.limits)))
                        ready += len(job.views)
                        if ready >= most:
                            break
                    if not waiting:
                        return
                    count, future = waiting.popleft()
                    try:
                        looks: Sequence[np.ndarray | str] = future.result()
                    except ImageError as error:
                        looks = [error.what] * count
                    for look in looks:
                        yield number, look
                        number += 1
                    ready -= count
            finally:
                for _, future in waiting:
                    future.cancel()


def _yield_to_the_network() -> None:
    """Decoding threads step back where the processor is wanted: the network's threads wait for each other."""
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def pixels_of(
    photo: Photo, preprocess: Preprocess, limits: Limits = _LIMITS, digest: str = "", view: View = PLAIN
) -> np.ndarray:
    """A photo as the network wants to see it, uint8 (height, width, 3).

    Raises ImageError, also where a digest is given and the file's content has another by now.
    """
    return _looks(Job(photo, digest, (view,)), preprocess, limits)[0]


def _looks(job: Job, preprocess: Preprocess, limits: Limits) -> list[np.ndarray]:
    """The pixels of each view of a photo, which is read and decoded once for all."""
    wanted = not all(view.is_plain for view in job.views)
    digest = job.digest
    if isinstance(job.photo, np.ndarray):
        image = job.photo
        if wanted and not digest:
            digest = digest_of(image)
    else:
        data = _file_of(job.photo, limits)
        if digest or wanted:
            digest = hashlib.sha256(data).hexdigest()
            if job.digest and digest != job.digest:
                name = job.photo.name if isinstance(job.photo, Encoded) else job.photo
                raise ImageError(f"{name}: was changed after it was first read")
        image = preprocess.decode(data, limits=limits)
    return [view.fit(image, digest, preprocess) for view in job.views]


def digest_of(photo: Photo, limits: Limits = _LIMITS) -> str:
    """sha256 of an image's content: of the file's bytes, or of shape and pixels. Raises ImageError."""
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise ImageError(f"an image array must be uint8 (h, w, 3), got {photo.dtype} {photo.shape}")
        digest = hashlib.sha256(f"uint8 {photo.shape}".encode())
        digest.update(np.ascontiguousarray(photo).data.cast("B"))
        return digest.hexdigest()
    return hashlib.sha256(_file_of(photo, limits)).hexdigest()


def _file_of(photo: Path | Encoded, limits: Limits) -> bytes:
    return photo.read() if isinstance(photo, Encoded) else read_bytes(photo, limits=limits)
