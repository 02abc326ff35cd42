"""What a model takes for what: the confusion matrix, as PNG or SVG."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from greffon.evaluation import Evaluation
from greffon.report.labels import printable
from greffon.report.look import INK, new_figure, save_figure

__all__ = ["plot_confusion"]

#: Classes up to which each field has its number, and each row its name.
_WITH_NUMBERS, _WITH_NAMES = 20, 60


def plot_confusion(evaluation: Evaluation, path: Path, *, title: str = "") -> None:
    """Draw how many images of each class (rows) are named as each class (columns); the darker, the larger the share of the row.

    Parameters
    ----------
    path
        A ``.png`` or ``.svg`` file.

    Raises
    ------
    OptionError
        The file cannot be written.
    """
    table = evaluation.confusion
    count = len(table)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    side = min(14.0, 3.0 + 0.42 * count)
    with new_figure(side + 0.8, side) as (figure, axes):
        axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
        axes.grid(visible=False)
        if count <= _WITH_NUMBERS:
            for row, column in np.argwhere(table > 0).tolist():
                colour = "white" if shares[row, column] > 0.5 else INK
                axes.text(column, row, f"{table[row, column]}", ha="center", va="center", color=colour, fontsize=8.5)
        if count <= _WITH_NAMES:
            names = [_short(one.name) for one in evaluation.classes]
            size = 9 if count <= _WITH_NUMBERS else 6
            axes.set_xticks(range(count), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=size)
            axes.set_yticks(range(count), names, fontsize=size)
        axes.set_xlabel("named as")
        axes.set_ylabel("is")
        low, high = evaluation.accuracy_interval
        told = f"{100 * evaluation.accuracy:.1f} % of {evaluation.n} images named rightly (95 %: {100 * low:.1f} to {100 * high:.1f})"
        figure.suptitle(f"{printable(title)}\n{told}" if title else told, x=0.01, ha="left", fontsize=10)
        save_figure(figure, path)


def _short(name: str, most: int = 24) -> str:
    told = " ".join(printable(name).split())
    return told if len(told) <= most else f"{told[: most - 1]}…"
