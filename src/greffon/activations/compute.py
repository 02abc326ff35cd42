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
from greffon.activations.store import Key, Shelf, Store
from greffon.backbones import Backbone, fingerprint
from greffon.errors import ImageError, StoreError
from greffon.images import Limits, Preprocess, read_bytes
from greffon.progress import Progress

__all__ = ["Activations", "Executor", "LocalExecutor", "Photo", "compute", "digest_of", "key_for", "pixels_of"]

#: An image: where it lies, or its pixels, uint8 (h, w, 3) RGB.
Photo = Path | np.ndarray


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
                raise StoreError(f"{self._shelf.folder}: {len(damaged)} records went bad while they were used",
                                 hint="Run the command again: they are computed anew.")  # fmt: skip
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

    def run(self, photos: Sequence[Photo], preprocess: Preprocess, engine: Engine) -> Iterator[tuple[list[int], np.ndarray, dict[int, str]]]:
        """Batches of (positions, records, reasons of failures by position). Every position comes once, in any order."""
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

    def __init__(self, workers: int = 2, ahead: int = 4, limits: Limits = Limits()) -> None:
        self.workers = workers
        self.ahead = ahead
        self.limits = limits

    def run(self, photos: Sequence[Photo], preprocess: Preprocess, engine: Engine) -> Iterator[tuple[list[int], np.ndarray, dict[int, str]]]:
        size = engine.batch
        with ThreadPoolExecutor(self.workers, thread_name_prefix="greffon-decode", initializer=_yield_to_the_network) as pool:
            waiting: deque[tuple[int, Future[np.ndarray]]] = deque()
            upcoming = iter(range(len(photos)))
            try:
                while True:
                    positions: list[int] = []
                    images: list[np.ndarray] = []
                    failed: dict[int, str] = {}
                    while len(images) < size:
                        for i in upcoming:
                            waiting.append((i, pool.submit(pixels_of, photos[i], preprocess, self.limits)))
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


def pixels_of(photo: Photo, preprocess: Preprocess, limits: Limits = Limits()) -> np.ndarray:
    """A photo as the network wants to see it, uint8 (height, width, 3). Raises ImageError."""
    if isinstance(photo, np.ndarray):
        return preprocess.fit(photo)
    return preprocess.read(read_bytes(photo, limits=limits), limits=limits)


def digest_of(photo: Photo, limits: Limits = Limits()) -> str:
    """sha256 of an image's content: of the file's bytes, or of shape and pixels. Raises ImageError."""
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise ImageError(f"an image array must be uint8 (h, w, 3), got {photo.dtype} {photo.shape}")
        digest = hashlib.sha256(f"uint8 {photo.shape}".encode())
        digest.update(memoryview(np.ascontiguousarray(photo)).cast("B"))
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
    record = engine.record
    shelf = store.shelf(key_for(backbone, tap, engine)) if store is not None else None
    known: set[str] = set()
    if shelf is not None:
        known = shelf.has([name for name in names if name])
        known = _verified(shelf, names, known)
    wanted: dict[str, int] = {}
    for i, name in enumerate(names):
        if name and name not in known:
            wanted.setdefault(name, i)
    reused = len({name for name in names if name} & known)
    memory: dict[str, np.ndarray] = {}
    order = list(wanted.values())
    if order:
        progress.begin(f"Running {backbone.name}", len(order))
        pending: list[tuple[str, np.ndarray]] = []
        runner = executor or LocalExecutor()
        try:
            for positions, values, bad in runner.run([photos[i] for i in order], backbone.preprocess, engine):
                failed.update({order[j]: reason for j, reason in bad.items()})
                pending += [(names[order[j]], value) for j, value in zip(positions, values, strict=True)]
                progress.advance(len(positions) + len(bad))
                if shelf is None:
                    memory.update(pending)
                    pending = []
                elif len(pending) >= commit_every:
                    batch, pending = pending, []
                    _commit(shelf, batch)
        finally:
            if shelf is not None:
                if pending:
                    _commit(shelf, pending)
                shelf.close()
        progress.end()
    bad_names = {names[i]: reason for i, reason in failed.items() if names[i]}
    for i, name in enumerate(names):
        if name in bad_names:
            failed[i] = bad_names[name]
    final_names = tuple("" if i in failed else name for i, name in enumerate(names))
    if shelf is not None:
        shelf.has([name for name in final_names if name])
        for fault in shelf.faults:
            progress.warn(fault)
        shelf.faults.clear()
    seconds = time.perf_counter() - started
    return Activations(final_names, failed, len(order) - len(bad_names), reused, seconds, shelf, memory, record)


def key_for(backbone: Backbone, tap: Tap, engine: Engine) -> Key:
    """The key under which activations are kept. The weights are those below the cut alone: tuning what is above keeps it."""
    shape, dtype = engine.record
    below = backbone.below("none" if tap.kind == "pooled" else tap.cut)
    weights = backbone.fingerprint if tap.kind == "pooled" or tap.cut == "none" else fingerprint(dict(below.state_dict()))
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


def _commit(shelf: Shelf, batch: list[tuple[str, np.ndarray]]) -> None:
    shelf.write([name for name, _ in batch], np.stack([value for _, value in batch]))


def _verified(shelf: Shelf, names: Sequence[str], known: set[str], block: int = 512) -> set[str]:
    """Of the known records, those whose checksum is right; the others are dropped from the shelf."""
    wanted = list(dict.fromkeys(name for name in names if name in known))
    good: set[str] = set()
    for start in range(0, len(wanted), block):
        part = wanted[start : start + block]
        _, damaged = shelf.read(part)
        good.update(set(part) - {part[i] for i in damaged})
    return good


def _digests(photos: Sequence[Photo], failed: dict[int, str]) -> list[str]:
    def one(photo: Photo) -> tuple[str, str]:
        try:
            return digest_of(photo), ""
        except ImageError as error:
            return "", error.what

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(one, photos))
    failed.update({i: reason for i, (_, reason) in enumerate(found) if reason})
    return [name for name, _ in found]
