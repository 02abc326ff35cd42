"""``greffon suggest``: which photos are worth labelling first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np

from greffon.activations import Activations, Choice, Store, Tap, chosen_engine, compute
from greffon.backbones import Backbone
from greffon.datasets import Scan, near_duplicate_groups, read_photos, scan
from greffon.errors import DataError, OptionError
from greffon.heads import Normaliser, Representation
from greffon.jobs.suggest.given import check_folders, read_given
from greffon.jobs.suggest.result import SuggestedPhoto, SuggestResult, reason_for, write_suggestions
from greffon.model import load_any_backbone
from greffon.progress import Progress, Silent
from greffon.transfer.unsupervised import Given, Pool, suggest_images

__all__ = ["REPRESENTATION", "suggest"]

#: What photos are compared by.
REPRESENTATION = Representation("last", "mean", "l2")


def suggest(
    photos: Path | str,
    *,
    out: Path | str,
    budget: int = 50,
    labelled: Path | str | Sequence[Path | str] = (),
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    precision: str = "auto",
    seed: int = 0,
    store: Store | None = None,
    progress: Progress | None = None,
) -> SuggestResult:
    """Choose the photos that are worth labelling first, and go on from the labels given so far.

    The folder ``out`` gets ``suggestions.csv`` with a column to fill in, ``suggestions.html`` to label in, ``suggestions.png``
    to look at, ``suggest.json``, and, where labels were given, ``labelled.csv`` with all of these.

    Parameters
    ----------
    photos
        A folder, or a table with the column ``path``. Names of folders, and labels in a table, are not looked at.
    budget
        How many are wanted.
    labelled
        What is labelled so far: folders with a folder per class, and tables, such as a ``suggestions.csv`` that was filled in;
        rows without a label are passed over. The photos may be among ``photos`` or not.
    backbone, weights, size, precision
        As for ``train``.
    store
        Where activations are kept, by default greffon's cache.

    Raises
    ------
    GreffonError
        Of the kind that says what is wrong.
    """
    started = time.perf_counter()
    listener = progress or Silent()
    kept = store or Store()
    folder = Path(out)
    sources = [Path(one) for one in ([labelled] if isinstance(labelled, Path | str) else labelled)]
    if budget < 1:
        raise OptionError(f"--budget must be at least 1, got {budget}")
    check_folders(Path(photos), sources, folder)
    given = read_given(sources)
    found = read_photos(photos)
    network = load_any_backbone(backbone, weights=weights, size=size, progress=listener)
    few = None if given is None else scan(given, book=kept, progress=listener)
    if few is not None:
        few.tell(listener)
    many = scan(found, book=kept, progress=listener)
    many.tell(listener)
    heap = _Heap.of(many, few)
    if not heap.new:
        raise DataError(f"{photos}: all of its {len(many.digests)} photos are labelled already, so none is left to suggest")
    if few is not None:
        apart = len(set(few.digests) - set(many.digests))
        listener.say(f"{len(few.digests)} photos are labelled so far" + (f", {apart} of which are not in {photos}" if apart else ""))
    seen, plan = heap.pass_through(network, precision, kept, listener)
    pool, known, read = _pool_of(heap, seen, network)
    if known is not None and len(np.unique(known.labels[known.labels >= 0])) < 2:
        listener.warn("labels of one class alone say nothing of what is unsure: chosen is what the labelled photos are unlike")
    told = suggest_images(pool, budget, given=known, seed=seed, progress=listener)
    if len(told) < budget:
        listener.say(f"no more than {len(told)} can be suggested: near-duplicates are suggested once, and not where one is labelled")
    classes = () if few is None else few.dataset.classes
    rows = tuple(SuggestedPhoto(heap.paths[read[one.position]], rank, reason_for(one, classes), one)
                 for rank, one in enumerate(told, start=1))  # fmt: skip
    faults = (*many.unreadable, *((heap.paths[i], reason) for i, reason in sorted(seen.failed.items())))
    result = SuggestResult(folder, rows, len(pool), budget, few, REPRESENTATION, plan, faults, len(many.repeated), seed,
                           seen.computed, seen.reused, time.perf_counter() - started)  # fmt: skip
    write_suggestions(result, listener)
    return replace(result, seconds=time.perf_counter() - started)


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Heap:
    """All photos, each content once: first the new ones in the order of their contents, so that no name of a file or folder
    has a part in anything; then the labelled ones.
    """

    paths: tuple[Path, ...]
    digests: tuple[str, ...]
    groups: np.ndarray  # int64: near-duplicates among all of them
    new: int
    labels: np.ndarray  # int64, of those that come after the new ones; -1: in a test split
    classes: int

    @classmethod
    def of(cls, many: Scan, few: Scan | None) -> _Heap:
        taken = frozenset(() if few is None else few.digests)
        order = sorted((i for i, digest in enumerate(many.digests) if digest not in taken), key=many.digests.__getitem__)
        paths, digests = [many.dataset.paths[i] for i in order], [many.digests[i] for i in order]
        if few is None:
            return cls(tuple(paths), tuple(digests), many.groups[order], len(order), np.zeros(0, np.int64), 0)
        own = sorted(range(len(few.digests)), key=few.digests.__getitem__)
        facts = [*(many.facts[i] for i in order), *(few.facts[i] for i in own)]
        # A test split is not learned from; but its photos need not be labelled again.
        labels = np.array([-1 if few.dataset.splits[i] == "test" else int(few.dataset.labels[i]) for i in own], np.int64)
        return cls((*paths, *(few.dataset.paths[i] for i in own)), (*digests, *(few.digests[i] for i in own)),
                   near_duplicate_groups(facts), len(order), labels, len(few.dataset.classes))  # fmt: skip

    def pass_through(self, network: Backbone, precision: str, store: Store, progress: Progress) -> tuple[Activations, Choice]:
        """The frozen part of the network, run over all of them or known from before."""
        # In the order of all contents: what was labelled since the last time changes nothing, so that the same engine is chosen.
        by_content = [self.paths[i] for i in sorted(range(len(self.paths)), key=self.digests.__getitem__)]
        engine, plan = chosen_engine(network, Tap("pooled"), precision, by_content, progress)
        seen = compute(self.paths, network, Tap("pooled"), engine, store=store, progress=progress, digests=self.digests)
        for i, reason in sorted(seen.failed.items()):
            progress.warn(f"set aside: {self.paths[i]}: {reason}")
        return seen, plan


def _pool_of(heap: _Heap, seen: Activations, network: Backbone) -> tuple[Pool, Given | None, np.ndarray]:
    """What is chosen among, what is labelled, and where each image of the pool stands in the heap, int64 (n,).

    Raises DataError where no new photo could be read.
    """
    read = np.array([i for i in range(len(heap.paths)) if i not in seen.failed], np.int64)
    new, own = read[read < heap.new], read[read >= heap.new]
    if not len(new):
        raise DataError(f"none of the {heap.new} photos to choose among could be read; {heap.paths[0]}: {seen.failed[0]}")
    features = REPRESENTATION.take(seen.batch(read), network.widths())
    x = Normaliser.fit(features, REPRESENTATION.norm).apply(features)
    pool = Pool(x[: len(new)], heap.groups[new])
    if not len(own):
        return pool, None, new
    return pool, Given(x[len(new) :], heap.groups[own], heap.labels[own - heap.new], heap.classes), new
