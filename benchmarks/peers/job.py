"""What a contestant is given and what it answers. The standard library and NumPy alone: every environment has these.

A job is a folder with ``weights.npz``, the tensors in timm's names (``features.0.weight``), and ``split.csv`` with
the columns path,label,split. A contestant prints one JSON object, the last line of its standard output.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import final

import numpy as np

__all__ = ["SPLITS", "Answer", "Job", "Photos", "Stopwatch", "read_answer", "read_job", "read_weights", "training_arguments", "write_job"]

SPLITS = ("train", "val", "test")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Photos:
    """Files of one split; labels int64 (n,), indices into the job's classes."""

    paths: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Classes in alphabetical order, and the photos of each split in the order of the file."""

    folder: Path
    classes: tuple[str, ...]
    train: Photos
    val: Photos
    test: Photos

    def all(self) -> tuple[str, ...]:
        """The paths of every photo: train, val, test."""
        return (*self.train.paths, *self.val.paths, *self.test.paths)

    def counts(self) -> dict[str, int]:
        """How many photos each split has."""
        return {"train": len(self.train), "val": len(self.val), "test": len(self.test)}


def write_job(folder: Path, tensors: Mapping[str, np.ndarray], rows: Sequence[tuple[str, str, str]]) -> None:
    """Write the weights, and path, label and split of every photo."""
    np.savez(folder / "weights.npz", **tensors)  # type: ignore[arg-type]  # the stubs take a name for a flag
    with (folder / "split.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        writer.writerows(rows)


def read_job(folder: Path) -> Job:
    """The photos of a job."""
    with (folder / "split.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    classes = tuple(sorted({row["label"] for row in rows}))
    parts: dict[str, Photos] = {}
    for name in SPLITS:
        own = [row for row in rows if row["split"] == name]
        labels = np.array([classes.index(row["label"]) for row in own], np.int64)
        parts[name] = Photos(tuple(row["path"] for row in own), labels)
    return Job(folder, classes, parts["train"], parts["val"], parts["test"])


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """The tensors of a job, float32; kernels as (out, in, h, w)."""
    with np.load(folder / "weights.npz") as given:
        return {name: given[name] for name in given.files}


@final
class Stopwatch:
    """Seconds by part; a part that is timed twice adds up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one contestant did.

    Parameters
    ----------
    tool
        Its name.
    settings
        How it was set: batch size, learning rate, layout, ...
    images
        Photos seen by split, in each epoch; ``{"all": n}`` for a frozen pass.
    seconds
        By part; ``training`` and ``validation`` together are the epochs. ``setup`` is what comes before the first
        image: building, weights, compiling.
    epochs
        Seconds of each epoch, the look at the val photos after it included.
    rates
        Images a second, by part.
    right, tested
        Test photos predicted rightly, and how many there are; None where nothing was trained.
    versions
        Of the libraries that did the work.
    """

    tool: str
    settings: dict[str, str | int | float]
    images: dict[str, int]
    seconds: dict[str, float]
    epochs: list[float] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    right: int | None = None
    tested: int | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        return self.right / self.tested if self.right is not None and self.tested else None

    def show(self, *packages: str) -> None:
        """Print it as one line of JSON, with the versions of these packages."""
        whole = asdict(self) | {"versions": self.versions | {name: version(name) for name in packages}}
        print(json.dumps(whole), flush=True)


def read_answer(output: str) -> Answer:
    """The last line of a contestant's output. Raises ValueError where that is no answer."""
    lines = output.strip().splitlines()
    try:
        return Answer(**json.loads(lines[-1]))
    except (IndexError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"expected a JSON object as the last line, got {lines[-1][:200] if lines else 'nothing'!r}"
        ) from error


def training_arguments(description: str | None, epochs: int) -> argparse.ArgumentParser:
    """What every contestant that trains may be told."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("job", type=Path)
    arguments.add_argument("--epochs", type=int, default=epochs)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--rate", type=float, default=1e-4)
    arguments.add_argument("--head-rate", type=float, default=1e-3)
    arguments.add_argument("--seed", type=int, default=0)
    return arguments
