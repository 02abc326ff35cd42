"""Blocks of work on their way through Ray Data: from the driver to a pool of workers, and their answers back.

Ray Data streams: as many blocks are on their way as the workers and the object store bear, and where the driver is slow to
take the answers, no more are begun. What one worker was at when it was killed is done again by another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import pyarrow as pa

from greffon import errors
from greffon.activations import Engine, QuantisedEngine, TorchEngine
from greffon.distributed.cluster import Cluster, import_ray
from greffon.distributed.packing import OwnEngine, PackedEngine, unpack
from greffon.errors import GreffonError, OptionError

__all__ = ["BlockWorker", "Crew", "arrived", "crew_for", "raised", "stream"]

#: So many tasks at most: with more blocks, a task has several of them.
_TASKS = 4096


@final
@dataclass(frozen=True, slots=True)
class Crew:
    """The pool of workers.

    Parameters
    ----------
    workers
        How many.
    threads
        Processors that each of them has.
    gpu
        Whether each of them has a GPU.
    """

    workers: int
    threads: int
    gpu: bool = False


def crew_for(cluster: Cluster, engine: Engine, workers: int = 0) -> Crew:
    """A worker a processor: one thread alone wastes nothing by waiting for others. A worker a GPU, where the engine runs on that.

    OpenVINO takes all the processors of a machine, so there is one worker a machine for int8.

    Parameters
    ----------
    workers
        How many, instead. More than there is room for now wait: for machines that an autoscaler brings.

    Raises OptionError where there is room for none, and no number is given.
    """
    gpu = isinstance(engine, TorchEngine) and engine.device == "cuda"
    slots = cluster.gpus if gpu else cluster.processors
    if workers < 0:
        raise OptionError(f"--ray-workers must be a whole number from 0, got {workers}")
    if not slots and not workers:
        raise OptionError(f"--ray: the cluster has no {'GPUs' if gpu else 'processors'} now",
                          hint="Where an autoscaler brings machines, say how many workers there may be: --ray-workers N.")  # fmt: skip
    if gpu:
        return Crew(workers or slots, max(1, min((cpus // gpus for _, _, cpus, gpus in cluster.nodes if gpus), default=1)), True)
    if isinstance(engine, QuantisedEngine):
        threads = min((cpus for _, _, cpus, _ in cluster.nodes if cpus), default=1)
        return Crew(workers or sum(cpus // threads for _, _, cpus, _ in cluster.nodes), threads)
    return Crew(workers or slots, 1)


def stream(orders: Sequence[bytes], worker: type, arguments: tuple[Any, ...], crew: Crew) -> Iterator[pa.Buffer]:
    """The answer to each order, in any order.

    Parameters
    ----------
    orders
        One a block of work.
    worker
        A class; called with ``arguments`` once a worker, and its object with an order, many times, which gives the answer.

    Raises
    ------
    GreffonError
        What a worker raised, or that Ray gave up.
    """
    ray = import_ray()
    share = -(-len(orders) // _TASKS)
    tables = [pa.table({"order": pa.array(orders[i : i + share], pa.large_binary())}) for i in range(0, len(orders), share)]
    if not tables:
        return
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=crew.workers, initial_size=crew.workers)
    pipeline = ray.data.from_arrow(tables).map_batches(
        BlockWorker,
        batch_size=1,
        batch_format="pyarrow",
        compute=pool,
        fn_constructor_args=(worker, arguments),
        num_cpus=crew.threads,
        num_gpus=1 if crew.gpu else None,
    )
    try:
        for table in pipeline.iter_batches(batch_size=None, batch_format="pyarrow"):
            for cell, fault in zip(table.column("answer"), table.column("fault").to_pylist(), strict=True):
                if fault is not None:
                    raise raised(json.loads(fault))
                yield cell.as_buffer()
    except ray.exceptions.RayError as error:
        raise GreffonError(f"--ray: {_told(error)}") from error


def _told(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"the cluster gave up ({lines[-1][:300] if lines else type(error).__name__})"


@final
class BlockWorker:
    """What Ray makes of a worker's class: errors of greffon's own come back as answers, since Ray would tell them as a text.

    Parameters
    ----------
    make, arguments
        See ``stream``.
    """

    def __init__(self, make: type, arguments: tuple[Any, ...]) -> None:
        self._fault: GreffonError | None = None
        try:
            self._worker = make(*arguments)
        except GreffonError as error:
            self._fault = error

    def __call__(self, orders: pa.Table) -> pa.Table:
        answers, faults = [], []
        for order in orders.column("order"):
            try:
                if self._fault is not None:
                    raise self._fault
                answers.append(self._worker(order.as_buffer()))
                faults.append(None)
            except GreffonError as error:
                answers.append(b"")
                faults.append(json.dumps([type(error).__name__, error.what, error.hint]))
        return pa.table({"answer": pa.array(answers, pa.large_binary()), "fault": pa.array(faults, pa.string())})


def raised(fault: list[str]) -> GreffonError:
    """An error of greffon's own as it came from a worker: its kind, what, and hint."""
    kind, what, hint = fault
    return getattr(errors, kind, GreffonError)(what, hint=hint)


def arrived(packed: Any, threads: int) -> OwnEngine:
    """The engine on a worker, in a process that keeps to its threads."""
    import torch

    ray = import_ray()
    torch.set_num_threads(threads)
    whole = ray.get(packed) if isinstance(packed, ray.ObjectRef) else packed
    assert isinstance(whole, PackedEngine)
    return unpack(whole)
