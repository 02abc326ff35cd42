"""The whole of an audit, from features and files to findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from greffon.auditing.contents import Contents
from greffon.auditing.copies import CopySet, copy_findings, find_copies
from greffon.auditing.findings import KINDS, Finding
from greffon.auditing.labels import Suspects, find_suspects
from greffon.auditing.oddities import class_findings, colour_findings, size_findings, unreadable_findings
from greffon.auditing.predicting import Guesses, guess_out_of_fold
from greffon.auditing.separating import ClassPair, confused_findings, separations
from greffon.auditing.shortcuts import Cue, cues_of, measure_cues, shortcut_findings
from greffon.heads import Representation
from greffon.progress import Progress
from greffon.transfer.unsupervised import Outliers, SmallPictures, near_duplicates, nearest, outliers

__all__ = ["Audit", "Labelling", "audit_contents", "in_order", "label_findings"]

#: What neighbours are looked for by, as it is: about its mean, a photo and its mirror image lie further apart.
_LOOK = Representation("last", "mean", "l2")
#: Neighbours of each photo that are compared.
_NEIGHBOURS = 10


@final
@dataclass(frozen=True, slots=True, eq=False)
class Labelling:
    """What can be said where two classes or more have photos: by heads, out of fold.

    Parameters
    ----------
    guesses, suspects
        Of every content.
    pairs
        Of classes, the least separated first.
    n, right
        How many labels were judged, and how many are the most probable class.
    """

    guesses: Guesses
    suspects: Suspects
    pairs: tuple[ClassPair, ...]
    n: int
    right: int


@final
@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """What was found in a data set.

    Parameters
    ----------
    contents
        The photos.
    findings
        In the order of ``KINDS``, within a kind the gravest first.
    copies
        Sets of files that show the same photo.
    labelling
        None where there is nothing to learn from.
    outliers
        Of every content that the network could read, in their order.
    cues
        What tells a class without looking at the thing, the most telling first.
    notes
        What a reader of all this should know.
    """

    contents: Contents
    findings: tuple[Finding, ...]
    copies: tuple[CopySet, ...]
    labelling: Labelling | None
    outliers: Outliers
    cues: tuple[Cue, ...]
    notes: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """How many findings there are of every kind that was found, in the order of ``KINDS``."""
        found = Counter(one.kind for one in self.findings)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def excluded(self) -> dict[Path, Finding]:
        """The files that ``--fix quarantine`` lists, each with its gravest finding."""
        found: dict[Path, Finding] = {}
        for one in self.findings:
            if one.exclude and one.path is not None:
                found.setdefault(one.path, one)
        return found


def audit_contents(
    contents: Contents,
    pooled: np.ndarray,
    widths: Sequence[int],
    read: np.ndarray,
    failed: Sequence[tuple[Path, str]],
    root: Path,
    *,
    seed: int = 0,
    progress: Progress,
) -> Audit:
    """Look for faults in photos whose features are known.

    Parameters
    ----------
    pooled
        Records of the frozen part, of the contents at ``read``.
    widths
        The channels of each stage.
    read
        int64 (r,): the positions of the contents that the network could read.
    failed
        The files that it could not read though they had been looked at, with the reason.
    root
        Names in reasons are relative to it.
    seed
        Of the folds.
    """
    dataset, looked = contents.dataset, contents.scan
    classes, m = dataset.classes, len(contents)
    unit = _LOOK.take(pooled, widths)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    near = nearest(unit, _NEIGHBOURS)
    strange = outliers(near)
    # What is told of is nearly the same picture. In the folds, two photos of one thing on one table stay together, too.
    alike = _joined(m, read, near_duplicates(near, SmallPictures.of([looked.facts[int(i)] for i in read])).groups)
    together = _joined_with(looked.groups, alike)
    copies = find_copies(contents, looked.groups)
    progress.say(f"{len(copies)} sets of files show the same photo")
    labelling = _labelling(pooled, widths, contents.labels[read], len(classes), together[read], read, m, seed, progress)
    labelled = np.flatnonzero(contents.labels >= 0)
    facts = [looked.facts[int(i)] for i in labelled]
    cues = cues_of([looked.dataset.paths[int(i)] for i in labelled], facts) if len(classes) > 1 and len(labelled) else {}
    told = measure_cues(cues, contents.labels[labelled], together[labelled], len(classes), seed=seed)
    probabilities = labelling.guesses.probabilities if labelling else None
    found = [
        *unreadable_findings(contents, failed),
        *copy_findings(contents, copies, probabilities, root),
        *(label_findings(contents, labelling.suspects, labelling.guesses.probabilities) if labelling else ()),
        *shortcut_findings(told, classes),
        *(confused_findings(labelling.pairs, classes) if labelling else ()),
        *class_findings(classes, contents.labels, together),
        *size_findings(contents),
        *colour_findings(contents),
        *_outlier_findings(contents, strange, read),
    ]
    return Audit(contents, in_order(found), copies, labelling, strange, told, tuple(_notes(contents, labelling)))


def label_findings(contents: Contents, suspects: Suspects, probabilities: np.ndarray) -> Iterator[Finding]:
    """A finding for every file whose label is less probable than another; those that are surely wrong are to be excluded.

    Parameters
    ----------
    suspects, probabilities
        Of every content; float64 (m, c), out of fold.
    """
    classes, files = contents.dataset.classes, contents.files()
    for i in np.flatnonzero(suspects.suspected):
        own, other = int(contents.labels[i]), int(suspects.suggested[i])
        for file in files[int(i)]:
            yield Finding(
                kind="label-error",
                path=contents.dataset.paths[file],
                label=classes[own],
                suggested=classes[other],
                score=float(suspects.suspicion[i]),
                reason=f"out of fold {classes[own]} has {100 * probabilities[i, own]:.1f} %,"
                f" {classes[other]} {100 * probabilities[i, other]:.1f} %",
                exclude=bool(suspects.sure[i]),
                facts=(("own", float(probabilities[i, own])), ("other", float(probabilities[i, other]))),
            )


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """In the order of ``KINDS``, within a kind the gravest first; what is equal stays in its order."""
    order = {kind: number for number, kind in enumerate(KINDS)}
    return tuple(sorted(findings, key=lambda one: (order[one.kind], -one.score)))


def _labelling(
    pooled: np.ndarray,
    widths: Sequence[int],
    labels: np.ndarray,
    classes: int,
    groups: np.ndarray,
    read: np.ndarray,
    m: int,
    seed: int,
    progress: Progress,
) -> Labelling | None:
    """What heads say of the contents at ``read``, spread over all m."""
    some = guess_out_of_fold(pooled, widths, labels, classes, groups, seed=seed, progress=progress)
    if some is None:
        return None
    probabilities, judged = np.full((m, classes), 1 / classes), np.zeros(m, bool)
    probabilities[read], judged[read] = some.probabilities, some.judged
    every = np.full(m, -1, np.int64)
    every[read] = labels
    pairs = separations(probabilities, every, judged)
    right = int((probabilities.argmax(1) == every)[judged].sum())
    guesses = Guesses(probabilities, judged, some.strengths)
    return Labelling(guesses, find_suspects(probabilities, every, judged), pairs, int(judged.sum()), right)


def _outlier_findings(contents: Contents, strange: Outliers, read: np.ndarray) -> Iterator[Finding]:
    files = contents.files()
    for row in strange.suspects():
        content = int(read[row])
        for file in files[content]:
            yield Finding(
                "outlier", contents.dataset.paths[file], contents.name_of(content), "", float(strange.score[row]),
                f"far from its neighbours: {strange.score[row]:.1f} robust standard deviations beyond the usual distance",
            )  # fmt: skip


def _joined(m: int, read: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Groups of the contents at ``read`` as groups of all m, each numbered by its first; int64 (m,)."""
    every = np.arange(m)
    every[read] = read[groups]
    return every


def _joined_with(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Groups, int64 (m,), that join what either joins."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    m = len(one)
    rows, columns = np.concatenate([np.arange(m)] * 2), np.concatenate([one, other])
    web = coo_array((np.ones(2 * m, bool), (rows, columns)), shape=(m, m))
    return connected_components(web, directed=False)[1].astype(np.int64)


def _notes(contents: Contents, labelling: Labelling | None) -> Iterator[str]:
    yield from contents.dataset.notes
    present = len(set(contents.labels.tolist()) - {-1})
    if len(contents) < 100:
        yield f"{len(contents)} photos are few: intervals are wide, and little can be said surely"
    if labelling is None and present >= 2:
        yield "no two classes have two different photos each, so nothing can be said about labels"
    elif present == 1:
        yield "there is one class, so nothing can be said about labels"
    elif not present:
        yield "there are no labels: what is said is about the photos alone"
    if labelling is not None and (left := int((contents.labels >= 0).sum()) - labelling.n):
        yield f"{left} labels cannot be judged, as their classes have too few photos"
