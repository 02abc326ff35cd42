"""Photos × backbone × cut → ``Activations``, computing only what is missing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

import numpy as np

from greffon.activations.engines import Engine, Tap
from greffon.activations.shelf import Key, Shelf
from greffon.activations.store import Store
from greffon.backbones import Backbone, fingerprint
from greffon.errors import ImageError, StoreError
from greffon.images import Limits, Preprocess, read_bytes
from greffon.progress import Progress

__all__ = ["Activations", "Batch", "Executor", "LocalExecutor", "Photo", "compute", "digest_of", "key_for", "pixels_of"]

#: An image: where it lies, or its pixels, uint8 (h, w, 3) RGB.
Photo = Path | np.ndarray

#: Positions, their records (len(positions), *shape), and the reasons of failures by position.
Batch = tuple[list[int], np.ndarray, dict[int, str]]

_LIMITS = Limits()
#: Records wait in memory until there are enough of them for a commit, or until they are this large together.
_PENDING_BYTES = 2**26


@final
@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """What the frozen part gives for n images.

    Parameters
    ----------
    digests
        The sha256 of each image's content; "" where the image could not be read.
    failed
        Position → reason, for images that could not be read.
    computed, reused
        How many different images were run through the network now, and how many were known.
    seconds
        How long the pass took.
    """

    digests: tuple[str, ...]
    failed: dict[int, str]
    computed: int
    reused: int
    seconds: float
    _shelf: Shelf | None
    _memory: dict[str, np.ndarray]
    _record: tuple[tuple[int, ...], str]

    def __len__(self) -> int:
        return len(self.digests)

    def batch(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """The records at these positions, (len(positions), *shape). Nothing but these is copied. Raises StoreError."""
        names = [self.digests[int(i)] for i in positions]
        shape, dtype = self._record
        out = np.zeros((len(names), *shape), dtype)
        kept = [i for i, name in enumerate(names) if self._shelf is not None and name and name not in self._memory]
        if kept and self._shelf is not None:
            values, damaged = self._shelf.read([names[i] for i in kept])
            if damaged:
                raise StoreError(f"{self._shelf.folder}: {len(damaged)} records went bad or away while they were used",
                                 hint="Run the command again: they are computed anew.")  # fmt: skip
            if len(kept) == len(names):
                return values
            out[kept] = values
        for i, name in enumerate(names):
            if name in self._memory:
                out[i] = self._memory[name]
        return out

    def all(self) -> np.ndarray:
        """Every record in memory, (n, *shape); zeros where an image failed."""
        return self.batch(range(len(self)))


class Executor(Protocol):
    """Where the frozen part runs."""

    def run(
        self, photos: Sequence[Photo], digests: Sequence[str], preprocess: Preprocess, engine: Engine
    ) -> Iterator[Batch]:
        """The records of all photos: every position comes once, in any order.

        A file whose content no longer has its digest is a failure: its record would be kept under another's name.
        """
        ...


@final
class LocalExecutor:
    """This process: threads read and decode ahead of the network, a bounded number of images far.

    Parameters
    ----------
    workers
        Threads that decode.
    ahead
        Batches that may lie decoded and waiting.
    limits
        Of an image file.
    """

    def __init__(self, workers: int = 2, ahead: int = 4, limits: Limits = _LIMITS) -> None:
        self.workers = workers
        self.ahead = ahead
        self.limits = limits

    def run(
        self, photos: Sequence[Photo], digests: Sequence[str], preprocess: Preprocess, engine: Engine
    ) -> Iterator[Batch]:
        size = engine.batch
        with ThreadPoolExecutor(self.workers, "greffon-decode", _yield_to_the_network) as pool:
            waiting: deque[tuple[int, Future[np.ndarray]]] = deque()
            upcoming = iter(range(len(photos)))
            try:
                while True:
                    positions: list[int] = []
                    images: list[np.ndarray] = []
                    failed: dict[int, str] = {}
                    while len(images) < size:
                        for i in upcoming:
                            task = pool.submit(pixels_of, photos[i], preprocess, self.limits, digests[i])
                            waiting.append((i, task))
                            if len(waiting) >= size * (self.ahead + 1):
                                break
                        if not waiting:
                            break
                        i, future = waiting.popleft()
                        try:
                            images.append(future.result())
                            positions.append(i)
                        except ImageError as error:
                            failed[i] = error.what
                    if not images and not failed:
                        return
                    if images:
                        # The last batch is filled up: the same size for every image, so the same last bits.
                        fill = [np.zeros_like(images[0])] * (size - len(images))
                        yield positions, engine.run(np.stack(images + fill))[: len(images)], failed
                    else:
                        yield [], np.zeros((0,)), failed
            finally:
                for _, future in waiting:
                    future.cancel()


def _yield_to_the_network() -> None:
    """Decoding threads step back where the processor is wanted: the network's threads wait for each other."""
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def pixels_of(photo: Photo, preprocess: Preprocess, limits: Limits = _LIMITS, digest: str = "") -> np.ndarray:
    """A photo as the network wants to see it, uint8 (height, width, 3).

    Raises ImageError, also where a digest is given and the file's content has another by now.
    """
    if isinstance(photo, np.ndarray):
        return preprocess.fit(photo)
    data = read_bytes(photo, limits=limits)
    if digest and hashlib.sha256(data).hexdigest() != digest:
        raise ImageError(f"{photo}: was changed after it was first read")
    return preprocess.read(data, limits=limits)


