"""Whether a model is as often right as it says: the reliability diagram, as PNG or SVG."""

from __future__ import annotations

from pathlib import Path

from greffon.evaluation import Evaluation
from greffon.report.look import BLUE, GREY, new_figure, save_figure, set_head

__all__ = ["plot_reliability"]


def plot_reliability(evaluation: Evaluation, path: Path, *, title: str = "") -> None:
    """Draw how often images are named rightly against how sure the model is of them, with intervals of 95 %.

    Parameters
    ----------
    path
        A ``.png`` or ``.svg`` file.

    Raises
    ------
    OptionError
        The file cannot be written.
    """
    with new_figure(5.0, 4.6) as (figure, axes):
        axes.plot([0, 100], [0, 100], "--", color=GREY, linewidth=1.2, label="as sure as right")
        bins = evaluation.reliability
        sure, right = [100 * b.confidence for b in bins], [100 * b.accuracy for b in bins]
        ends = [[100 * max(0.0, b.accuracy - b.interval[0]) for b in bins], [100 * max(0.0, b.interval[1] - b.accuracy) for b in bins]]
        axes.errorbar(sure, right, yerr=ends, fmt="none", ecolor=BLUE, elinewidth=1.2, capsize=2, alpha=0.7)
        most = max((b.count for b in bins), default=1)
        axes.scatter(sure, right, s=[18 + 160 * b.count / most for b in bins], color=BLUE, label=f"{evaluation.n} images, larger: more")
        axes.set_xlim(0, 102)
        axes.set_ylim(-2, 102)
        axes.set_xlabel("how sure the model is (%)")
        axes.set_ylabel("named rightly (%)")
        set_head(figure, axes, title)
        save_figure(figure, path)
