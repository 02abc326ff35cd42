"""The photos of a data set by their content: what is the same file is looked at once, whatever it is called."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from greffon.datasets import Dataset, FactsBook, Scan, scan
from greffon.progress import Progress

__all__ = ["Contents", "by_content"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """n files of m contents.

    Parameters
    ----------
    dataset
        Every file, with its label and split.
    scan
        Each content once, without labels and splits.
    of
        int64 (n,): the position in ``scan.dataset`` of each file's content; -1 where it cannot be read.
    labels
        int64 (m,): the label of each content; -1 where it has none, or several.
    """

    dataset: Dataset
    scan: Scan
    of: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def files(self) -> list[list[int]]:
        """The positions in ``dataset`` of the files of every content."""
        found: list[list[int]] = [[] for _ in range(len(self))]
        for file, content in enumerate(self.of):
            if content >= 0:
                found[content].append(file)
        return found

    def name_of(self, content: int) -> str:
        """The name of the class of a content, or ""."""
        return self.dataset.classes[int(self.labels[content])] if self.labels[content] >= 0 else ""


def by_content(dataset: Dataset, *, book: FactsBook | None, progress: Progress) -> Contents:
    """Open every file, as ``scan`` does, and keep what stands where.

    Raises DataError if not a single image can be read.
    """
    # Without labels the scan leaves no content out: the same file in two classes is a finding here, and it has features.
    blind = replace(dataset, labels=np.full(len(dataset), -1), splits=("",) * len(dataset))
    looked = scan(blind, book=book, progress=progress)
    position = {path: i for i, path in enumerate(looked.dataset.paths)}
    position |= {copy: position[original] for copy, original in looked.repeated}
    of = np.array([position.get(path, -1) for path in dataset.paths], np.int64)
    labels = np.full(len(looked.digests), -1, np.int64)
    several = np.zeros(len(labels), bool)
    for content, label in zip(of, dataset.labels, strict=True):
        if content >= 0 and label >= 0:
            several[content] |= labels[content] not in (-1, label)
            labels[content] = label
    labels[several] = -1
    return Contents(dataset, looked, of, labels)
