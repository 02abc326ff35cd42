"""Photos without labels as vectors of length one, one for each file; what search, maps and duplicates compare.

The vector is the mean of the last stage's map, the square root of each number with its sign, scaled to length one: sum pooling as
in SPoC (Babenko and Lempitsky 2015, arXiv:1510.07493) with the power normalisation of Perronnin et al. (2010). Unlike the whitening of SPoC
and of R-MAC it learns nothing from the photos, so that a similarity means the same in every index, and one photo is enough.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from greffon.activations import Store, Tap, chosen_engine, compute
from greffon.backbones import Backbone
from greffon.datasets import read_photos, scan
from greffon.errors import DataError
from greffon.heads import Normaliser, Representation
from greffon.progress import Progress
from greffon.transfer.unsupervised.neighbours import SmallPictures

__all__ = ["LOOK", "EmbeddedPhotos", "embed_photos", "unit_features"]

#: What of the network's output is compared.
LOOK = Representation("last", "mean", "sqrt-l2")
_MANY = 100_000


@final
@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPhotos:
    """Every readable file of a folder, copies included, in the order of their names. All sequences have length n.

    Parameters
    ----------
    root
        The folder or table that was read.
    digests
        uint8 (n, 32): the sha256 of each file's content.
    vectors
        (n, d): see ``unit_features``. float32; of more than 100,000 files float16, which is half as much memory.
    precision
        What the network was computed in.
    unreadable
        Files that were set aside, with the reason.
    computed, reused
        How many different photos were run through the network now, and how many were known.
    """

    root: Path
    paths: tuple[Path, ...]
    digests: np.ndarray
    vectors: np.ndarray
    pictures: SmallPictures
    precision: str
    unreadable: tuple[tuple[Path, str], ...]
    computed: int
    reused: int

    def __len__(self) -> int:
        return len(self.paths)


def unit_features(pooled: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    """Pooled records, float32 (n, sum of 2 c), to vectors of length one, float32 (n, d); zeros where all features are 0."""
    features = LOOK.take(pooled, widths)
    d = features.shape[1]
    return Normaliser(LOOK.norm, np.zeros(d, np.float32), np.ones(d, np.float32)).apply(features)


def embed_photos(
    photos: Path | str, network: Backbone, *, precision: str, store: Store, progress: Progress
) -> EmbeddedPhotos:
    """Run a network once over each photo of a folder, however deep, or of a table. Names of folders are not looked at.

    Raises
    ------
    DataError
        None of them can be read.
    GreffonError
        Of the kind that says what is wrong.
    """
    looked = scan(read_photos(photos), book=store, progress=progress)
    for note in looked.dataset.notes:
        progress.say(note)
    paths = looked.dataset.paths
    engine, _ = chosen_engine(network, Tap("pooled"), precision, paths, progress)
    found = compute(paths, network, Tap("pooled"), engine, store=store, progress=progress, digests=looked.digests)
    failed = tuple((paths[i], reason) for i, reason in sorted(found.failed.items()))
    unreadable = (*looked.unreadable, *failed)
    for path, reason in unreadable:
        progress.warn(f"set aside: {path}: {reason}")
    copies: dict[Path, list[Path]] = defaultdict(list)
    for copy, original in looked.repeated:
        copies[original].append(copy)
    files = [(path, i) for i in range(len(paths)) if i not in found.failed for path in (paths[i], *copies[paths[i]])]
    if not files:
        raise DataError(f"{photos}: none of its photos could be read; {failed[0][0]}: {failed[0][1]}")
    files.sort(key=lambda one: os.fsencode(one[0]))
    rows = np.array([i for _, i in files], np.int64)
    # In parts: what a pass keeps of a photo is several times as wide as the vector.
    kind = np.float16 if len(rows) > _MANY else np.float32
    parts = [
        unit_features(found.batch(rows[start : start + 4096]), network.widths()).astype(kind) for start in range(0, len(rows), 4096)
    ]
    digests = np.frombuffer(bytes.fromhex("".join(looked.digests)), np.uint8).reshape(-1, 32)
    return EmbeddedPhotos(
        root=looked.dataset.root,
        paths=tuple(path for path, _ in files),
        digests=digests[rows],
        vectors=np.concatenate(parts),
        pictures=SmallPictures.of(looked.facts).take(rows),
        precision=engine.precision,
        unreadable=unreadable,
        computed=found.computed,
        reused=found.reused,
    )
