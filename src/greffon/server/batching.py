"""Requests become batches: a bounded queue, deadlines, and one thread that runs the network.

While the network runs, the next pictures gather; what has gathered runs together. So nobody waits for others to come,
and the busier the server, the fuller its batches. Whoever cannot be answered in time is told so at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Protocol, final

import numpy as np

from greffon.server.engines import Outputs
from greffon.server.limits import ServerLimits
from greffon.server.problems import Problem

__all__ = ["Answer", "Batcher", "Runs", "Watcher"]

#: How much of what was measured last counts in the estimate of what an image costs, where it is more and where it is
#: less than was thought; and how much of the deadline the estimate may fill.
_MORE, _LESS, _FILLED = 0.5, 0.1, 0.6


class Runs(Protocol):
    """What a batcher runs; see ``Engine.run``."""

    def run(self, pictures: np.ndarray, *, maps: bool = False) -> Outputs:
        """uint8 (n, height, width, 3) to what the network says of them."""
        ...


class Watcher(Protocol):
    """Told of every batch: how many pictures, and how many seconds they took."""

    def batch(self, images: int, seconds: float) -> None:
        """A batch has run."""
        ...


@final
@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the network says of one picture.

    Parameters
    ----------
    probabilities
        float64 (c,).
    maps
        float32 (c, h', w') where they were asked for.
    features
        float32 (d,) where the network gives them.
    """

    probabilities: np.ndarray
    maps: np.ndarray | None
    features: np.ndarray | None = None


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    picture: np.ndarray
    due: float
    maps: bool
    done: asyncio.Future[Answer]


