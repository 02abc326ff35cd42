"""``RayExecutor``: the frozen part on a cluster, for every job that is handed an ``Executor``.

The records come back to the driver, which is the one writer of the store: what was known before is not sent out, and what
was committed is not lost with the driver.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa

from greffon.activations import Encoded, Engine, Job, LocalExecutor, Photo
from greffon.activations.executing import Batch
from greffon.distributed.cluster import Cluster, import_ray, look_around
from greffon.distributed.packing import pack
from greffon.distributed.pipeline import arrived, crew_for, stream
from greffon.errors import ImageError
from greffon.images import Preprocess, View

__all__ = ["RayExecutor", "RecordsWorker"]


@final
class RayExecutor:
    """The cluster that ``connected`` has reached.

    Parameters
    ----------
    workers
        How many; 0: a processor each.
    block
        Views of images in a block at least: what is done again when a worker dies.
    """

    def __init__(self, cluster: Cluster, workers: int = 0, block: int = 64) -> None:
        self.cluster = cluster
        self.workers = workers
        self.block = block
        self._seen = False

    def run(self, jobs: Sequence[Job], preprocess: Preprocess, engine: Engine) -> Iterator[Batch]:
        ray = import_ray()
        crew = crew_for(self.cluster, engine, self.workers)
        if not self._seen:
            first = next((job.photo for job in jobs if isinstance(job.photo, Path)), None)
            look_around(self.cluster, [] if first is None else [os.fspath(first.absolute())])
            self._seen = True
        size = -(-self.block // engine.batch) * engine.batch
        # Blocks that are small beside the pass, so that all workers end at about the same time.
        count = sum(len(job.views) for job in jobs)
        size = max(engine.batch, min(size, -(-count // (4 * crew.workers) // engine.batch) * engine.batch))
        orders = [_order(first, some) for first, some in _blocks(jobs, size)]
        sent = ray.put(pack(engine))
        for part in stream(orders, RecordsWorker, (sent, crew.threads, json.dumps(preprocess.to_dict())), crew):
            yield _batch(part)


def _blocks(jobs: Sequence[Job], size: int) -> Iterator[tuple[int, Sequence[Job]]]:
    """Runs of jobs with about so many views, each with the number of its first record."""
    start = first = count = 0
    for i, job in enumerate(jobs):
        count += len(job.views)
        if count >= size or i == len(jobs) - 1:
            yield first, jobs[start : i + 1]
            start, first, count = i + 1, first + count, 0


def _order(first: int, jobs: Sequence[Job]) -> bytes:
    """A block as an Arrow stream: of each photo its path, or its file, or its pixels with their shape."""
    looks = list({view.name: view for job in jobs for view in job.views}.values())
    place = {view.name: i for i, view in enumerate(looks)}
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS.names}
    for job in jobs:
        path = content = shape = fault = None
        if isinstance(job.photo, np.ndarray):
            content, shape = job.photo.tobytes(), list(job.photo.shape)
        elif isinstance(job.photo, Encoded):
            try:
                content = job.photo.read()
            except ImageError as error:
                fault = error.what
        else:
            path = os.fsencode(job.photo.absolute())
        row = (path, content, shape, fault, job.digest, [place[view.name] for view in job.views])
        for name, value in zip(_COLUMNS.names, row, strict=True):
            columns[name].append(value)
    about = {"first": str(first), "views": json.dumps([view.to_dict() for view in looks])}
    return _stream(pa.table(columns, schema=_COLUMNS.with_metadata(about)))


_COLUMNS = pa.schema(
    [
        ("path", pa.binary()),
        ("content", pa.large_binary()),
        ("shape", pa.list_(pa.int64())),
        ("fault", pa.string()),
        ("digest", pa.string()),
        ("views", pa.list_(pa.int64())),
    ]
)


def _jobs(order: pa.Buffer) -> tuple[int, list[Job]]:
    """The inverse of ``_order``."""
    table = pa.ipc.open_stream(order).read_all()
    about = table.schema.metadata
    looks = [View.from_dict(one) for one in json.loads(about[b"views"])]
    jobs = []
    for row in table.to_pylist():
        if row["shape"] is not None:
            photo: Photo = np.frombuffer(row["content"], np.uint8).reshape(row["shape"])
        elif row["path"] is not None:
            photo = Path(os.fsdecode(row["path"]))
        else:
            photo = Encoded("a file", _Reader(row["content"], row["fault"]))
        jobs.append(Job(photo, row["digest"], tuple(looks[i] for i in row["views"])))
    return int(about[b"first"]), jobs


@final
@dataclass(frozen=True, slots=True)
class _Reader:
    """Gives the bytes of a file that came along, or why there are none."""

    content: bytes | None
    fault: str | None

    def __call__(self) -> bytes:
        if self.content is None:
            raise ImageError(self.fault or "cannot be read")
        return self.content


def _reply(numbers: list[int], values: list[np.ndarray], failed: dict[int, str]) -> bytes:
    """Records as an Arrow stream, laid down as they lie in memory."""
    whole = np.ascontiguousarray(np.concatenate(values)) if values else np.zeros((0, 0), np.uint8)
    width = whole.nbytes // len(numbers) if numbers else 1
    records = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(numbers), [None, pa.py_buffer(whole)])
    about = {"shape": json.dumps(whole.shape[1:]), "dtype": whole.dtype.name, "failed": json.dumps(failed)}
    table = pa.table({"number": pa.array(numbers, pa.int64()), "record": records}).replace_schema_metadata(about)
    return _stream(table)


def _batch(reply: pa.Buffer) -> Batch:
    """The inverse of ``_reply``; the records are not copied."""
    table = pa.ipc.open_stream(reply).read_all()
    about = table.schema.metadata
    failed = {int(number): reason for number, reason in json.loads(about[b"failed"]).items()}
    if not len(table):
        return [], np.zeros((0,)), failed
    shape, dtype = json.loads(about[b"shape"]), about[b"dtype"].decode()
    records = table.column("record").combine_chunks()
    lying = records if isinstance(records, pa.Array) else records.chunk(0)
    values = np.frombuffer(lying.buffers()[1], dtype, count=len(table) * math.prod(shape)).reshape(len(table), *shape)
    return table.column("number").to_pylist(), values, failed


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@final
class RecordsWorker:
    """On a worker: the records of blocks of jobs.

    Parameters
    ----------
    packed
        A ``PackedEngine``, or a reference to it.
    threads
        That it may use.
    preprocess
        As JSON.
    """

    def __init__(self, packed: Any, threads: int, preprocess: str) -> None:
        self._engine = arrived(packed, threads)
        self._executor = LocalExecutor(threads)
        self._preprocess = Preprocess.from_dict(json.loads(preprocess))

    def __call__(self, order: pa.Buffer) -> bytes:
        first, jobs = _jobs(order)
        numbers: list[int] = []
        values: list[np.ndarray] = []
        failed: dict[int, str] = {}
        for found, records, bad in self._executor.run(jobs, self._preprocess, self._engine):
            numbers += [first + number for number in found]
            failed |= {first + number: reason for number, reason in bad.items()}
            values += [records] if found else []
        return _reply(numbers, values, failed)
