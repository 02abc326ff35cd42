"""``RayLauncher``: fine-tuning above the cut as a Ray Train job, by workers that see the same disk.

Ray Train places the workers, joins them into one process group, notices that one is lost or that machines have come or gone, and begins
again with as many as there is room for; all then go on from the checkpoint. They run greffon's one loop: the batch is that of the recipe,
whatever their number is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, final

from greffon.distributed.cluster import Cluster, import_ray, look_around, software
from greffon.distributed.pipeline import raised
from greffon.errors import GreffonError, OptionError
from greffon.progress import Progress, Silent
from greffon.training import EpochListener, EpochRow, Ranks, Trained, load_checkpoint, peek_progress
from greffon.transfer.inductive import TrainingOrder
from greffon.whole import whole_file

__all__ = ["RayLauncher", "train_together"]

#: How often workers may be lost before the job is given up. Machines that their owner takes back with notice are not counted.
_LOSSES = 10
#: Seconds that workers wait for each other's messages. One that dies is noticed at once.
_PATIENCE = 1800
#: Seconds between two looks of Ray Train's at machines that have come, when it has fewer workers than were asked for.
_LOOK_FOR_MACHINES = 60.0
#: Seconds until a worker should have begun: on a busy cluster Ray Train waits until there is room for one.
_SLOW = 90.0
#: Ray Train's folder beside the checkpoint, for as long as the job runs; and what workers write there.
_FOLDER, _START, _FAULT = ".ray-train", "start-", "fault-"


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
        folder = checkpoint.parent / _FOLDER
        if not order.resume:
            checkpoint.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)  # of a driver that was killed
        progress.begin("Training", order.recipe.epochs)
        try:
            _run(_trainer(message, folder, most, threads, gpu), _Watch(checkpoint, folder, progress, listener))
        finally:
            progress.end()
            fault = _fault(folder)
            shutil.rmtree(folder, ignore_errors=True)
        if fault is not None:
            raise fault
        known = load_checkpoint(checkpoint, order.configuration)
        if known is None:
            raise GreffonError(f"--ray: the workers have ended, and there is no checkpoint in {checkpoint.parent}",
                               hint="--out must lie on a disk that all machines share.")  # fmt: skip
        history = tuple(EpochRow.from_dict(row) for row in known.progress["history"])
        if listener is not None:
            listener.follow(history)
        return Trained(known.part("best"), history, int(known.progress["best_epoch"]), str(known.progress["stopped"]))


def _trainer(message: bytes, folder: Path, most: int, threads: int, gpu: bool) -> Any:
    """Ray Train's job: from one worker to ``most``, as there is room."""
    ray = import_ray()
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    return TorchTrainer(
        train_together,
        train_loop_config={"order": ray.put(message), "sources": software(), "folder": os.fspath(folder), "threads": threads},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo", timeout_s=_PATIENCE),
        scaling_config=ScalingConfig(
            num_workers=(1, most) if most > 1 else 1, use_gpu=gpu, elastic_resize_monitor_interval_s=_LOOK_FOR_MACHINES,
            resources_per_worker={"CPU": threads, **({"GPU": 1} if gpu else {})},
        ),
        run_config=RunConfig(
            name=folder.name, storage_path=os.fspath(folder.parent), failure_config=FailureConfig(max_failures=_LOSSES),
            logging_config=LoggingConfig("CRITICAL"),
        ),
    )  # fmt: skip


