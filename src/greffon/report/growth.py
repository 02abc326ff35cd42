"""Accuracy against the number of training images, and the curve that foretells what more would bring; as PNG or SVG."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from greffon.evaluation import Growth
from greffon.report.look import BLUE, GREY, ORANGE, new_figure, save_figure, set_head

__all__ = ["plot_growth"]


def plot_growth(growth: Growth, path: Path, *, title: str = "") -> None:
    """Draw the points with their intervals of 95 %, and the curve through them up to twice as many images as there are.

    Parameters
    ----------
    path
        A ``.png`` or ``.svg`` file.

    Raises
    ------
    OptionError
        The file cannot be written.
    """
    with new_figure(6.4, 4.4) as (figure, axes):
        sizes, shares = [one.images for one in growth.points], [100 * one.accuracy for one in growth.points]
        ends = [[100 * max(0.0, one.accuracy - one.interval[0]) for one in growth.points],
                [100 * max(0.0, one.interval[1] - one.accuracy) for one in growth.points]]  # fmt: skip
        axes.errorbar(sizes, shares, yerr=ends, fmt="o", color=BLUE, markersize=5, elinewidth=1.2, capsize=3,
                      label="measured, 95 % interval")  # fmt: skip
        most, law = 2 * growth.images, growth.law
        if law is not None:
            seen, ahead = np.geomspace(sizes[0], growth.images, 80), np.geomspace(growth.images, most, 40)
            axes.plot(seen, [100 * (1 - law.error(n)) for n in seen], "-", color=ORANGE, linewidth=1.5, label="power law")
            axes.plot(ahead, [100 * (1 - law.error(n)) for n in ahead], "--", color=ORANGE, linewidth=1.5, label="foretold")
        axes.axvline(growth.images, color=GREY, linestyle=":", linewidth=1.2)
        axes.set_xscale("log")
        ticks = [*sizes[-1::-2][::-1], most]
        axes.set_xticks(ticks, [f"{size:,}" for size in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(f"training images; dotted: the {growth.images:,} that there are")
        axes.set_ylabel("named rightly (%)")
        set_head(figure, axes, title)
        save_figure(figure, path)
