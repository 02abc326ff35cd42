"""Photos × backbone × cut → ``Activations``, computing only what is missing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np

from greffon.activations.engines import Engine, Tap
from greffon.activations.executing import Executor, Job, LocalExecutor, Photo, digest_of
from greffon.activations.shelf import Key, Shelf
from greffon.activations.store import Store
from greffon.backbones import Backbone, fingerprint
from greffon.errors import ImageError, StoreError
from greffon.images import PLAIN, View
from greffon.progress import Progress
from greffon.settings import processors

__all__ = ["Activations", "compute", "compute_views", "key_for"]

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

    @classmethod
    def kept_at(cls, folder: Path, key: Key, digests: Sequence[str]) -> Activations:
        """What a pass has kept in a folder of a store: of images by the digests of their contents, "" for one that is not asked for.

        Raises StoreError where the folder is not there.
        """
        if not folder.is_dir():
            raise StoreError(f"{folder}: there is no such folder of kept activations",
                             hint="On several machines, the cache must lie on a disk that all of them share (GREFFON_CACHE).")  # fmt: skip
        return cls(tuple(digests), {}, 0, len(digests), 0.0, Shelf(folder, key), {}, (key.shape, key.dtype))

    @property
    def place(self) -> tuple[Path, Key] | None:
        """The folder that all of it is kept in, and its key; None where some is in memory alone."""
        return None if self._shelf is None or self._memory else (self._shelf.folder, self._shelf.key)

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
    view: View = PLAIN,
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
    view
        How each photo is looked at.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    """
    return compute_views(
        photos, backbone, tap, engine, (view,), store=store, progress=progress, digests=digests, executor=executor,
        commit_every=commit_every,
    )[0]  # fmt: skip


