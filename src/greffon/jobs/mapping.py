"""``greffon map``: photos on one page, those that are alike beside each other."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Store
from greffon.errors import OptionError
from greffon.model import load_any_backbone
from greffon.progress import Progress, Silent
from greffon.report import check_sheet, make_atlas, map_part, map_report
from greffon.transfer.unsupervised import (
    MAPS,
    FlatMap,
    embed_photos,
    has_umap,
    is_index_folder,
    lay_flat,
    load_index,
    nearest,
)

__all__ = ["MOST", "MapResult", "map_photos"]

#: Photos on a page: more would neither stay under 15 MB nor be told apart.
MOST = 10_000
#: Shown beside a photo, those most like it.
_NEAR = 6


@final
@dataclass(frozen=True, slots=True, eq=False)
class MapResult:
    """What was laid out.

    Parameters
    ----------
    names
        Of the photos on the map, below the root.
    flat
        Their points, in the same order.
    photos
        How many there are in all; where that is more, some were drawn.
    """

    file: Path
    names: tuple[str, ...]
    flat: FlatMap
    photos: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "file": str(self.file),
            "method": self.flat.method,
            "shown": len(self.names),
            "photos": self.photos,
            "seconds": round(self.seconds, 2),
            "points": [
                {"name": name, "x": round(float(x), 5), "y": round(float(y), 5)}
                for name, (x, y) in zip(self.names, self.flat.points, strict=True)
            ],
        }


def map_photos(
    photos: Path | str,
    *,
    out: Path | str,
    method: str = "tsne",
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    precision: str = "auto",
    most: int = MOST,
    seed: int = 0,
    store: Store | None = None,
    progress: Progress | None = None,
) -> MapResult:
    """Write a page with a map of photos: those that are alike lie together.

    Parameters
    ----------
    photos
        A folder, however deep; a table with the column ``path``; or an index, as ``greffon index`` makes it. Names of folders, and
        labels, have no part in it.
    out
        The ``.html`` file to write.
    method
        ``"tsne"``, ``"pca"`` or ``"umap"``: see ``lay_flat``.
    backbone, weights, size, precision
        As for ``train``; of an index its own.
    most
        Of more photos so many are drawn by chance; 10,000 at most.
    seed
        Of the layout and of the draw.

    Raises
    ------
    GreffonError
        Of the kind that says what is wrong.
    """
    started = time.perf_counter()
    listener = progress or Silent()
    target = Path(out)
    check_sheet(target, (".html",))
    if method not in MAPS or (method == "umap" and not has_umap()):
        lay_flat(np.zeros((0, 1)), method)  # which says what is wrong
    if not 1 <= most <= MOST:
        raise OptionError(f"--most must be from 1 to {MOST}, got {most}")
    if is_index_folder(photos):
        index = load_index(photos)
        root, names, vectors = index.root, index.names, index.vectors.vectors
        paths = [index.path(row) for row in range(len(index))]
    else:
        network = load_any_backbone(backbone, weights=weights, size=size, progress=listener)
        seen = embed_photos(photos, network, precision=precision, store=store or Store(), progress=listener)
        root, paths, vectors = seen.root, list(seen.paths), seen.vectors
        names = tuple(os.path.relpath(path, root if root.is_dir() else root.parent) for path in paths)
    count = len(paths)
    some = np.arange(count)
    if count > most:
        some = np.sort(np.random.default_rng(seed).permutation(count)[:most])
        listener.say(f"{most:,} of {count:,} photos are drawn for the map")
    vectors = np.asarray(vectors[some], np.float32)
    listener.say(f"laying out {len(some):,} photos")
    flat = lay_flat(vectors, method, seed=seed)
    near = nearest(vectors, _NEAR).rows
    shown, chosen = [paths[i] for i in some], tuple(names[i] for i in some)
    part = map_part(flat.points, chosen, make_atlas(shown, progress=listener), near=near, alone=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"--out {target}: cannot be written ({error.strerror or error})") from error
    map_report(target, part, f"{len(some)} photos", _lead(root, flat, len(some), count))
    return MapResult(target, chosen, flat, count, time.perf_counter() - started)


def _lead(root: Path, flat: FlatMap, shown: int, count: int) -> str:
    drawn = f", drawn by chance from {count}" if shown < count else ""
    if flat.method == "PCA":
        how = f"The two principal axes of the features, which keep {100 * flat.kept:.0f} % of what differs."
    else:
        how = f"Laid out by {flat.method}: photos that lie together are alike; how far groups lie apart says little."
    return f"Photos of {root}{drawn}. {how} No label and no folder's name had a part in it."
