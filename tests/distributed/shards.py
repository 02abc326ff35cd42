"""Photos in the forms that a cluster's input can have: folders, tables of bytes, WebDataset shards; and a small backbone."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from drawn import encode, photo
from greffon.heads import LinearHead, Normaliser, Representation
from greffon.model import Model, save_model
from growing import drawn_network

__all__ = ["files_of", "write_backbone", "write_folder", "write_shard", "write_table"]


def files_of(count: int, seed: int = 0) -> list[tuple[str, bytes]]:
    """(class, PNG): every one another picture, two classes in turn."""
    return [("cat" if i % 2 else "dog", encode(photo(seed + i, 40, 48))) for i in range(count)]


def write_folder(folder: Path, files: Sequence[tuple[str, bytes]]) -> Path:
    """A folder per class."""
    for i, (label, data) in enumerate(files):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{i:03}.png").write_bytes(data)
    return folder


def write_shard(path: Path, files: Sequence[tuple[str, bytes]]) -> Path:
    """WebDataset's layout: 000.png, 000.cls, 001.png, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for i, (label, data) in enumerate(files):
            for kind, content in (("png", data), ("cls", label.encode())):
                member = tarfile.TarInfo(f"{i:03}.{kind}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def write_table(path: Path, files: Sequence[tuple[str, bytes]], rows: int = 4, struct: bool = False) -> Path:
    """A Parquet file of bytes; with ``struct`` as Hugging Face's data sets have it."""
    names = [f"{i:03}.png" for i in range(len(files))]
    columns: dict[str, list[object]] = {"label": [label for label, _ in files]}
    if struct:
        columns["image"] = [{"bytes": data, "path": name} for name, (_, data) in zip(names, files, strict=True)]
    else:
        columns |= {"path": list(names), "image": [data for _, data in files]}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return path


def write_backbone(folder: Path, seed: int = 0) -> Path:
    """A model folder that stands for a backbone of 32 pixels with drawn weights."""
    network = drawn_network("test_resnet", seed=seed)
    width = network.widths()[-1]
    head = LinearHead("logistic", np.zeros((2, width), np.float32), np.zeros(2, np.float32))
    normaliser = Normaliser("standard", np.zeros(width, np.float32), np.ones(width, np.float32))
    model = Model(network, "none", ("cat", "dog"), Representation(), normaliser, head, "float32", {}, {}, {})
    save_model(model, folder)
    return folder