def compute_views(
    photos: Sequence[Photo],
    backbone: Backbone,
    tap: Tap,
    engine: Engine,
    views: Sequence[View],
    *,
    store: Store | None,
    progress: Progress,
    digests: Sequence[str] | None = None,
    executor: Executor | None = None,
    commit_every: int = 64,
) -> tuple[Activations, ...]:
    """The activations of several views of every photo, one ``Activations`` a view, in the order of the views.

    A photo is read and decoded once for all its views that are missing: of one with 12 million pixels that takes several
    times as long as the network does. The parameters and errors are those of ``compute``; ``seconds`` is that of the
    whole pass.
    """
    started = time.perf_counter()
    failed: dict[int, str] = {}
    names = list(digests) if digests is not None else _digests(photos, failed)
    failed |= {i: failed.get(i, "cannot be read") for i, name in enumerate(names) if not name}
    key = key_for(backbone, tap, engine)
    # Two views of the same name are one.
    keepers = {one.name: _Keeper(one, commit_every, _PENDING_BYTES // max(1, len(views))) for one in views}
    if store is not None:
        for name, keeper in keepers.items():
            keeper.open(store.shelf(replace(key, view=name)), names, progress)
    by_content = {name: photo for name, photo in zip(names, photos, strict=True) if name}
    jobs = [
        Job(photo, name, missing)
        for name, photo in by_content.items()
        if (missing := tuple(keeper.view for keeper in keepers.values() if name not in keeper.known))
    ]
    if jobs:
        what = f"Running {backbone.name}" + (f" on {len(keepers)} views" if len(keepers) > 1 else "")
        progress.begin(what, sum(len(job.views) for job in jobs))
        try:
            _run(jobs, backbone, engine, executor or LocalExecutor(), keepers, progress)
        finally:
            progress.end()
            with contextlib.ExitStack() as stack:
                for keeper in keepers.values():
                    stack.callback(keeper.close)
    seconds = time.perf_counter() - started
    found = {name: keeper.activations(names, failed, seconds, engine) for name, keeper in keepers.items()}
    for keeper in keepers.values():
        keeper.tell(progress)
    return tuple(found[one.name] for one in views)


def _run(
    jobs: Sequence[Job],
    backbone: Backbone,
    engine: Engine,
    executor: Executor,
    keepers: Mapping[str, _Keeper],
    progress: Progress,
) -> None:
    """Run the network on all jobs, and give each record to the keeper of its view."""
    owners = [(job.digest, view.name) for job in jobs for view in job.views]
    for numbers, values, bad in executor.run(jobs, backbone.preprocess, engine):
        for number, reason in bad.items():
            digest, view = owners[number]
            keepers[view].faults[digest] = reason
        rows: dict[str, list[int]] = {}
        for row, number in enumerate(numbers):
            rows.setdefault(owners[number][1], []).append(row)
        for view, some in rows.items():
            whole = len(some) == len(numbers)
            keepers[view].add([owners[numbers[row]][0] for row in some], values if whole else values[some])
        progress.advance(len(numbers) + len(bad))


@final
class _Keeper:
    """What a pass has of one view: what was known, and records that are committed now and then, on disk or into memory."""

    def __init__(self, view: View, commit_every: int, most_bytes: int) -> None:
        self.view = view
        self.known: set[str] = set()
        self.faults: dict[str, str] = {}
        self._computed = 0
        self._shelf: Shelf | None = None
        self._memory: dict[str, np.ndarray] = {}
        self._commit_every = commit_every
        self._most_bytes = most_bytes
        self._names: list[str] = []
        self._values: list[np.ndarray] = []

    def open(self, shelf: Shelf, names: Sequence[str], progress: Progress) -> None:
        """Keep records on a shelf; what it has already is known, where it is whole. Damaged records are computed again.

        Every known record is read once here for its checksum. That is a gigabyte a second, a hundredth of the first epoch
        that trains on it, and it leaves the records in the page cache; for it, damage is found where the images and the
        engine are at hand to repair it.
        """
        self._shelf = shelf
        self.known = shelf.verify([name for name in names if name])
        self.tell(progress)

    def tell(self, progress: Progress) -> None:
        """Pass on what the shelf found damaged."""
        if self._shelf is not None:
            for fault in self._shelf.faults:
                progress.warn(fault)
            self._shelf.faults.clear()

    def add(self, names: list[str], values: np.ndarray) -> None:
        if not names:
            return
        self._computed += len(names)
        if self._shelf is None:
            self._memory.update(zip(names, values, strict=True))
            return
        self._names += names
        self._values.append(values)
        if len(self._names) >= self._commit_every or sum(part.nbytes for part in self._values) >= self._most_bytes:
            self._commit()

    def close(self) -> None:
        if self._shelf is not None:
            try:
                self._commit()
            finally:
                self._shelf.close()

    def activations(
        self, names: Sequence[str], failed: Mapping[int, str], seconds: float, engine: Engine
    ) -> Activations:
        """Of all images, by the digests of their contents."""
        bad = {**failed, **{i: self.faults[name] for i, name in enumerate(names) if name in self.faults}}
        digests = tuple("" if i in bad else name for i, name in enumerate(names))
        return Activations(
            digests, bad, self._computed, len(self.known), seconds, self._shelf, self._memory, engine.record
        )

    def _commit(self) -> None:
        # Emptied first: what the disk had no room for is not tried a second time on the way out.
        names, values = self._names, self._values
        self._names, self._values = [], []
        if names and self._shelf is not None:
            self._shelf.write(names, np.concatenate(values))


def key_for(backbone: Backbone, tap: Tap, engine: Engine, view: View = PLAIN) -> Key:
    """The key under which activations are kept. Its weights are those below the cut: tuning what is above keeps it."""
    shape, dtype = engine.record
    whole = tap.kind == "pooled" or tap.cut == "none"
    weights = backbone.fingerprint if whole else fingerprint(dict(backbone.below(tap.cut).state_dict()))
    return Key(
        weights=weights,
        preprocess=backbone.preprocess.to_dict(),
        view=view.name,
        tap=str(tap),
        engine=engine.fingerprint,
        shape=tuple(shape),
        dtype=dtype,
        backbone=backbone.name,
    )


def _digests(photos: Sequence[Photo], failed: dict[int, str], block: int = 512) -> list[str]:
    def one(photo: Photo) -> tuple[str, str]:
        try:
            return digest_of(photo), ""
        except ImageError as error:
            return "", error.what

    found: list[tuple[str, str]] = []
    with ThreadPoolExecutor(max(2, processors())) as pool:
        for start in range(0, len(photos), block):  # a pool takes all its tasks at once, and keeps them in memory
            found += pool.map(one, photos[start : start + block])
    failed.update({i: reason for i, (_, reason) in enumerate(found) if reason})
    return [name for name, _ in found]
