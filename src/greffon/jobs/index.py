"""``greffon index``: a folder of photos becomes an index that can be searched."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from greffon.activations import Store
from greffon.model import is_model_folder, load_any_backbone
from greffon.progress import Progress, Silent
from greffon.report import check_folder_is_free, check_results_folder, path_in_table
from greffon.transfer.unsupervised import INDEX_FILES, PhotoIndex, build_index, embed_photos, photo_index, save_index

__all__ = ["IndexResult", "index"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class IndexResult:
    """What was indexed."""

    folder: Path
    index: PhotoIndex
    unreadable: tuple[tuple[Path, str], ...]
    computed: int
    reused: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        vectors, origin = self.index.vectors, self.index.origin
        return {
            "index": str(self.folder),
            "photos": len(self.index),
            "features": int(vectors.vectors.shape[1]),
            "kind": vectors.kind,
            "cells": len(vectors.centres),
            "probes": vectors.probes,
            "recall": vectors.recall,
            "backbone": origin.name,
            "precision": origin.precision,
            "unreadable": [{"path": path_in_table(path), "reason": reason} for path, reason in self.unreadable],
            "computed": self.computed,
            "reused": self.reused,
            "seconds": round(self.seconds, 2),
        }


def index(
    photos: Path | str,
    *,
    out: Path | str,
    kind: str = "auto",
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    precision: str = "auto",
    seed: int = 0,
    store: Store | None = None,
    progress: Progress | None = None,
) -> IndexResult:
    """Index every photo of a folder, so that ``search``, ``duplicates`` and ``outliers`` can work on it.

    Parameters
    ----------
    photos
        A folder, however deep, or a table with the column ``path``. Names of folders, and labels, are not looked at.
    out
        The folder to write; an earlier index there is replaced.
    kind
        ``"exact"``, ``"cells"`` or ``"auto"``: see ``build_index``.
    backbone, weights, size, precision
        As for ``train``. A search needs the same network again.
    seed
        Of the cells.

    Raises
    ------
    GreffonError
        Of the kind that says what is wrong.
    """
    started = time.perf_counter()
    listener = progress or Silent()
    kept = store or Store()
    folder = Path(out)
    check_results_folder(folder, Path(photos))
    check_folder_is_free(folder, INDEX_FILES)
    network = load_any_backbone(backbone, weights=weights, size=size, progress=listener)
    seen = embed_photos(photos, network, precision=precision, store=kept, progress=listener)
    vectors, order = build_index(seen.vectors, kind=kind, seed=seed, progress=listener)
    asked = str(Path(backbone).resolve()) if is_model_folder(backbone) else backbone
    made = photo_index(seen, network, asked, size, vectors, order)
    save_index(made, folder)
    return IndexResult(folder, made, seen.unreadable, seen.computed, seen.reused, time.perf_counter() - started)