def digest_of(photo: Photo, limits: Limits = _LIMITS) -> str:
    """sha256 of an image's content: of the file's bytes, or of shape and pixels. Raises ImageError."""
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise ImageError(f"an image array must be uint8 (h, w, 3), got {photo.dtype} {photo.shape}")
        digest = hashlib.sha256(f"uint8 {photo.shape}".encode())
        digest.update(np.ascontiguousarray(photo).data.cast("B"))
        return digest.hexdigest()
    return hashlib.sha256(read_bytes(photo, limits=limits)).hexdigest()


def compute(
    photos: Sequence[Photo],
    backbone: Backbone,
    tap: Tap,
    engine: Engine,
    *,
    store: Store | None,
    progress: Progress,
    digests: Sequence[str] | None = None,
    executor: Executor | None = None,
    commit_every: int = 64,
) -> Activations:
    """The activations of every photo, from the store where it has them.

    What was computed is committed every ``commit_every`` images and on every way out, an exception included.

    Parameters
    ----------
    photos
        Paths, or arrays uint8 (h, w, 3).
    backbone, tap, engine
        The engine runs the backbone's stages up to the tap.
    store
        Where activations are kept, or None: then they are in memory alone.
    digests
        The digests of the photos, where they are known.
    executor
        Where it runs; this process, if None.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    """
    started = time.perf_counter()
    failed: dict[int, str] = {}
    names = list(digests) if digests is not None else _digests(photos, failed)
    failed |= {i: failed.get(i, "cannot be read") for i, name in enumerate(names) if not name}
    shelf = store.shelf(key_for(backbone, tap, engine)) if store is not None else None
    known = _known(shelf, names, progress) if shelf is not None else set()
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if name and name not in known:
            first.setdefault(name, i)
    order = list(first.values())
    memory: dict[str, np.ndarray] = {}
    faults: dict[str, str] = {}
    if order:
        batches = (executor or LocalExecutor()).run(
            [photos[i] for i in order], [names[i] for i in order], backbone.preprocess, engine
        )
        keeper = _Keeper(shelf, memory, commit_every)
        progress.begin(f"Running {backbone.name}", len(order))
        try:
            for positions, values, bad in batches:
                faults |= {names[order[j]]: reason for j, reason in bad.items()}
                keeper.add([names[order[j]] for j in positions], values)
                progress.advance(len(positions) + len(bad))
        finally:
            progress.end()
            keeper.close()
    failed |= {i: faults[name] for i, name in enumerate(names) if name in faults}
    digested = tuple("" if i in failed else name for i, name in enumerate(names))
    if shelf is not None:
        _tell(shelf, progress)
    seconds = time.perf_counter() - started
    return Activations(
        digested, failed, len(order) - len(faults), len(known), seconds, shelf, memory, engine.record
    )


@final
class _Keeper:
    """Gathers records and commits them now and then: on disk, or into memory."""

    def __init__(self, shelf: Shelf | None, memory: dict[str, np.ndarray], commit_every: int) -> None:
        self._shelf = shelf
        self._memory = memory
        self._commit_every = commit_every
        self._names: list[str] = []
        self._values: list[np.ndarray] = []

    def add(self, names: list[str], values: np.ndarray) -> None:
        if not names:
            return
        if self._shelf is None:
            self._memory.update(zip(names, values, strict=True))
            return
        self._names += names
        self._values.append(values)
        if len(self._names) >= self._commit_every or sum(part.nbytes for part in self._values) >= _PENDING_BYTES:
            self._commit()

    def close(self) -> None:
        if self._shelf is not None:
            try:
                self._commit()
            finally:
                self._shelf.close()

    def _commit(self) -> None:
        # Emptied first: what the disk had no room for is not tried a second time on the way out.
        names, values = self._names, self._values
        self._names, self._values = [], []
        if names and self._shelf is not None:
            self._shelf.write(names, np.concatenate(values))


def key_for(backbone: Backbone, tap: Tap, engine: Engine) -> Key:
    """The key under which activations are kept. Its weights are those below the cut: tuning what is above keeps it."""
    shape, dtype = engine.record
    whole = tap.kind == "pooled" or tap.cut == "none"
    weights = backbone.fingerprint if whole else fingerprint(dict(backbone.below(tap.cut).state_dict()))
    return Key(
        weights=weights,
        preprocess=backbone.preprocess.to_dict(),
        view="plain",
        tap=str(tap),
        engine=engine.fingerprint,
        shape=tuple(shape),
        dtype=dtype,
        backbone=backbone.name,
    )


def _known(shelf: Shelf, names: Sequence[str], progress: Progress) -> set[str]:
    """Which records are on the shelf and whole; damaged ones are dropped, and computed again.

    Every known record is read once here for its checksum. That is a gigabyte a second, a hundredth of the first epoch
    that trains on it, and it leaves the records in the page cache; for it, damage is found where the images and the
    engine are at hand to repair it.
    """
    good = shelf.verify([name for name in names if name])
    _tell(shelf, progress)
    return good


def _tell(shelf: Shelf, progress: Progress) -> None:
    for fault in shelf.faults:
        progress.warn(fault)
    shelf.faults.clear()


def _digests(photos: Sequence[Photo], failed: dict[int, str], block: int = 512) -> list[str]:
    def one(photo: Photo) -> tuple[str, str]:
        try:
            return digest_of(photo), ""
        except ImageError as error:
            return "", error.what

    found: list[tuple[str, str]] = []
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(photos), block):  # a pool takes all its tasks at once, and keeps them in memory
            found += pool.map(one, photos[start : start + block])
    failed.update({i: reason for i, (_, reason) in enumerate(found) if reason})
    return [name for name, _ in found]