@final
class Batcher:
    """Runs pictures of many requests together. Made and used in the thread of one event loop.

    Parameters
    ----------
    engine
        Run by a thread of this batcher's alone.
    limits
        Of the queue, of a batch, and of time.
    watcher
        Told of every batch, in the batcher's own thread.
    fault
        Told of an exception of the engine's, in the same thread.
    clock
        Seconds; only differences count.
    """

    def __init__(
        self,
        engine: Runs,
        limits: ServerLimits,
        *,
        watcher: Watcher | None = None,
        fault: Callable[[Exception], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._limits, self._watcher, self._fault, self._clock = engine, limits, watcher, fault, clock
        self._jobs: deque[_Job] = deque()
        self._patient: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._stopped = False
        self._admitted = {False: 0, True: 0}
        self.cost = 0.0
        self._thread = threading.Thread(target=self._work, name="greffon-engine", daemon=True)
        self._thread.start()

    @property
    def admitted(self) -> int:
        """Images that are being decoded, wait, or run."""
        return sum(self._admitted.values())

    @contextmanager
    def admit(self, images: int, *, patient: bool = False) -> Iterator[float]:
        """Room for so many images while the block runs, and the time by which they must be answered.

        Parameters
        ----------
        patient
            They come after those that are not, and have longer.

        Raises
        ------
        Problem
            ``busy``: they would come too late, or there is no room. ``too-many-images``: they would even alone.
        """
        seconds = self._limits.patience if patient else self._limits.deadline
        ahead = self.admitted if patient else self._admitted[False]
        needed, usable = (ahead + images) * self.cost, seconds * _FILLED
        if images > self._limits.queue or (images * self.cost > usable and not patient):
            fitting = min(self._limits.queue, int(usable / self.cost) if self.cost else self._limits.queue)
            raise Problem("too-many-images", f"{images} images would take {images * self.cost:.1f} s, and an answer may take {seconds:g} s:"
                          f" send {max(1, fitting)} at a time")  # fmt: skip
        if ahead + images > self._limits.queue or needed > usable:
            wait = max(1, ceil(needed - usable))
            raise Problem("busy", f"{ahead} images are before yours; try again in {wait} s", headers={"Retry-After": str(wait)})
        self._admitted[patient] += images
        try:
            yield self._clock() + seconds
        finally:
            self._admitted[patient] -= images

    async def run(self, pictures: Sequence[np.ndarray], due: float, *, maps: bool = False, patient: bool = False) -> list[Answer]:
        """The answers to pictures that were admitted, each uint8 (height, width, 3), in their order.

        Raises
        ------
        Problem
            ``out-of-time``, ``stopping`` or ``fault``.
        """
        loop = asyncio.get_running_loop()
        jobs = [_Job(picture, due, maps, loop.create_future()) for picture in pictures]
        with self._wake:
            if self._stopped:
                raise Problem("stopping", "the model is being put away")
            (self._patient if patient else self._jobs).extend(jobs)
            self._wake.notify()
        try:
            return list(await asyncio.gather(*(job.done for job in jobs)))
        finally:
            for job in jobs:  # where one failed, or the client has gone, the others need not run
                job.done.cancel()

    def measured(self, seconds: float) -> None:
        """Take what one image has cost into the estimate."""
        share = _MORE if seconds > self.cost else _LESS
        self.cost = seconds if not self.cost else (1 - share) * self.cost + share * seconds

    def stop(self) -> None:
        """Answer what waits, and end the thread."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join()

    def _work(self) -> None:
        ended = self._clock()
        while True:
            with self._wake:
                waited = not (self._jobs or self._patient)
                while not (self._jobs or self._patient or self._stopped):
                    self._wake.wait()
                # The patient go in small batches, so that who comes in between waits for little.
                queue, most = (self._jobs, self._limits.batch) if self._jobs else (self._patient, max(2, self._limits.batch // 4))
                if not queue:
                    return
                batch = [queue.popleft() for _ in range(min(len(queue), most, self._limits.batch))]
            # Where others were waiting already, what passes between two batches is a part of what an image costs.
            ended = self._run(batch, self._clock() if waited else ended)

    def _run(self, batch: list[_Job], before: float) -> float:
        """Run a batch; when it ended. ``before`` is where its time begins."""
        began = self._clock()
        ready = [job for job in batch if not job.done.done() and job.due > began]
        late = [job for job in batch if not job.done.done() and job.due <= began]
        results: list[Answer | Problem] = [_late() for _ in late]
        if ready:
            results += self._answers(ready)
            ended = self._clock()
            self.measured((ended - before) / len(ready))
            if self._watcher:
                self._watcher.batch(len(ready), ended - began)
        _hand_over([*late, *ready], results)
        return self._clock()

    def _answers(self, jobs: list[_Job]) -> list[Answer | Problem]:
        try:
            found = self._engine.run(np.stack([job.picture for job in jobs]), maps=any(job.maps for job in jobs))
            rows = found.probabilities.astype(np.float64)
            if rows.shape[0] != len(jobs) or not np.isfinite(rows).all():
                raise ValueError("the network gave no probabilities")
        except Exception as error:  # the thread must live on, whatever an engine raises
            if self._fault:
                self._fault(error)
            return [Problem("fault", "the network could not be run; see the server's log") for _ in jobs]
        maps, features = found.maps, found.features
        return [Answer(rows[i], maps[i] if maps is not None and jobs[i].maps else None, None if features is None else features[i])
                for i in range(len(jobs))]  # fmt: skip


def _late() -> Problem:
    detail = "the deadline passed while the request waited: the server is slower than it was"
    return Problem("out-of-time", detail, headers={"Retry-After": "1"})


def _hand_over(jobs: Sequence[_Job], results: Sequence[Answer | Problem]) -> None:
    """To the event loops that wait; a loop that is closed waits no more."""

    if not jobs:
        return

    def give() -> None:
        for job, result in zip(jobs, results, strict=True):
            if job.done.done():
                continue
            if isinstance(result, Problem):
                job.done.set_exception(result)
            else:
                job.done.set_result(result)

    try:
        jobs[0].done.get_loop().call_soon_threadsafe(give)
    except RuntimeError:
        return
