"""``greffon embed``: photos become feature vectors in a Parquet file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

from greffon.activations import Store, Tap, chosen_engine, compute
from greffon.datasets import read_dataset, scan, without_excluded
from greffon.errors import OptionError
from greffon.heads import Representation
from greffon.model import load_any_backbone
from greffon.progress import Progress, Silent
from greffon.whole import whole_file

__all__ = ["EmbedResult", "embed"]


@final
@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What was written."""

    file: Path
    images: int
    features: int
    computed: int
    unreadable: tuple[tuple[Path, str], ...]


def embed(
    data: Path | str,
    *,
    out: Path | str,
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    stages: str = "last",
    pool: str = "mean",
    precision: str = "auto",
    exclude: Path | str | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> EmbedResult:
    """Write the pooled features of every image: the columns path, label (null where unknown) and features.

    Parameters
    ----------
    data
        As for ``train``; labels are not needed.
    out
        The Parquet file to write.
    stages, pool
        ``"last"`` or ``"all"``; ``"mean"``, ``"max"``, ``"mean+max"`` or ``"flatten"``. Features are not normalised.
    exclude
        A list of files that are left out; see ``without_excluded``.

    Raises
    ------
    GreffonError
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    listener = progress or Silent()
    kept = store or Store()
    target = Path(out)
    if target.is_dir():
        raise OptionError(
            f"--out {target}: is a folder, expected a file to write",
            hint=f"For instance: --out {target / 'features.parquet'}",
        )
    taken = Representation(stages, pool, "standard")  # type: ignore[arg-type]  # it checks its values itself
    looked = scan(without_excluded(read_dataset(data, labelled=False), exclude), book=kept, progress=listener)
    dataset = looked.dataset
    network = load_any_backbone(backbone, weights=weights, size=size, progress=listener)
    tap = Tap("map", "none") if pool == "flatten" else Tap("pooled")
    engine, _ = chosen_engine(network, tap, precision, dataset.paths, listener)
    found = compute(dataset.paths, network, tap, engine, store=kept, progress=listener, digests=looked.digests)
    failed = tuple((dataset.paths[i], reason) for i, reason in sorted(found.failed.items()))
    good = [i for i in range(len(dataset)) if i not in found.failed]
    width = len(taken.take(found.batch(good[:1]), network.widths())[0]) if good else 0
    # The names of an identical copy or of a conflict are still names that somebody may look for.
    twins: dict[Path, list[Path]] = {}
    for copy, original in looked.repeated:
        twins.setdefault(original, []).append(copy)
    schema = pa.schema([("path", pa.string()), ("label", pa.string()), ("features", pa.list_(pa.float32()))])
    rows = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as part, pq.ParquetWriter(part, schema) as writer:
            for start in range(0, len(good), 1024):
                block = good[start : start + 1024]
                features = taken.take(found.batch(block), network.widths())
                paths, labels, vectors = [], [], []
                for i, vector in zip(block, features, strict=True):
                    label = int(dataset.labels[i])
                    for path in (dataset.paths[i], *twins.get(dataset.paths[i], [])):
                        paths.append(os.fsencode(path).decode("utf-8", "backslashreplace"))
                        labels.append(dataset.classes[label] if label >= 0 else None)
                        vectors.append(vector)
                rows += len(paths)
                writer.write_table(pa.table([paths, labels, vectors], schema=schema))
    except OSError as error:
        raise OptionError(f"--out {target}: cannot be written ({error.strerror or error})") from error
    unreadable = (*looked.unreadable, *failed)
    for path, reason in unreadable:
        listener.warn(f"set aside: {path}: {reason}")
    return EmbedResult(target, rows, width, found.computed, unreadable)
