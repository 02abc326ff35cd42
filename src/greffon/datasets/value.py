"""``Dataset``: which images there are, and what is known of each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from greffon.errors import DataError

__all__ = ["SPLITS", "Dataset"]

#: The roles that an image can have.
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Images and what is known of them. All sequences have length n.

    Parameters
    ----------
    root
        The folder or the table that it was read from.
    paths
        Where each image lies.
    labels
        int64 (n,): indices into ``classes``; -1 where no label is known.
    classes
        The names of the classes, in their order.
    splits
        ``"train"``, ``"val"``, ``"test"``, or ``""`` where none was given.
    domains
        The domain that each image belongs to, or ``""``.
    notes
        What a reader of the data should know: files passed over, rows without a label, ...
    """

    root: Path
    paths: tuple[Path, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    domains: tuple[str, ...]
    notes: tuple[str, ...] = ()
    set_aside: tuple[tuple[Path, str], ...] = field(default=())

    def __post_init__(self) -> None:
        n = len(self.paths)
        if not (self.labels.shape == (n,) and len(self.splits) == n and len(self.domains) == n):
            raise ValueError("Dataset: paths, labels, splits and domains must have one length")

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        """The images at these positions, in this order, with the same classes."""
        chosen = [int(index) for index in indices]
        return replace(
            self,
            paths=tuple(self.paths[i] for i in chosen),
            labels=self.labels[chosen],
            splits=tuple(self.splits[i] for i in chosen),
            domains=tuple(self.domains[i] for i in chosen),
        )

    def where(self, split: str) -> np.ndarray:
        """int64 (k,): the positions of the images of one split."""
        return np.flatnonzero(np.array([name == split for name in self.splits], bool))

    def without_empty_classes(self) -> Dataset:
        """The same images; classes that none of them has are dropped, and the labels renumbered."""
        used = sorted(set(self.labels[self.labels >= 0].tolist()))
        if len(used) == len(self.classes):
            return self
        number = np.full(len(self.classes) + 1, -1, np.int64)
        number[used] = np.arange(len(used))
        return replace(self, classes=tuple(self.classes[i] for i in used), labels=number[self.labels])

    def in_classes(self, classes: Sequence[str], called: str = "the model") -> Dataset:
        """The same images, the labels counted in the classes of a model, which messages call ``called``.

        Raises DataError where it does not know one of theirs.
        """
        number = {name: i for i, name in enumerate(classes)}
        strange = [name for name in self.classes if name not in number]
        if strange:
            raise DataError(
                f"{self.root}: has classes that {called} does not know: {', '.join(strange[:6])}",
                hint=f"The model's classes are: {', '.join(classes[:20])}.",
            )
        renumbered = np.array([number[name] for name in self.classes], np.int64)[self.labels]
        return replace(self, classes=tuple(classes), labels=renumbered)

    def fingerprint(self, digests: Sequence[str], *, ordered: bool = False) -> str:
        """sha256 over the content digest, label and split of every image, whatever their order, or in that.

        The order of the images is that of their names, and a seed draws by it: after renaming files it draws others.
        """
        rows = [
            f"{digest}\t{self.classes[label] if label >= 0 else ''}\t{split}"
            for digest, label, split in zip(digests, self.labels, self.splits, strict=True)
        ]
        if not ordered:
            rows.sort()
        return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()
