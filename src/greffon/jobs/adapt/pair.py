"""The two domains as they are found on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from greffon.activations import Store
from greffon.datasets import Scan, read_dataset, read_photos, scan
from greffon.datasets.splitting import must_have_two_classes
from greffon.errors import DataError
from greffon.progress import Progress

__all__ = ["Pair", "find_pair", "find_target", "must_lie_apart"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A labelled source, and a target without labels.

    Parameters
    ----------
    source
        None where there is only a model of it.
    target
        Its data set has no labels.
    shared
        How many photos stand in both, byte for byte.
    """

    source: Scan | None
    target: Scan
    shared: int


def find_pair(source: Path | str, target: Path | str, *, book: Store, progress: Progress) -> Pair:
    """Read both. Labels that folders or a table of the target give are not read.

    Raises
    ------
    DataError
        One of them holds no photos, the source has fewer than two classes, or one lies in the other.
    """
    must_lie_apart(Path(source), Path(target))
    given = read_dataset(source)
    if "test" in given.splits:
        progress.say(f"source: {len(given.where('test'))} photos of its test split are not learned from")
        given = given.take([i for i, role in enumerate(given.splits) if role != "test"])
    must_have_two_classes(given)
    looked = scan(given.without_empty_classes(), book=book, progress=progress)
    looked.tell(progress)
    must_have_two_classes(looked.dataset)
    there = find_target(target, book=book, progress=progress)
    shared = len(set(looked.digests) & set(there.digests))
    if shared:
        progress.warn(f"{shared} photos stand in both domains: they say nothing of the change from one to the other")
    return Pair(looked, there, shared)


def find_target(target: Path | str, *, book: Store, progress: Progress) -> Scan:
    """The target's photos, without labels. Raises DataError where there are none that can be read."""
    there = scan(read_photos(target), book=book, progress=progress)
    there.tell(progress)
    return there


def must_lie_apart(source: Path, target: Path) -> None:
    """Raises DataError where one folder lies in the other, or is the other."""
    try:
        if not (source.is_dir() and target.is_dir()):
            return
        a, b = source.resolve(), target.resolve()
    except OSError as error:
        raise DataError(f"{source}, {target}: cannot be looked at ({error.strerror or error})") from error
    if a == b:
        raise DataError(f"--target {target}: is the source itself, so there is nothing to adapt to",
                        hint="Give the folder of the other domain, or use greffon train.")  # fmt: skip
    if a in b.parents or b in a.parents:
        inner, outer = (source, target) if b in a.parents else (target, source)
        raise DataError(f"{inner}: lies in {outer}, which is the other domain",
                        hint="Put the two domains into folders beside each other.")  # fmt: skip
