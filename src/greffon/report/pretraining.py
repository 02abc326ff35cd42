"""The report of self-supervised training: how the loss went, what can be said without labels, and whose neighbours changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.report.labels import printable
from greffon.report.look import BLUE, GREEN, GREY, ORANGE, new_figure, save_figure
from greffon.report.parts import photo_address, picture_address, write_page
from greffon.training import EpochRow
from greffon.transfer.unsupervised.measures import nearest

__all__ = ["Neighbours", "Shown", "plot_pretraining", "pretraining_report"]

#: Photos whose neighbours are shown, and how many of each.
_QUERIES, _NEIGHBOURS = 8, 6


@final
@dataclass(frozen=True, slots=True)
class Shown:
    """A photo on the page; ``new``: it was no neighbour before, or is none any more."""

    name: str
    picture: str  # a data address, or "" where the thumbnail failed
    new: bool = False


@final
@dataclass(frozen=True, slots=True)
class Neighbours:
    """A photo and those nearest to it, by the pretrained network and by the one that was kept."""

    photo: Shown
    before: tuple[Shown, ...]
    after: tuple[Shown, ...]


def pretraining_report(
    path: Path,
    figures: Mapping[str, Any],
    history: Sequence[EpochRow],
    photos: Sequence[Path],
    before: np.ndarray,
    after: np.ndarray,
) -> None:
    """Write the page, and beside it ``learning.png``.

    Parameters
    ----------
    path
        The HTML file.
    figures
        The values of ``pretrain.json``.
    history
        From epoch 0, which is before the first.
    photos, before, after
        The m photos, and their features by the pretrained network and by the one that was kept, (m, d) each.

    Raises
    ------
    ModelError, OptionError
        A file cannot be written.
    """
    curve = path.with_name("learning.png")
    plot_pretraining(history, curve, kept=figures["best_epoch"])
    shown, changed = _neighbours(photos, before, after) if figures["gained"] else ((), 0.0)
    values = {"figures": figures, "curve": picture_address(curve), "shown": shown, "changed": changed, "neighbours": _NEIGHBOURS}
    write_page(path, "pretraining.html", values)


def _neighbours(photos: Sequence[Path], before: np.ndarray, after: np.ndarray) -> tuple[tuple[Neighbours, ...], float]:
    """Some photos with their neighbours, those that changed most first and some evenly drawn after them; and the mean change."""
    k = min(_NEIGHBOURS, len(photos) - 1)
    old, new = (nearest(x - x.mean(0), x - x.mean(0), k, without_self=True) for x in (before, after))
    kept = (old[:, :, None] == new[:, None, :]).any(2)
    change = 1 - kept.mean(1)
    most = np.argsort(-change, kind="stable")[: _QUERIES // 2]
    rest = np.linspace(0, len(photos) - 1, min(_QUERIES - len(most), len(photos))).astype(np.int64)
    chosen = list(dict.fromkeys([*most.tolist(), *rest.tolist()]))

    @cache
    def picture(i: int) -> str:
        return photo_address(photos[i])

    def show(mine: np.ndarray, theirs: np.ndarray) -> tuple[Shown, ...]:
        return tuple(Shown(photos[j].name, picture(j), j not in theirs) for j in mine.tolist())

    rows = [Neighbours(Shown(photos[i].name, picture(i)), show(old[i], new[i]), show(new[i], old[i])) for i in chosen]
    return tuple(rows), float(change.mean())


def plot_pretraining(history: Sequence[EpochRow], path: Path, *, kept: int | None = None, title: str = "") -> None:
    """Draw how the training went: the loss, the figures without labels, and the epoch that was kept.

    Parameters
    ----------
    history
        From epoch 0, which is before the first; the rows of a run without labels.
    path
        A ``.png`` or ``.svg`` file.

    Raises
    ------
    OptionError
        The file cannot be written.
    """
    seen = [(row.epoch, row.features) for row in history if row.features is not None]
    epochs = [epoch for epoch, _ in seen]
    panels = (
        ("loss of the method", [("loss", BLUE, "s-", [row.loss for _, row in seen])]),
        ("share", [
            ("a new view finds its photo", BLUE, "o-", [row.found for _, row in seen]),
            ("neighbours that two views share", GREEN, "D-", [row.agreement for _, row in seen]),
            ("neighbours kept since the epoch before", ORANGE, "s:", [row.steadiness for _, row in seen]),
        ]),
        ("dimensions (RankMe)", [("rank", BLUE, "o-", [row.rank for _, row in seen])]),
        ("exponent (alpha-ReQ)", [("decay", BLUE, "o-", [row.decay for _, row in seen])]),
    )  # fmt: skip
    with new_figure(11.2, 6.6) as (figure, first):
        first.remove()
        for axes, (label, curves) in zip(figure.subplots(2, 2).ravel(), panels, strict=True):
            for name, colour, form, values in curves:
                known = [(e, v) for e, v in zip(epochs, values, strict=True) if v is not None and np.isfinite(v)]
                if known:
                    told = name if len(curves) > 1 else ""
                    axes.plot(*zip(*known, strict=True), form, color=colour, markersize=4, label=told)
            if kept is not None:
                axes.axvline(kept, color=GREY, linestyle="--", linewidth=1.2)
            axes.set_ylabel(label)
            axes.set_xlabel("epoch; 0 is the pretrained network")
            axes.set_xticks(epochs[:: 1 + len(epochs) // 8])
            if len(curves) > 1 and axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False, fontsize=8)
        words = title or (f"dashed: epoch {kept} is kept" if kept is not None else "")
        if words:
            figure.suptitle(printable(words), x=0.01, ha="left", fontsize=11.5)
        save_figure(figure, path)
