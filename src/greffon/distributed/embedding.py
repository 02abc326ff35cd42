"""``greffon embed --ray``: features of any number of photos, written by the workers where they are computed."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa

from greffon.activations import Job, LocalExecutor, Photo, Tap, chosen_engine
from greffon.distributed.cluster import Cluster, connected, import_ray, look_around, must_be_installed
from greffon.distributed.packing import OwnEngine, pack
from greffon.distributed.pipeline import arrived, crew_for, stream
from greffon.distributed.sources import Block, Item, Source, find_source, items
from greffon.distributed.writing import (
    SCHEMA,
    Part,
    block_digest,
    part_name,
    read_part,
    remove_leavings,
    write_manifest,
    write_part,
    written,
)
from greffon.errors import DataError, GreffonError, OptionError
from greffon.heads import Representation
from greffon.images import PLAIN
from greffon.model import load_any_backbone, versions
from greffon.progress import Progress, Silent

__all__ = ["EmbedWorker", "Embedding", "embed", "embedded"]


@final
@dataclass(frozen=True, slots=True)
class Embedding:
    """What was written.

    Parameters
    ----------
    rows
        Of all files together.
    computed, reused
        Blocks that were done now, and those that an earlier run had done.
    set_aside
        Images and shards that could not be read, and why.
    """

    folder: str
    rows: int
    features: int
    files: int
    computed: int
    reused: int
    set_aside: tuple[tuple[str, str], ...]


def embed(
    data: Path | str,
    *,
    out: Path | str,
    address: str = "",
    workers: int = 0,
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    stages: str = "last",
    pool: str = "mean",
    precision: str = "auto",
    block: int = 256,
    progress: Progress | None = None,
) -> Embedding:
    """Write the pooled features of every image as a folder of Parquet files, with the columns of ``greffon embed``.

    Every file of the data has its row: copies are not looked for. The rows stand in the order of the files' names, and of
    the images in them. A run that was interrupted goes on where it was, if it is started again with the same data and
    options: at most one block a worker is done twice.

    Parameters
    ----------
    data
        See ``find_source``.
    out
        The folder to write, on a disk that all machines share, or an address such as ``s3://bucket/features``.
    address, workers
        See ``connected`` and ``crew_for``.
    block
        Images that are done in one go and written in one file.

    Raises
    ------
    GreffonError
        Of the kind that says what is wrong. Blocks that were written stay.
    """
    listener = progress or Silent()
    folder = str(out)
    taken = Representation(stages, pool, "standard")  # type: ignore[arg-type]  # it checks its values itself
    if block < 1:
        raise OptionError(f"embed: block must be a whole number from 1, got {block}")
    must_be_installed()
    source = find_source(data, block)
    written(folder)
    network = load_any_backbone(backbone, weights=weights, size=size, progress=listener)
    for note in source.notes:
        listener.warn(note)
    tap = Tap("map", "none") if pool == "flatten" else Tap("pooled")
    count = sum(one.images for one in source.blocks)
    engine, _ = chosen_engine(network, tap, precision, _some(source), listener, images=count)
    about = {
        "backbone": network.name,
        "weights": network.fingerprint,
        "preprocess": network.preprocess.to_dict(),
        "engine": engine.fingerprint,
        "precision": engine.precision,
        "stages": stages,
        "pool": pool,
    }
    fingerprint = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    digests = [block_digest(one, fingerprint) for one in source.blocks]
    names = [part_name(number, digest) for number, digest in enumerate(digests)]
    known = _known(folder, dict(zip(names, digests, strict=True)))
    missing = [i for i, name in enumerate(names) if name not in known]
    found = dict(known)
    if missing:
        remove_leavings(folder)
        orders = [_order(source.blocks[i], digests[i], names[i]) for i in missing]
        with connected(address) as cluster:
            for part in _done(cluster, engine, taken, folder, source, orders, workers, listener):
                found[part.file] = part
    parts = [found[name] for name in names]
    aside = [*source.set_aside, *((place, reason) for part in parts for place, reason in part.set_aside)]
    for one, part in zip(source.blocks, parts, strict=True):
        if part.fault:
            aside.append((one.name, part.fault.removeprefix(f"{one.name}: ")))
    for place, reason in aside:
        listener.warn(f"set aside: {place}: {reason}")
    rows, width = sum(part.rows for part in parts), max((part.features for part in parts), default=0)
    if not rows:
        raise DataError(f"{source.root}: none of its images can be read" + (f"; {aside[0][0]}: {aside[0][1]}" if aside else ""))
    kept = [part for part in parts if not part.fault]
    write_manifest(
        folder,
        {
            "version": 1,
            "rows": rows,
            "fingerprint": fingerprint,
            "schema": {field.name: str(field.type) for field in SCHEMA},
            "features": width,
            **about,
            "files": [{"file": part.file, "rows": part.rows} for part in kept],
            "set_aside": [{"path": place, "reason": reason} for place, reason in aside],
            "versions": versions(),
        },
    )
    return Embedding(folder, rows, width, len(kept), len(missing), len(known), tuple(aside))


def _some(source: Source, most: int = 96) -> list[Photo]:
    """Images for the choice of an engine. Of files, all, from which the same are drawn as on one machine; of others, some of
    each of some blocks, which are opened for it.
    """
    if source.local and all(block.kind == "files" for block in source.blocks):
        return [photo for block in source.blocks for _, _, photo in items(block)]
    places = np.unique(np.linspace(0, len(source.blocks) - 1, 8).astype(int)) if source.blocks else []
    found: list[Photo] = []
    for i in places:
        try:
            found += [photo for _, _, photo in itertools.islice(items(source.blocks[i]), most // len(places))]
        except (GreffonError, OSError):
            continue  # it is named when its turn comes
    return found


def _known(folder: str, wanted: dict[str, str]) -> dict[str, Part]:
    """What an earlier run has written of these files. Raises OptionError where there are files of something else."""
    there = written(folder)
    strange = [name for name in there if name not in wanted]
    if strange:
        raise OptionError(
            f"--out {folder}: holds files of another run ({strange[0]}): of other photos, weights or options",
            hint="Give another folder, or delete these files: features of two runs are not mixed.",
        )
    found = {name: read_part(folder, name) for name in there}
    return {name: part for name, part in found.items() if part is not None and part.block == wanted[name]}


def _order(block: Block, digest: str, file: str) -> bytes:
    values = {"kind": block.kind, "name": block.name, "images": block.images, "content": block.content, "digest": digest, "file": file}
    return json.dumps(values).encode()


def _done(
    cluster: Cluster,
    engine: Any,
    taken: Representation,
    folder: str,
    source: Source,
    orders: list[bytes],
    workers: int,
    progress: Progress,
) -> Iterator[Part]:
    """The blocks, as the workers have done them."""
    crew = crew_for(cluster, engine, workers)
    first = json.loads(source.blocks[0].content)
    place = first["places"][0] if source.blocks[0].kind == "files" else first["place"]
    look_around(cluster, [one for one, local in ((place, source.local), (folder, "://" not in folder)) if local])
    progress.say(f"{cluster}; {crew.workers} workers")
    sent = import_ray().put(pack(engine))
    arguments = (sent, crew.threads, taken.stages, taken.pool, folder)
    progress.begin(f"Running {engine.backbone.name} on {crew.workers} workers, in blocks", len(orders))
    try:
        for told in stream(orders, EmbedWorker, arguments, crew):
            yield Part.from_json(told.to_pybytes())
            progress.advance()
    finally:
        progress.end()


@final
class EmbedWorker:
    """On a worker: reads, decodes and runs blocks of images, and writes their features.

    Parameters
    ----------
    packed
        A ``PackedEngine``, or a reference to it.
    threads
        That it may use.
    stages, pool
        See ``Representation``.
    folder
        Where the files go.
    """

    def __init__(self, packed: Any, threads: int, stages: str, pool: str, folder: str) -> None:
        self._engine = arrived(packed, threads)
        self._executor = LocalExecutor(threads)
        self._taken = Representation(stages, pool, "standard")  # type: ignore[arg-type]  # it checks its values itself
        self._folder = folder

    def __call__(self, order: pa.Buffer) -> bytes:
        return self._part(json.loads(order.to_pybytes())).to_json().encode()

    def _part(self, order: dict[str, Any]) -> Part:
        before = read_part(self._folder, order["file"])
        if before is not None and before.block == order["digest"]:
            return before  # written just before its worker was killed
        block = Block(order["kind"], order["name"], order["images"], order["content"])
        return embedded(block, order["digest"], order["file"], self._engine, self._executor, self._taken, self._folder)


def embedded(
    block: Block, digest: str, file: str, engine: OwnEngine, executor: LocalExecutor, taken: Representation, folder: str
) -> Part:
    """Run one block and write its file. A damaged shard has no file, and says why."""
    names: list[str] = []
    labels: list[str | None] = []
    vectors: list[pa.Array] = []
    width = 0
    aside: list[tuple[str, str]] = []
    step = -(-256 // engine.batch) * engine.batch  # so many images of a large shard are in memory
    coming = items(block)
    try:
        while some := list(itertools.islice(coming, step)):
            good, values, bad = _run(some, engine, executor)
            aside += [(_printable(some[i][0]), reason.removeprefix(f"{some[i][0]}: ")) for i, reason in sorted(bad.items())]
            if good:
                features = taken.take(values, engine.backbone.widths())
                width = features.shape[1]
                offsets = pa.array(np.arange(len(good) + 1) * width, pa.int32())
                vectors.append(pa.ListArray.from_arrays(offsets, pa.array(features.reshape(-1), pa.float32())))
                names += [_printable(some[i][0]) for i in good]
                labels += [some[i][1] for i in good]
    except (DataError, OSError) as error:
        fault = error.what if isinstance(error, GreffonError) else error.strerror or str(error)
        return Part(digest, file, 0, 0, (), fault)
    part = Part(digest, file, len(names), width, tuple(aside))
    column = pa.chunked_array(vectors, pa.list_(pa.float32()))
    write_part(folder, part, [pa.array(names, pa.string()), pa.array(labels, pa.string()), column])
    return part


def _run(some: list[Item], engine: OwnEngine, executor: LocalExecutor) -> tuple[list[int], np.ndarray, dict[int, str]]:
    """Positions, their records in this order, and what could not be read."""
    jobs = [Job(photo, "", (PLAIN,)) for _, _, photo in some]
    numbers: list[int] = []
    values: list[np.ndarray] = []
    bad: dict[int, str] = {}
    for found, records, failed in executor.run(jobs, engine.backbone.preprocess, engine):
        numbers += found
        bad |= failed
        values += [records] if found else []
    order = np.argsort(numbers, kind="stable")
    whole = np.concatenate(values)[order] if values else np.zeros((0, 0), np.float32)
    return [numbers[i] for i in order], whole, bad


def _printable(name: str) -> str:
    """A name that is not UTF-8 as text, as ``greffon embed`` writes it."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
