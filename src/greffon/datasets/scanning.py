"""Every file is opened once: which are images, which are the same, and which are nearly the same."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from greffon.datasets.value import Dataset
from greffon.errors import DataError, ImageError
from greffon.images import Limits, read_bytes, signature
from greffon.progress import Progress

__all__ = ["Facts", "FactsBook", "Scan", "blurred", "near_duplicate_groups", "scan"]


_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Facts:
    """What one look at an image told. It depends on the bytes alone, and is kept under their digest."""

    height: int
    width: int
    grey: bytes  # uint8 (16, 16)
    colour: bytes  # uint8 (4, 4, 3)
    fault: str  # why it cannot be read, or ""


class FactsBook(Protocol):
    """Where facts are remembered between runs."""

    def facts(self, digests: Iterable[str]) -> dict[str, Facts]:
        """What is known of these contents."""
        ...

    def remember(self, facts: Mapping[str, Facts]) -> None:
        """Keep facts under the digests of their contents."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A data set that was looked at.

    Parameters
    ----------
    dataset
        What is left: readable, each content once, no content under two labels.
    digests
        The sha256 of each file of ``dataset``, in its order.
    facts
        The facts of each, in the same order.
    groups
        int64 (n,): images with the same number are near-duplicates of each other.
    unreadable
        Files set aside, with the reason.
    conflicting
        Files with the same content under two labels: all of them were left out.
    repeated
        Files left out because the same content stands in the data set under the same label.
    """

    dataset: Dataset
    digests: tuple[str, ...]
    facts: tuple[Facts, ...]
    groups: np.ndarray
    unreadable: tuple[tuple[Path, str], ...]
    conflicting: tuple[tuple[Path, ...], ...]
    repeated: tuple[tuple[Path, Path], ...]

    @property
    def near_duplicates(self) -> int:
        """How many images have at least one near-duplicate."""
        _, counts = np.unique(self.groups, return_counts=True)
        return int(counts[counts > 1].sum())

    def tell(self, progress: Progress) -> None:
        """Say what was left out and why, and what stays together."""
        for note in self.dataset.notes:
            progress.warn(note)
        for path, reason in self.unreadable:
            progress.warn(f"set aside: {path}: {reason}")
        for paths in self.conflicting:
            named = ", ".join(str(path) for path in paths)
            progress.warn(f"left out, as the same image stands under two labels: {named}")
        if self.repeated:
            progress.say(f"{len(self.repeated)} exact copies are used once")
        if self.near_duplicates:
            progress.say(f"{self.near_duplicates} images are near-duplicates of others; each group stays together")


def scan(
    dataset: Dataset, *, book: FactsBook | None, progress: Progress, workers: int = 2, limits: Limits = _LIMITS
) -> Scan:
    """Open every file of a data set.

    Parameters
    ----------
    dataset
        As it was read.
    book
        Facts known from earlier runs; only contents that are not in it are decoded. Faults are not put into it,
        because they may be those of the day: a limit, a disk, a Pillow that cannot read the format.
    progress
        Told of every file.
    workers
        Threads that read and decode.

    Raises
    ------
    DataError
        If not a single image can be read.
    """
    progress.begin("Looking at the images", len(dataset))
    digests, facts = _look(dataset.paths, book, progress, workers, limits)
    progress.end()
    unreadable = list(dataset.set_aside)
    by_digest: dict[str, list[int]] = defaultdict(list)
    for index, (digest, fault) in enumerate(digests):
        reason = fault or facts[digest].fault
        if reason:
            unreadable.append((dataset.paths[index], reason))
        else:
            by_digest[digest].append(index)
    if not by_digest:
        first = unreadable[0] if unreadable else (dataset.root, "no files")
        raise DataError(f"{dataset.root}: none of its {len(dataset)} files is a readable image; {first[0]}: {first[1]}")
    kept, conflicting, repeated = [], [], []
    for same in by_digest.values():
        labels = {int(dataset.labels[i]) for i in same}
        if len(labels - {-1}) > 1:
            conflicting.append(tuple(dataset.paths[i] for i in same))
            continue
        # Where one content stands in several splits it stays in the one that is read last: better a photo
        # fewer to learn from than one in the test that was learned.
        # And a file that has a label speaks for its copies that have none.
        order = sorted(same, key=lambda i: (dataset.labels[i] < 0, {"test": 0, "val": 1}.get(dataset.splits[i], 2)))
        kept.append(order[0])
        repeated += [(dataset.paths[i], dataset.paths[order[0]]) for i in order[1:]]
    kept.sort()
    if not kept:
        raise DataError(f"{dataset.root}: every image stands under two labels, {conflicting[0][0]} for one")
    left = replace(dataset.take(kept), set_aside=())
    kept_facts = tuple(facts[digests[i][0]] for i in kept)
    return Scan(
        dataset=left,
        digests=tuple(digests[i][0] for i in kept),
        facts=kept_facts,
        groups=near_duplicate_groups(kept_facts),
        unreadable=tuple(unreadable),
        conflicting=tuple(conflicting),
        repeated=tuple(repeated),
    )


def _look(
    paths: Sequence[Path], book: FactsBook | None, progress: Progress, workers: int, limits: Limits
) -> tuple[list[tuple[str, str]], dict[str, Facts]]:
    """(digest, "") or ("", reason) of every file, and the facts of every content."""
    digests: list[tuple[str, str]] = []
    facts: dict[str, Facts] = {}
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(paths), 512):
            part = paths[start : start + 512]
            read = list(pool.map(lambda path: _digest(path, limits), part))
            digests += read
            first_with = {
                digest: path for (digest, _), path in zip(read, part, strict=True) if digest and digest not in facts
            }
            known = book.facts(first_with) if book is not None and first_with else {}
            facts.update(known)
            unknown = {digest: path for digest, path in first_with.items() if digest not in known}
            progress.advance(len(part) - len(unknown))
            fresh: dict[str, Facts] = {}
            seen = pool.map(_facts, unknown.keys(), unknown.values(), repeat(limits))
            for digest, found in zip(unknown, seen, strict=True):
                fresh[digest] = found
                progress.advance()
            sound = {digest: found for digest, found in fresh.items() if not found.fault}
            if book is not None and sound:
                book.remember(sound)
            facts.update(fresh)
    return digests, facts


def _digest(path: Path, limits: Limits) -> tuple[str, str]:
    try:
        return hashlib.sha256(read_bytes(path, limits=limits)).hexdigest(), ""
    except ImageError as error:
        return "", error.what.removeprefix(f"{path}: ")


def _facts(digest: str, path: Path, limits: Limits) -> Facts:
    try:
        data = read_bytes(path, limits=limits)
        if hashlib.sha256(data).hexdigest() != digest:
            return Facts(0, 0, b"", b"", "the file changed while it was being read")
        seen = signature(data, limits=limits)
    except ImageError as error:
        return Facts(0, 0, b"", b"", error.what.removeprefix(f"{path}: "))
    return Facts(seen.height, seen.width, seen.grey.tobytes(), seen.colour.tobytes(), "")


def near_duplicate_groups(facts: Sequence[Facts], block: int = 2048) -> np.ndarray:
    """Number the groups of images that are the same but for recompression, resizing or mirroring.

    Two images are near-duplicates if their 16 × 16 greys correlate by at least 0.985 (0.995 where one is smaller
    than 48 pixels), the greys without their 3 × 3 mean by at least 0.7, and their 4 × 4 colours differ by less than
    6 levels (root mean square). The second keeps apart different things before one and the same shaded wall. Flat
    images, whose grey varies by less than 3 levels, have no near-duplicates.

    Returns
    -------
    int64 (n,): the position of the first image of each one's group.
    """
    n = len(facts)
    group = np.arange(n)
    if n < 2:
        return group
    grey = np.stack([np.frombuffer(f.grey, np.uint8).reshape(16, 16) for f in facts]).astype(np.float32)
    unit, varied = _unit(grey - grey.mean((1, 2), keepdims=True))
    detail, _ = _unit(grey - blurred(grey))
    unit[~varied] = 0  # which is like nothing
    colour = np.stack([np.frombuffer(f.colour, np.uint8).reshape(4, 4, 3) for f in facts]).astype(np.float32)
    small = np.array([min(f.height, f.width) < 48 for f in facts])
    needed = np.where(small, np.float32(0.995), np.float32(0.985))

    edges: list[np.ndarray] = []
    waiting = 0
    for flip in (slice(None), slice(None, None, -1)):
        theirs, their_detail, their_colour = (every[:, :, flip].reshape(n, -1) for every in (unit, detail, colour))
        for start in range(0, n, block):
            mine = slice(start, min(start + block, n))
            for left in range(0, mine.stop, block):
                yours = slice(left, left + block)
                likeness = unit[mine].reshape(-1, 256) @ theirs[yours].T
                a, b = np.nonzero(likeness >= 0.985)
                i, j = a + start, b + left
                near = (j < i) & (likeness[a, b] >= np.maximum(needed[i], needed[j]))
                a, b, i, j = a[near], b[near], i[near], j[near]
                if len(i):
                    alike = (detail[mine].reshape(-1, 256) @ their_detail[yours].T)[a, b] >= 0.7
                    alike &= _alike(colour[mine].reshape(-1, 48), their_colour[yours])[a, b]
                    edges.append(np.stack((i[alike], j[alike])))
                    waiting += int(alike.sum())
                if waiting > 4_000_000:  # a film's frames are all alike: join them before they fill the memory
                    group = _joined(group, edges)
                    edges, waiting = [], 0
    return _joined(group, edges)


def _unit(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, 16, 16), each of length one; and whether each varied by 3 levels or more, bool (n,)."""
    norm = np.sqrt((values**2).sum((1, 2)))
    return values / np.maximum(norm, 1e-6)[:, None, None], norm >= 3 * 16


def blurred(grey: np.ndarray) -> np.ndarray:
    """Each pixel of (n, 16, 16) becomes the mean of the nine around it; the border is continued."""
    wide = np.pad(grey, ((0, 0), (1, 1), (1, 1)), "edge")
    return sum((wide[:, y : y + 16, x : x + 16] for y in range(3) for x in range(3)), np.zeros_like(grey)) / 9


def _alike(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Whether each of (a, 48) colours is within 6 levels of each of (b, 48). Exact: the sums are integers < 2^24."""
    squares = (mine**2).sum(1)[:, None] + (theirs**2).sum(1)[None] - 2 * (mine @ theirs.T)
    return squares < 36 * mine.shape[1]


def _joined(group: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
    """Groups, int64 (n,), after joining those that pairs (2, k) of positions connect; each is numbered by its first."""
    n = len(group)
    one, other = np.concatenate([np.stack((np.arange(n), group)), *edges], axis=1)
    web = coo_array((np.ones(len(one), bool), (one, other)), shape=(n, n))
    _, component = connected_components(web, directed=False)
    _, first = np.unique(component, return_index=True)
    return first[component].astype(np.int64)
