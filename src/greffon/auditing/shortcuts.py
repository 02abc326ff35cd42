"""Signs of a shortcut: what has nothing to do with the thing on the photo, and yet tells its class.

A network learns what separates the classes in the photos that it is given: the scanner's border, the sharpness of one camera,
the compression of one source (Geirhos et al. 2020, Shortcut Learning in Deep Neural Networks, Nature Machine Intelligence 2;
Zech et al. 2018, PLOS Medicine 15, on X-rays of several hospitals). It fails where that is absent.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from greffon.auditing.findings import Finding
from greffon.auditing.oddities import is_grey
from greffon.auditing.separating import informedness
from greffon.datasets import Facts, folds

__all__ = ["CUES", "Cue", "cues_of", "measure_cues", "shortcut_findings"]

#: What is asked about, and how it is called.
CUES: Mapping[str, str] = {
    "file-size": "the size of the file",
    "compression": "the bytes per pixel",
    "format": "the format of the file",
    "dimensions": "width and height",
    "colourless": "whether it has colour",
    "border": "the colour of the border",
}

#: A class counts as given away by a cue if the lower end of its informedness reaches this, and chance does not reach what was found.
_TELLING = 0.4
_CHANCE = 0.01
#: Permutations of the labels; as many as that chance needs.
_PERMUTATIONS = 99
#: Photos of a class without which nothing is said of it.
_LEAST = 10


@final
@dataclass(frozen=True, slots=True)
class Cue:
    """How well one cue, alone, tells one class from all others, out of fold.

    Parameters
    ----------
    name
        A key of ``CUES``.
    label
        The class that it tells best.
    found, others
        The share of the photos of that class, and of all others, that are taken for it.
    informedness, interval
        Their difference, with its interval of 95 %: 1, the class is always told; 0, never.
    p_value
        How often labels dealt at random are told as well; NaN where the informedness is too low to ask.
    """

    name: str
    label: int
    found: float
    others: float
    informedness: float
    interval: tuple[float, float]
    p_value: float

    @property
    def telling(self) -> bool:
        """Whether it gives the class away."""
        return self.interval[0] >= _TELLING and self.p_value <= _CHANCE


def cues_of(paths: Sequence[Path], facts: Sequence[Facts]) -> dict[str, np.ndarray]:
    """What is known of n files without looking at the thing: float64 (n, ...) for every cue."""
    size = np.array([_bytes(path) for path in paths], np.float64)
    height, width = (np.array([getattr(f, name) for f in facts], np.float64) for name in ("height", "width"))
    return {
        "file-size": size[:, None],
        "compression": (size / np.maximum(height * width, 1))[:, None],
        "format": np.array([_format(path) for path in paths], np.float64)[:, None],
        "dimensions": np.stack([height, width, width / np.maximum(height, 1)], 1),
        "colourless": np.array([is_grey(f) for f in facts], np.float64)[:, None],
        "border": np.array([_border(f) for f in facts], np.float64).reshape(len(facts), -1),
    }


def measure_cues(
    cues: Mapping[str, np.ndarray], labels: np.ndarray, groups: np.ndarray, classes: int, *, k: int = 5, seed: int = 0
) -> tuple[Cue, ...]:
    """How well each cue tells the class that it tells best: by a small decision tree, out of fold.

    Where that is well enough to be told of, the labels are dealt out at random 99 times and the same is done: the p-value is the
    share of the deals, the true one among them, whose best class is told as well.

    Parameters
    ----------
    cues
        See ``cues_of``.
    labels, groups
        int64 (n,), each at least 0; near-duplicates stay in one fold.
    """
    counts = np.bincount(labels, minlength=classes)
    asked = np.flatnonzero(counts >= _LEAST)
    if len(asked) < 1 or (counts > 0).sum() < 2:
        return ()
    parts = folds(labels, groups, k, seed)
    found = []
    for name, values in cues.items():
        if len(np.unique(values, axis=0)) < 2:
            continue
        cue = _measured(name, values, labels, classes, asked, parts, seed)
        if cue.interval[0] >= _TELLING:
            rng = np.random.default_rng(seed)
            dealt = [_measured(name, values, rng.permutation(labels), classes, asked, parts, seed) for _ in range(_PERMUTATIONS)]
            as_good = sum(one.informedness >= cue.informedness for one in dealt)
            cue = Cue(name, cue.label, cue.found, cue.others, cue.informedness, cue.interval, (1 + as_good) / (1 + len(dealt)))
        found.append(cue)
    return tuple(sorted(found, key=lambda one: -one.informedness))


def shortcut_findings(cues: Sequence[Cue], classes: Sequence[str]) -> Iterator[Finding]:
    """A finding for every cue that gives a class away."""
    for one in cues:
        if one.telling:
            low, high = one.interval
            yield Finding(
                kind="shortcut",
                path=None,
                label=classes[one.label],
                suggested="",
                score=one.informedness,
                reason=f"{CUES[one.name]} alone tells {classes[one.label]}: {100 * one.found:.0f} % of its photos are found by it, and"
                f" {100 * one.others:.0f} % of the others taken for it (informedness {one.informedness:.2f}, {low:.2f} to {high:.2f};"
                f" as good by chance: p {one.p_value:.2f})",
            )


def _measured(
    name: str,
    values: np.ndarray,
    labels: np.ndarray,
    classes: int,
    asked: np.ndarray,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    seed: int,
) -> Cue:
    """The class that a tree on these values tells best, out of fold."""
    from sklearn.tree import DecisionTreeClassifier

    guess = np.full(len(labels), -1)
    for train, test in parts:
        tree = DecisionTreeClassifier(max_leaf_nodes=max(16, 4 * classes), min_samples_leaf=max(3, len(labels) // 100),
                                      class_weight="balanced", random_state=seed)  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many classes with few photos each
            guess[test] = tree.fit(values[train], labels[train]).predict(values[test])
    best: Cue | None = None
    for c in asked:
        own = labels == c
        right, wrong = int((guess[own] == c).sum()), int((guess[~own] == c).sum())
        n, others = int(own.sum()), int((~own).sum())
        told, interval = informedness(right, n, wrong, others)
        if best is None or told > best.informedness:
            best = Cue(name, int(c), right / n, wrong / max(others, 1), told, interval, float("nan"))
    assert best is not None
    return best


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


#: The first bytes of the formats; others are told by the last bytes of the header that all of them have.
_MARKS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II", b"MM", b"P")


def _format(path: Path) -> int:
    """A number for the format of a file, by its first bytes: what it is, not what it is called."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError:
        return -1
    return next((i for i, mark in enumerate(_MARKS) if head.startswith(mark)), len(_MARKS))


def _border(facts: Facts) -> list[float]:
    """Of the outermost sixteenth: the mean grey of the four sides and their spread; of the outer fourth, the mean tint."""
    grey = np.frombuffer(facts.grey, np.uint8).reshape(16, 16).astype(np.float64)
    colour = np.frombuffer(facts.colour, np.uint8).reshape(4, 4, 3).astype(np.float64)
    sides = (grey[0], grey[-1], grey[:, 0], grey[:, -1])
    outer = np.ones((4, 4), bool)
    outer[1:3, 1:3] = False
    red, green, blue = colour[outer].mean(0)
    return [*(float(side.mean()) for side in sides), float(np.concatenate(sides).std()), red - green, blue - green]
