"""``RayLauncher``: fine-tuning above the cut by workers on a cluster, which see the same disk.

Ray places one actor a worker and tells when one of them is lost. Then all begin again, with as many as the cluster has room for, and go on
from the checkpoint. They run greffon's one loop; the batch is that of the recipe whatever their number is.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, final

from greffon.distributed.cluster import Cluster, import_ray, look_around, software
from greffon.distributed.pipeline import raised
from greffon.errors import GreffonError, OptionError
from greffon.progress import Progress, Silent
from greffon.training import EpochListener, EpochRow, Ranks, Trained, load_checkpoint, peek_progress
from greffon.transfer.inductive import TrainingOrder

__all__ = ["RayLauncher", "TrainingWorker"]

#: How often all workers begin again before the job is given up; an epoch that was finished in between counts anew.
_RESTARTS = 3
#: How long workers wait for each other to begin. One that dies is noticed at once.
_PATIENCE = timedelta(minutes=30)


@final
class RayLauncher:
    """A ``Launcher`` on the cluster that ``connected`` has reached.

    Parameters
    ----------
    workers
        How many at most; 0: one a GPU or, without GPUs, one a processor.
    """

    def __init__(self, cluster: Cluster, workers: int = 0) -> None:
        self.cluster = cluster
        self.workers = workers

    def train(self, order: TrainingOrder, *, progress: Progress, listener: EpochListener | None) -> Trained:
        """See ``Launcher``."""
        if order.checkpoint is None or order.configuration is None:
            raise OptionError("--ray: training on a cluster needs a folder that its machines share, for the checkpoint",
                              hint="Give --out.")  # fmt: skip
        gpu = self.cluster.gpus > 0
        most = self.workers or (self.cluster.gpus if gpu else self.cluster.processors) or 1
        most = min(most, order.recipe.batch, len(order.train))
        threads = 1 if not gpu else max(1, min((cpus // gpus for _, _, cpus, gpus in self.cluster.nodes if gpus), default=1))
        Ranks(0, most).check(order.recipe, len(order.train))
        message, checkpoint = order.to_bytes(), order.checkpoint.absolute()
        look_around(self.cluster, [os.fspath(checkpoint.parent)])
        if not order.resume:
            checkpoint.unlink(missing_ok=True)
        with _watched(checkpoint, order, progress, listener):
            _fit(message, checkpoint, most, threads, gpu, progress)
        known = load_checkpoint(checkpoint, order.configuration)
        if known is None:
            raise GreffonError(f"--ray: the workers have ended, and there is no checkpoint in {checkpoint.parent}",
                               hint="--out must lie on a disk that all machines share.")  # fmt: skip
        history = tuple(EpochRow.from_dict(row) for row in known.progress["history"])
        if listener is not None:
            listener.follow(history)
        return Trained(known.part("best"), history, int(known.progress["best_epoch"]), str(known.progress["stopped"]))


def _fit(message: bytes, checkpoint: Path, most: int, threads: int, gpu: bool, progress: Progress) -> None:
    """Have the order run to its end. Raises GreffonError, of the kind that a worker raised."""
    ray = import_ray()
    sent, left, before = ray.put(message), _RESTARTS, -1
    while True:
        count = min(most, _room(ray, threads, gpu))
        progress.say(f"training on {count} {'worker' if count == 1 else 'workers'} of the cluster")
        if _once(ray, sent, count, threads, gpu):
            return
        known = peek_progress(checkpoint)
        epochs = -1 if known is None else len(known["history"])
        left, before = (_RESTARTS if epochs > before else left - 1), epochs
        if left < 0:
            raise GreffonError(f"--ray: workers were lost {_RESTARTS + 1} times in one epoch; training was given up",
                               hint="The last checkpoint is there: run the command again with --resume.")  # fmt: skip
        progress.warn("--ray: a worker was lost; all begin again from the last checkpoint")


def _room(ray: Any, threads: int, gpu: bool) -> int:
    """How many workers the cluster has room for, of those machines that are there now: at the least one."""
    there = ray.cluster_resources()
    return max(1, int(there.get("GPU", 0) if gpu else there.get("CPU", 0) // threads))


def _once(ray: Any, sent: Any, count: int, threads: int, gpu: bool) -> bool:
    """Run the order on so many workers; False where one of them was lost."""
    make = ray.remote(num_cpus=threads, num_gpus=1 if gpu else 0, max_restarts=0)(TrainingWorker)
    crew = [make.remote(rank, count, threads) for rank in range(count)]
    try:
        place = ray.get(crew[0].place.remote())
        waiting, lost, faults = [one.train.remote(sent, software(), place) for one in crew], False, []
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            try:
                faults += [fault for fault in ray.get(done) if fault]
            except ray.exceptions.RayActorError:
                lost = True
        ours = [fault for fault in map(json.loads, faults) if fault[0] != GreffonError.__name__]
        if ours:
            raise raised(ours[0])
        return not lost and not faults
    except ray.exceptions.RayActorError:
        return False
    except ray.exceptions.RayError as error:
        raise GreffonError(f"--ray: training on the cluster was given up ({str(error).strip().splitlines()[-1][:300]})",
                           hint="The last checkpoint is there: run the command again with --resume.") from error  # fmt: skip
    finally:
        for one in crew:
            ray.kill(one)


@final
class TrainingWorker:
    """On the cluster: one of the processes that train together.

    Parameters
    ----------
    rank, count
        Which of how many.
    threads
        That it may use.
    """

    def __init__(self, rank: int, count: int, threads: int) -> None:
        self._rank, self._count, self._threads = rank, count, threads

    def place(self) -> tuple[str, int]:
        """Where the others find the first of them: its machine's address, and a port that is free."""
        address = str(import_ray().util.get_node_ip_address())
        with socket.create_server((address, 0)) as server:
            return address, int(server.getsockname()[1])

    def train(self, message: bytes, sources: str, place: tuple[str, int]) -> str:
        """Go on from the checkpoint, if there is one. "", or the error as JSON: Ray would tell it as a text."""
        import torch
        import torch.distributed

        try:
            if sources != software():
                raise OptionError(f"--ray: a worker has {software()}, and the run was started by {sources}",
                                  hint="Install the same greffon on every machine of the cluster.")  # fmt: skip
            torch.set_num_threads(self._threads)
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            try:
                torch.distributed.init_process_group(backend, init_method=f"tcp://{place[0]}:{place[1]}", rank=self._rank,
                                                     world_size=self._count, timeout=_PATIENCE)  # fmt: skip
            except (RuntimeError, ValueError) as error:
                raise GreffonError(f"--ray: the workers do not come together ({str(error)[:200]})") from error
            TrainingOrder.from_bytes(message).run(progress=Silent(), ranks=Ranks.joined(), resume=True)
        except GreffonError as error:
            return json.dumps([type(error).__name__, error.what, error.hint])
        finally:
            if torch.distributed.is_initialized():
                with contextlib.suppress(RuntimeError):
                    torch.distributed.destroy_process_group()
        return ""


@contextlib.contextmanager
def _watched(checkpoint: Path, order: TrainingOrder, progress: Progress, listener: EpochListener | None) -> Iterator[None]:
    """Tells of the epochs while the workers train, by the checkpoint that they leave after each."""
    over = threading.Event()
    progress.begin("Training", order.recipe.epochs)
    seen = 0

    def look() -> None:
        nonlocal seen
        while not over.wait(1.0):
            known = peek_progress(checkpoint)
            rows = [] if known is None else known["history"]
            if len(rows) - 1 > seen:
                progress.advance(len(rows) - 1 - seen)
                seen = len(rows) - 1
                if listener is not None:
                    listener.follow([EpochRow.from_dict(row) for row in rows])

    watcher = threading.Thread(target=look, name="greffon-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        progress.end()
