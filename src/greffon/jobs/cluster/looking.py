"""The photos as they are found on the disk, and what the network sees of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Activations, Executor, Store, Tap, chosen_engine, compute
from greffon.datasets import read_photos, scan
from greffon.errors import DataError, OptionError
from greffon.model import load_any_backbone
from greffon.progress import Progress
from greffon.transfer.unsupervised import LOOKS, Look, Unlabelled

__all__ = ["EXACT_SECONDS", "Seen", "see"]

#: So many records are in memory at once, beside the features that are taken out of them.
_BLOCK = 4096
#: A pass of up to so many seconds is not made faster by int8: without labels nothing makes up for what is rounded away. Measured: flowers
#: 47.9 % in float32 and 46.9 % in int8, paintings 71.6 % and 66.9 %.
EXACT_SECONDS = 600.0


@final
@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Photos that the network has looked at. Names of folders and labels are not in it.

    Parameters
    ----------
    files
        The files of each photo, the first name first; several where they have the same content. In the order of the contents' digests, so
        that where photos lie and what they are called changes nothing.
    looks
        Features of the photos, for each of ``kinds``.
    """

    files: tuple[tuple[Path, ...], ...]
    looks: tuple[Unlabelled, ...]
    kinds: tuple[Look, ...]
    unreadable: tuple[tuple[Path, str], ...]
    plan: dict[str, Any]
    computed: int
    reused: int


def see(
    photos: Path | str,
    backbone: str,
    weights: Path | None,
    size: int,
    precision: str,
    *,
    least: int,
    store: Store,
    executor: Executor | None,
    progress: Progress,
) -> Seen:
    """Find the photos, and run the network once over each, in this process or by an executor.

    Raises GreffonError: DataError where none can be read, OptionError where fewer than ``least`` have different contents.
    """
    found = read_photos(photos)
    network = load_any_backbone(backbone, weights=weights, size=size, progress=progress)
    looked = scan(found, book=store, progress=progress)
    looked.tell(progress)
    if len(looked.digests) < least:
        raise OptionError(f"-k {least}: there are only {len(looked.digests)} different photos in {photos}",
                          hint=f"Ask for {len(looked.digests)} clusters at most, or leave -k away.")  # fmt: skip
    order = sorted(range(len(looked.digests)), key=looked.digests.__getitem__)
    paths, digests = [looked.dataset.paths[i] for i in order], [looked.digests[i] for i in order]
    engine, plan = chosen_engine(network, Tap("pooled"), precision, paths, progress, images=len(paths), exact_seconds=EXACT_SECONDS)
    kept = compute(paths, network, Tap("pooled"), engine, store=store, progress=progress, digests=digests, executor=executor)
    for i, reason in sorted(kept.failed.items()):
        progress.warn(f"set aside: {paths[i]}: {reason}")
    read = np.array([i for i in range(len(paths)) if i not in kept.failed], np.int64)
    if not len(read):
        raise DataError(f"{photos}: none of its {len(paths)} photos could be read")
    twins: dict[Path, list[Path]] = defaultdict(list)
    for copy, original in looked.repeated:
        twins[original].append(copy)
    return Seen(
        files=tuple((paths[i], *twins[paths[i]]) for i in read.tolist()),
        looks=_looks(kept, read, network.widths(), LOOKS),
        kinds=LOOKS,
        unreadable=(*looked.unreadable, *((paths[i], reason) for i, reason in sorted(kept.failed.items()))),
        plan=plan.to_dict(),
        computed=kept.computed,
        reused=kept.reused,
    )


def _looks(kept: Activations, read: np.ndarray, widths: tuple[int, ...], kinds: tuple[Look, ...]) -> tuple[Unlabelled, ...]:
    """The features of every look; of the records no more is held than the stages that are looked at."""
    top = min(max(kind.stage for kind in kinds), len(widths))
    used, last = widths[-top:], 2 * sum(widths[-top:])
    records = np.empty((len(read), last), np.float32)
    for start in range(0, len(read), _BLOCK):
        records[start : start + _BLOCK] = kept.batch(read[start : start + _BLOCK])[:, -last:]
    return tuple(kind.of(records, used) for kind in kinds)
