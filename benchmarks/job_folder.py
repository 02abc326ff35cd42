"""From a data set to the folder of a job: the same photos in the same splits, and the same tensors, for every tool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from greffon.backbones import Backbone
from greffon.datasets import Dataset, apportion, read_dataset, scan, split
from greffon.errors import DataError, OptionError
from greffon.progress import Silent
from peers.job import Job, read_job, write_job

__all__ = ["make_domain_job", "make_job"]


def make_job(folder: Path, data: Path, images: int, seed: int, backbone: Backbone) -> Job:
    """Write a job of so many photos of a data set; 0 takes them all.

    Near-duplicates stay in one split, exact copies and photos under two labels are left out, and so greffon has nothing
    to set aside in the run that is timed. The three splits are 0.7, 0.15 and 0.15.

    Raises
    ------
    OptionError
        The data set has fewer photos than that.
    """
    looked = scan(read_dataset(data), book=None, progress=Silent())
    dataset, groups = looked.dataset, looked.groups
    if images > len(dataset):
        raise OptionError(f"--images must be at most {len(dataset)} for {data.name}, got {images}")
    if 0 < images < len(dataset):
        share = images / len(dataset)
        # Just so many, stratified. A near-duplicate may be left out here; those that are in stay together below.
        chosen = np.flatnonzero(apportion(dataset.labels, np.arange(len(dataset)), (share, 1 - share), seed) == 0)
        dataset, groups = dataset.take(chosen), groups[chosen]
    drawn = split(dataset.without_empty_classes(), groups, seed=seed)
    tensors = {name: tensor.numpy() for name, tensor in backbone.tensors().items()}
    write_job(folder, tensors, _rows(drawn))
    return read_job(folder)


def make_domain_job(folder: Path, source: Path, target: Path, images: int, seed: int, backbone: Backbone) -> Job:
    """Write a job of about so many photos of each of two domains, every class in its share; 0 takes them all.

    The source is the split ``train``, the target ``test``; photos that stand in both are left out of the target.

    Raises
    ------
    OptionError
        A domain has fewer photos than that.
    DataError
        The domains have other classes.
    """
    parts: list[Dataset] = []
    known: set[str] = set()
    for data in (source, target):
        looked = scan(read_dataset(data), book=None, progress=Silent())
        dataset = looked.dataset.take([i for i, digest in enumerate(looked.digests) if digest not in known])
        known.update(looked.digests)
        if images > len(dataset):
            raise OptionError(f"--images must be at most {len(dataset)} for {data.name}, got {images}")
        if 0 < images < len(dataset):
            share = images / len(dataset)
            dataset = dataset.take(np.flatnonzero(apportion(dataset.labels, np.arange(len(dataset)), (share, 1 - share), seed) == 0))
        parts.append(dataset)
    if parts[0].classes != parts[1].classes:
        raise DataError(f"{source}, {target}: the domains have other classes")
    tensors = {name: tensor.numpy() for name, tensor in backbone.tensors().items()}
    roles = zip(parts, ("train", "test"), strict=True)
    write_job(folder, tensors, [row for part, role in roles for row in _rows(replace(part, splits=(role,) * len(part)))])
    return read_job(folder)


def _rows(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [
        (str(path.resolve()), dataset.classes[label], role)
        for path, label, role in zip(dataset.paths, dataset.labels, dataset.splits, strict=True)
    ]
