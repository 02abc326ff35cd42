"""Classes that cannot be told apart: how well out-of-fold probabilities separate two classes, with an interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.auditing.findings import Finding
from greffon.metrics import wilson_interval

__all__ = ["ClassPair", "confused_findings", "informedness", "separations"]

#: Separations below these, by the upper end of their interval, are told of: 1 is never mistaken, 0 is guessed.
_CONFUSED, _LOST = 0.75, 0.5
#: Images of a class without which nothing is said of it.
_LEAST = 10


@final
@dataclass(frozen=True, slots=True)
class ClassPair:
    """Two classes, and how well they are told apart where only these two are asked about.

    Parameters
    ----------
    first, second
        Numbers of classes.
    n
        How many images each has.
    mistaken
        How many of each are rather taken for the other.
    separation
        The sum of both recalls less 1 (Youden 1950's J): 1 if no image is mistaken, 0 if they are guessed.
    interval
        Of 95 %.
    """

    first: int
    second: int
    n: tuple[int, int]
    mistaken: tuple[int, int]
    separation: float
    interval: tuple[float, float]


def informedness(right: int, n: int, wrong: int, others: int, confidence: float = 0.95) -> tuple[float, tuple[float, float]]:
    """The share ``right / n`` less the share ``wrong / others``, with its interval.

    Both shares come of different images. The interval joins their Wilson intervals, after Newcombe (1998), Statistics in
    Medicine 17, 873-890, method 10. 0 within (-1, 1) where one of the two has no images.
    """
    if n == 0 or others == 0:
        return 0.0, (-1.0, 1.0)
    p, q = right / n, wrong / others
    (low, high), (least, most) = wilson_interval(right, n, confidence), wilson_interval(wrong, others, confidence)
    return p - q, (p - q - math.hypot(p - low, most - q), p - q + math.hypot(high - p, q - least))


def separations(probabilities: np.ndarray, labels: np.ndarray, judged: np.ndarray) -> tuple[ClassPair, ...]:
    """Every pair of classes with images, the least separated first.

    Parameters
    ----------
    probabilities, labels, judged
        See ``find_suspects``. Of a pair, an image is mistaken if the other class is more probable than its own.
    """
    found = []
    members = [np.flatnonzero(judged & (labels == c)) for c in range(probabilities.shape[1])]
    for a in range(len(members)):
        for b in range(a + 1, len(members)):
            if len(members[a]) and len(members[b]):
                as_b = int((probabilities[members[a], b] > probabilities[members[a], a]).sum())
                as_a = int((probabilities[members[b], a] > probabilities[members[b], b]).sum())
                n = (len(members[a]), len(members[b]))
                found.append(ClassPair(a, b, n, (as_b, as_a), *informedness(n[0] - as_b, n[0], as_a, n[1])))
    return tuple(sorted(found, key=lambda one: (one.separation, one.first, one.second)))


def confused_findings(pairs: Sequence[ClassPair], classes: Sequence[str]) -> Iterator[Finding]:
    """A finding for every pair that is surely ill separated; few images say nothing surely."""
    for one in pairs:
        low, high = one.interval
        if high >= _CONFUSED or min(one.n) < _LEAST:
            continue
        what = "cannot be told apart" if low <= 0 and high < _LOST else "are often mistaken for each other"
        first, second = classes[one.first], classes[one.second]
        yield Finding(
            kind="confused-classes",
            path=None,
            label=first,
            suggested=second,
            score=min(1.0, 1 - one.separation),
            reason=f"they {what}: {one.mistaken[0]} of {one.n[0]} {first} look more like {second}, {one.mistaken[1]} of {one.n[1]}"
            f" {second} more like {first}; separation {one.separation:.2f} ({low:.2f} to {high:.2f}; 1: never mistaken, 0: guessed)",
        )
