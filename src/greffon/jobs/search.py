"""``greffon search``: the photos of an index that are most like a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Store, Tap, compute, make_engine
from greffon.datasets import find_images
from greffon.errors import DataError, OptionError
from greffon.model import load_any_backbone
from greffon.progress import Progress, Silent
from greffon.report import NeighbourTile, Wall, check_sheet, path_in_table, write_walls
from greffon.transfer.unsupervised import load_index, searcher, unit_features

__all__ = ["Hit", "SearchResult", "search"]


@final
@dataclass(frozen=True, slots=True)
class Hit:
    """One photo of the index.

    Parameters
    ----------
    name
        Its path below the folder that was indexed.
    similarity
        The cosine of the features, from -1 to 1; 1 for the same picture.
    same
        Whether it is the very file that was asked with, by its content.
    """

    path: Path
    name: str
    similarity: float
    same: bool


@final
@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found for one photo, the most similar first; ``fault`` says why there is nothing."""

    path: Path
    hits: tuple[Hit, ...]
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The keys of a line of ``search --json``."""
        if self.fault:
            return {"query": str(self.path), "error": self.fault}
        hits = [{"path": path_in_table(hit.path), "similarity": round(hit.similarity, 5), "same": hit.same} for hit in self.hits]
        return {"query": str(self.path), "hits": hits}


def search(
    index: Path | str,
    images: Sequence[str | Path],
    *,
    k: int = 20,
    out: Path | str | None = None,
    backbone: str = "",
    weights: Path | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> tuple[SearchResult, ...]:
    """Find the photos of an index that are most like each of some photos.

    Parameters
    ----------
    index
        A folder that ``index`` made.
    images
        See ``datasets.find_images``. One that cannot be read gives a result with its fault.
    k
        How many are found for each; all of an index that holds fewer.
    out
        A contact sheet to write: ``.html``, or ``.png`` with the first few photos.
    backbone, weights
        The network that the index was made with, where it has moved.

    Raises
    ------
    PhotoIndexError
        The index is damaged, or was made with another network.
    DataError
        There is no such photo, or none can be read.
    GreffonError
        Of the kind that says what is wrong.
    """
    listener = progress or Silent()
    if k < 1:
        raise OptionError(f"-k must be at least 1, got {k}")
    if out is not None:
        check_sheet(Path(out))
    paths = find_images(images)
    opened = load_index(index)
    origin = opened.origin
    network = load_any_backbone(backbone or origin.backbone, weights=weights, size=origin.size, progress=listener)
    origin.check(network, Path(index))
    # What was computed in int8 is within a thousandth of float32, and its quantised network was for those photos alone.
    engine = make_engine(network, Tap("pooled"), "float32" if origin.precision == "int8" else origin.precision)
    found = compute(paths, network, Tap("pooled"), engine, store=store or Store(), progress=listener)
    good = [i for i in range(len(paths)) if i not in found.failed]
    if not good:
        first = found.failed[0].removeprefix(f"{paths[0]}: ")
        raise DataError(f"none of the {len(paths)} photos could be read; {paths[0]}: {first}")
    if k > len(opened):
        listener.say(f"the index holds {len(opened)} photos, so {len(opened)} are found instead of {k}")
    near = searcher(opened.vectors).search(unit_features(found.batch(good), network.widths()), min(k, len(opened)))
    row_of = {i: at for at, i in enumerate(good)}
    results = []
    for i, path in enumerate(paths):
        if i in found.failed:
            results.append(SearchResult(path, (), found.failed[i].removeprefix(f"{path}: ")))
            continue
        at = row_of[i]
        own = np.frombuffer(bytes.fromhex(found.digests[i]), np.uint8)
        hits = tuple(
            Hit(opened.path(row), opened.names[row], min(float(value), 1.0), bool((opened.digests[row] == own).all()))
            for row, value in zip(near.rows[at].tolist(), near.similarity[at].tolist(), strict=True)
            if row >= 0
        )
        results.append(SearchResult(path, hits))
    if out is not None:
        _sheet(Path(out), opened.root, results)
    return tuple(results)


def _sheet(out: Path, root: Path, results: Sequence[SearchResult]) -> None:
    walls = []
    for one in results:
        if not one.fault:
            asked = NeighbourTile(one.path, "asked with", one.path.name, asked=True)
            tiles = [
                NeighbourTile(hit.path, f"{hit.similarity:.3f}{', same file' if hit.same else ''}", hit.name) for hit in one.hits
            ]
            walls.append(Wall(str(one.path), "", (asked, *tiles)))
    lead = f"The photos of {root} that are most like each one, and the cosine of their features: 1 is the same picture."
    write_walls(out, "Photos that are alike", lead, walls)
