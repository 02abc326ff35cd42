"""The report of an adaptation: what was done, what changed, and what speaks for it. No label of the target is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.report.domains import DomainMap, map_domains, plot_adaptation, plot_domains
from greffon.report.parts import Tile, drawn_address, photo_address, write_page
from greffon.training import EpochRow

__all__ = ["Change", "TargetClass", "adaptation_report"]

#: Rows of the table of changes, at most.
_PAIRS = 15

#: What a way does, in a line.
_WAYS: Mapping[str, str] = {
    "consensus": "the guesses of several ways, joined by vote and learned",
    "source-only": "the source's own head, as it is",
    "per-domain": "each domain is centred and scaled by itself",
    "coral": "the source's means and correlations are made the target's",
    "subspace": "the source's principal axes are turned onto the target's",
    "tca": "a projection in which the domains lie together",
    "jda": "the same, class by class, with guessed classes in the target",
    "bda": "the same, the whole and the classes weighed against each other",
    "optimal-transport": "the source is moved onto the target by the shortest way",
    "label-propagation": "labels spread over a graph of neighbours of both domains",
    "self-training": "the head learns its own surest guesses, more of them each round",
    "meda": "a graph of neighbours and both mixtures of classes, at once",
    "spl": "classes of the source are matched to clusters of the target",
    "mixture": "the target's classes are mixed otherwise: the mixture is estimated",
    "deep-coral": "the network makes the correlations of both domains alike",
    "dan": "the network makes the domains alike in the means of kernels",
    "jan": "the same, of features and classes together",
    "dann": "a discriminator must not tell the domains apart",
    "cdan": "the same, given the predicted classes",
    "cdan+e": "the same, sure photos counting more",
    "mcc": "the network shall confuse few classes in the target",
    "afn": "the features of both domains shall become large",
    "shot": "the source's head is kept, and the target is made sure and even under it",
}

#: The figures of a way: key of ``Evidence``, heading, explanation, whether it is a share.
_FIGURES = (
    ("reverse", "reverse validation", "balanced accuracy on the source of a head that learned only this way's guesses in the target", True),
    ("weighted", "weighted validation", "the same, the source's photos that look like the target's counting more", True),
    ("information", "information", "every photo sure, all classes in use (information maximisation)", False),
    ("density", "density",
     "photos that are alike are named alike (soft neighbourhood density); also high where classes have been lost: see evenness", False),
    ("agreement", "agreement", "share of the target's photos that the consensus names so, too", True),
    ("even", "evenness",
     "1: all classes are found equally often; 0: only one is found. To be wished for only where the target's classes are even", False),
)  # fmt: skip


@final
@dataclass(frozen=True, slots=True)
class TargetClass:
    """A class as the target has it; shares from 0 to 1, None where they are not known."""

    name: str
    count: int
    share: float
    confidence: float | None
    source: float | None
    estimated: float
    surest: tuple[Tile, ...]
    least: tuple[Tile, ...]


@final
@dataclass(frozen=True, slots=True)
class Change:
    """How many photos went from one class to another."""

    before: str
    after: str
    count: int


def adaptation_report(
    path: Path,
    classes: Sequence[str],
    figures: Mapping[str, Any],
    target: Sequence[Path],
    probabilities: np.ndarray,
    source_only: np.ndarray,
    source_labels: np.ndarray,
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray] | None,
    *,
    command: str = "",
    seed: int = 0,
    most: int = 240,
) -> None:
    """Write the page of an adaptation, and beside it ``map.png``: both domains before and after.

    Parameters
    ----------
    path
        The HTML file.
    figures
        The values of ``adapt.json``.
    target
        The m photos of the target that could be read.
    probabilities, source_only
        float (m, c): of these, by the model and by the source-only model.
    source_labels
        int64 (n,).
    before, after
        Features of the source, (n, d) or of no rows, and of the target, (m, d), as the source-only model sees them and as the
        adapted one does. One map is drawn where they are equal, or ``after`` is None.
    command
        What repeats the run.
    most
        About so many photos are shown in all.

    Raises
    ------
    ModelError, OptionError
        A file cannot be written.
    """
    guess, base = probabilities.argmax(1), source_only.argmax(1)
    if after is not None and all(np.array_equal(one, other) for one, other in zip(before, after, strict=True)):
        after = None
    maps = map_domains(before, after, source_labels, (guess if after is None else base, guess), seed=seed)
    plot_domains(maps, classes, path.with_name("map.png"))
    tile = _tiles(classes, target, probabilities, base)
    changed = np.flatnonzero(guess != base)
    surest = changed[np.argsort(-probabilities[changed].max(1), kind="stable")]
    pairs = Counter(zip(map(int, base[changed]), map(int, guess[changed]), strict=True))
    told = sorted(pairs.items(), key=lambda one: (-one[1], one[0]))
    names = [row["name"] for row in figures["evidence"]]
    agreement = figures.get("agreement")
    values = {
        "figures": figures,
        "what": _WAYS.get(figures["method"], ""),
        "agreement": agreement if agreement is not None and np.isfinite(agreement) else None,
        "alone": "consensus" not in names,
        "confidence": _mean(probabilities.max(1)),
        "maps": [(one, drawn_address(lambda file, one=one: plot_domains([replace(one, title="")], classes, file))) for one in maps],
        "flat": _how(maps),
        "changes": [Change(classes[old], classes[new], count) for (old, new), count in told[:_PAIRS]],
        "more_changes": max(0, len(told) - _PAIRS),
        "changed": len(changed),
        "changed_tiles": [tile(int(i)) for i in surest[: most // 4]],
        "classes": _classes(classes, figures, probabilities, source_labels, tile, 3 * most // 4),
        "sourced": len(source_labels) > 0,
        "columns": [one for one in _FIGURES if names],
        "rows": [(row, _WAYS.get(row["name"], "")) for row in figures["evidence"]],
        "curve": _curve(figures),
        "training": [(name.replace("_", " "), _words(value)) for name, value in figures.get("training", {}).items()],
        "command": command,
    }
    values["widest"] = max((max(one.estimated, one.source or 0) for one in values["classes"]), default=1) or 1
    write_page(path, "adaptation.html", values)


def _tiles(
    classes: Sequence[str], target: Sequence[Path], probabilities: np.ndarray, base: np.ndarray
) -> Callable[[int], Tile]:
    """From the position of a target photo to its tile; each is read once."""

    @cache
    def tile(i: int) -> Tile:
        order = np.argsort(-probabilities[i], kind="stable")
        best = int(order[0])
        second = classes[int(order[1])] if len(order) > 1 else ""
        before = classes[int(base[i])] if base[i] != best else ""
        return Tile(target[i].name, photo_address(target[i]), classes[best], float(probabilities[i, best]), second, before)

    return tile


def _classes(
    classes: Sequence[str],
    figures: Mapping[str, Any],
    probabilities: np.ndarray,
    labels: np.ndarray,
    tile: Callable[[int], Tile],
    most: int,
) -> list[TargetClass]:
    """Every class; the largest ones with photos, so many in all."""
    guess, sure = probabilities.argmax(1), probabilities.max(1)
    counts = np.bincount(guess, minlength=len(classes))
    source = np.bincount(labels, minlength=len(classes)) / max(len(labels), 1)
    few = max(1, min(4, most // (2 * max(1, int((counts > 0).sum())))))
    shown = set(np.argsort(-counts, kind="stable")[: most // (2 * few)].tolist())
    found = []
    for c, name in enumerate(classes):
        own = np.flatnonzero(guess == c)
        own = own[np.argsort(-sure[own], kind="stable")]
        picked = own if c in shown else own[:0]
        found.append(
            TargetClass(
                name=name,
                count=len(own),
                share=len(own) / max(len(guess), 1),
                confidence=_mean(sure[own]),
                source=float(source[c]) if len(labels) else None,
                estimated=float(figures["estimated_proportions"].get(name, 0.0)),
                surest=tuple(tile(int(i)) for i in picked[:few]),
                least=tuple(tile(int(i)) for i in picked[few:][-few:][::-1]),
            )
        )
    return found


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _how(maps: Sequence[DomainMap]) -> str:
    return "t-SNE" if any(one.method == "t-SNE" for one in maps) else "the two principal axes"


def _curve(figures: Mapping[str, Any]) -> str:
    """The picture of the epochs, or "" where there were none."""
    history = [EpochRow.from_dict(row) for row in figures.get("history", ())]
    kept = figures.get("training", {}).get("best_epoch")
    return drawn_address(lambda file: plot_adaptation(history, file, kept=kept)) if history else ""


def _words(value: object, most: int = 400) -> str:
    """A value of the configuration, for people."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{name} {_words(one, 80)}" for name, one in islice(value.items(), 60))
    elif isinstance(value, list | tuple):
        text = ", ".join(_words(one, 80) for one in islice(value, 60))
    else:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