def train_together(given: Mapping[str, Any]) -> None:
    """What each of Ray Train's workers does: go on from the checkpoint, if there is one, until the order is done.

    An error that another try would meet again is written down for the driver, and not raised: Ray Train would begin again.

    Parameters
    ----------
    given
        ``order``, a reference to the bytes of a ``TrainingOrder``; ``sources``, of the driver's greffon; ``folder``, which all
        machines see; ``threads``, that one worker may use.
    """
    import torch

    folder, ranks = Path(given["folder"]), Ranks.joined()
    if _fault(folder) is not None:
        return
    try:
        if given["sources"] != software():
            raise OptionError(f"--ray: a worker has {software()}, and the run was started by {given['sources']}",
                              hint="Install the same greffon on every machine of the cluster.")  # fmt: skip
        torch.set_num_threads(given["threads"])
        if ranks.rank == 0:
            _write(folder, _START, ranks.count)
        TrainingOrder.from_bytes(import_ray().get(given["order"])).run(progress=Silent(), ranks=ranks, resume=True)
    except GreffonError as error:
        if type(error) is GreffonError:  # the processes have lost each other
            raise
        _write(folder, _FAULT, [type(error).__name__, error.what, error.hint])


def _write(folder: Path, kind: str, value: Any) -> None:
    """One more file of this kind, whole as soon as it has its name."""
    with whole_file(folder / f"{kind}{time.time_ns()}-{os.getpid()}.json") as part:
        part.write_text(json.dumps(value), "utf-8")


def _fault(folder: Path) -> GreffonError | None:
    """What a worker has met that another try would meet again."""
    first = min(folder.glob(f"{_FAULT}*.json"), default=None)
    return None if first is None else raised(json.loads(first.read_text("utf-8")))


def _run(trainer: Any, look: Callable[[], None]) -> None:
    """Have the job run to its end, looking at it each second. Raises GreffonError where it was given up.

    It runs in a thread, for in the main one Ray Train takes Ctrl-C for itself.
    """
    from ray.train import TrainingFailedError

    over: Future[None] = Future()

    def work() -> None:
        try:
            trainer.fit()
            over.set_result(None)
        except BaseException as error:
            over.set_exception(error)

    threading.Thread(target=work, name="greffon-ray-train", daemon=True).start()
    while not wait([over], 1.0).done:
        look()
    look()
    try:
        over.result()
    except (TrainingFailedError, import_ray().exceptions.RayError) as error:
        raise GreffonError(f"--ray: training on the cluster was given up ({_reason(error)})",
                           hint="The last checkpoint is there: run the command again with --resume.") from error  # fmt: skip


def _reason(error: BaseException) -> str:
    """Of what Ray tells: which worker, and its error, of which the last line says most."""
    failures = getattr(error, "worker_failures", None) or {}
    rank, cause = min(failures.items(), default=(-1, error), key=lambda one: one[0])
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or ["?"]
    return (f"worker {rank + 1}: " if rank >= 0 else "") + f"{type(cause).__name__}: {lines[-1][:300]}"


@final
class _Watch:
    """Tells how the job goes, by the files that its workers leave."""

    def __init__(self, checkpoint: Path, folder: Path, progress: Progress, listener: EpochListener | None) -> None:
        self._checkpoint, self._folder, self._progress, self._listener = checkpoint, folder, progress, listener
        self._starts: set[Path] = set()
        self._seen = 0
        self._late = time.monotonic() + _SLOW

    def __call__(self) -> None:
        for file in sorted(set(self._folder.glob(f"{_START}*.json")) - self._starts):
            with contextlib.suppress(OSError, ValueError):
                self._tell(int(json.loads(file.read_text("utf-8"))))
                self._starts.add(file)
        if not self._starts and time.monotonic() >= self._late:
            self._late = float("inf")
            self._progress.warn(f"--ray: no worker has begun in {_SLOW:.0f} s: has the cluster room (ray status)?")
        known = peek_progress(self._checkpoint)
        rows = [] if known is None else known["history"]
        if len(rows) - 1 > self._seen:
            self._progress.advance(len(rows) - 1 - self._seen)
            self._seen = len(rows) - 1
            if self._listener is not None:
                self._listener.follow([EpochRow.from_dict(row) for row in rows])

    def _tell(self, count: int) -> None:
        workers = f"{count} {'worker' if count == 1 else 'workers'} of the cluster"
        if self._starts:
            self._progress.warn(f"--ray: a worker was lost, or has come: all go on from the last checkpoint, on {workers}")
        else:
            self._progress.say(f"training on {workers}")
