"""Two domains on one map, before and after an adaptation; and how an adaptation went, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from greffon.errors import OptionError
from greffon.report.labels import label_groups, printable
from greffon.report.look import BLUE, GREEN, GREY, INK, ORANGE, new_figure, save_figure, set_head
from greffon.training import EpochRow
from greffon.transfer.unsupervised import lay_flat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DomainMap", "map_domains", "plot_adaptation", "plot_domains"]

#: Okabe and Ito (2008), the yellow darker, so that it is seen on white. From the ninth class on the form changes, too.
_COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#A89F00")
_LINES, _FILLED = "x+1234|_", "os^DvPX*"
#: Half of scikit-learn's default: the picture is the same to the eye, and the wait half as long.
_STEPS = 500
#: Names on a map, at most: the largest classes.
_NAMES = 30


@final
@dataclass(frozen=True, slots=True, eq=False)
class DomainMap:
    """Photos of both domains as points.

    Parameters
    ----------
    title
        What it shows.
    source, target
        float (k, 2) and (j, 2).
    labels, guesses
        int64 (k,) and (j,): the labels of the source, and what the target is taken for.
    method
        How it was flattened: ``"t-SNE"`` or ``"PCA"``.
    """

    title: str
    source: np.ndarray
    target: np.ndarray
    labels: np.ndarray
    guesses: np.ndarray
    method: str


def map_domains(
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray] | None,
    labels: np.ndarray,
    guesses: tuple[np.ndarray, np.ndarray],
    *,
    most: int = 800,
    seed: int = 0,
) -> tuple[DomainMap, ...]:
    """Lay features of both domains on one map each, before and after; the second starts where the first ended.

    Parameters
    ----------
    before, after
        Features of the source, (n, d) or of no rows, and of the target, (m, d). ``after`` None: one map only.
    labels
        int64 (n,): of the source.
    guesses
        int64 (m,) twice: what the target is taken for, before and after.
    most
        Of each domain so many points are shown, each class in its share.
    """
    mine, theirs = _evenly(labels[: len(before[0])], most), _evenly(guesses[1], most)
    maps, start = [], None
    for title, features, guess in (("before", before, guesses[0]), ("after", after, guesses[1])):
        if features is None:
            continue
        parts = [part[some] for part, some in ((features[0], mine), (features[1], theirs)) if len(some)]
        flat = lay_flat(np.concatenate(parts) if parts else np.zeros((0, 1)), seed=seed, start=start, steps=_STEPS)
        start = flat.points
        maps.append(DomainMap(title, start[: len(mine)], start[len(mine) :], labels[mine], guess[theirs], flat.method))
    return tuple(maps)


def _evenly(groups: np.ndarray, most: int) -> np.ndarray:
    """At most so many positions, sorted: every group in its share."""
    order = np.argsort(groups, kind="stable")
    if len(order) > most:
        order = order[np.linspace(0, len(order) - 1, most).round().astype(np.int64)]
    return np.sort(order)


def plot_domains(maps: Sequence[DomainMap], classes: Sequence[str], path: Path, *, title: str = "") -> None:
    """Draw maps side by side: the source as light crosses, the target as filled points, in the colours of the classes.

    Parameters
    ----------
    maps
        One or more, of ``map_domains``.
    path
        A ``.png`` or ``.svg`` file.

    Raises
    ------
    OptionError
        No map, or the file cannot be written.
    """
    if not maps:
        raise OptionError("plot_domains: needs one map or more, got none")
    with new_figure(5.6 * len(maps), 5.5) as (figure, first):
        first.remove()
        panels = figure.subplots(1, len(maps), squeeze=False)[0]
        for axes, one in zip(panels, maps, strict=True):
            _scatter(axes, one)
            if one.title:
                axes.set_title(printable(one.title), fontsize=10.5, loc="left", pad=24)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
            axes.margins(0.07)
            for side in axes.spines.values():
                side.set_visible(True)
            if len(one.source):
                axes.plot([], [], "x", color=GREY, markersize=5, label="source, by its label")
            axes.plot([], [], "o", color=GREY, markeredgecolor=INK, markeredgewidth=0.5, markersize=6,
                      label="target, by its predicted class")  # fmt: skip
            set_head(figure, axes, title)
        for axes, one in zip(panels, maps, strict=True):
            groups = np.bincount(one.guesses, minlength=len(classes))
            named = [int(c) for c in np.argsort(-groups, kind="stable")[:_NAMES] if groups[c]]
            centres = [tuple(np.median(one.target[one.guesses == c], axis=0).tolist()) for c in named]
            label_groups(figure, axes, centres, [classes[c] for c in named], [_COLOURS[c % len(_COLOURS)] for c in named])
        save_figure(figure, path)


def _scatter(axes: Axes, one: DomainMap) -> None:
    """Both domains of a map: forms tell them apart, and from the ninth class on the classes as well."""
    many = len(one.source) + len(one.target) > 600
    for c in np.unique(one.labels):
        own = one.source[one.labels == c]
        colour, form = _COLOURS[c % len(_COLOURS)], _LINES[c // len(_COLOURS) % len(_LINES)]
        axes.scatter(own[:, 0], own[:, 1], s=14 if many else 26, marker=form, color=colour, linewidths=0.9, alpha=0.5, zorder=2)
    for c in np.unique(one.guesses):
        own = one.target[one.guesses == c]
        colour, form = _COLOURS[c % len(_COLOURS)], _FILLED[c // len(_COLOURS) % len(_FILLED)]
        axes.scatter(own[:, 0], own[:, 1], s=17 if many else 34, marker=form, color=colour, edgecolors=INK, linewidths=0.4,
                     alpha=0.9, zorder=3)  # fmt: skip


def plot_adaptation(history: Sequence[EpochRow], path: Path, *, kept: int | None = None, title: str = "") -> None:
    """Draw how an adaptation went: the losses, and what each epoch shows of the target without its labels.

    Parameters
    ----------
    history
        From epoch 0, which is before the first; the rows of a run that adapts.
    path
        A ``.png`` or ``.svg`` file.
    kept
        The epoch that the model is of, where it is known.

    Raises
    ------
    OptionError
        The file cannot be written.
    """
    seen = [(row.epoch, row.target) for row in history if row.target is not None]
    with new_figure(11.2, 3.9) as (figure, first):
        first.remove()
        panels = figure.subplots(1, 3)
        curves = (
            ([(row.epoch, row.loss) for row in history], BLUE, "s-", "loss: labelled photos"),
            ([(row.epoch, row.log_loss) for row in history], ORANGE, "o-", "loss: source, validation"),
            ([(epoch, row.loss) for epoch, row in seen], GREEN, "D:", "loss: target, by the method"),
        )
        for rows, colour, form, label in curves:
            known = [(epoch, value) for epoch, value in rows if value is not None and np.isfinite(value)]
            if known:
                axes = panels[0]
                axes.plot(*zip(*known, strict=True), form, color=colour, markersize=4, label=label)
        told = (
            (panels[1], [row.information for _, row in seen], "information maximisation (lower is better)"),
            (panels[2], [row.density for _, row in seen], "neighbourhood density (higher is better)"),
        )
        for axes, values, label in told:
            axes.plot([epoch for epoch, _ in seen], values, "o-", color=BLUE, markersize=4)
            lost = [(epoch, value) for (epoch, row), value in zip(seen, values, strict=True) if row.collapsed]
            if lost:
                axes.plot(*zip(*lost, strict=True), "x", color=ORANGE, markersize=9, label="classes have vanished")
            axes.set_ylabel(label)
        panels[0].set_ylabel("loss")
        for axes in panels:
            if kept is not None:
                axes.axvline(kept, color=GREY, linestyle="--", linewidth=1.2, label=f"kept: epoch {kept}")
            axes.set_xticks([row.epoch for row in history][:: 1 + len(history) // 8])
            axes.set_xlabel("epoch")
        if title:
            figure.suptitle(printable(title), x=0.01, ha="left", fontsize=11.5)
        keys = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        if keys:
            figure.legend(keys.values(), keys, loc="outside upper left", ncols=5, frameon=False, fontsize=9)
        save_figure(figure, path)
