"""Pictures of results, as PNG or SVG files. Matplotlib is imported where something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from greffon.errors import OptionError
from greffon.report.labels import label_points
from greffon.report.look import BLUE, GREEN, GREY, ORANGE, PALE, new_figure, save_figure, set_head
from greffon.training import EpochRow, RateCurve
from greffon.transfer.inductive import BackboneFigures, Depth, DepthFigures, Search, SearchTrial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["learning_curves", "plot_comparison", "plot_depths", "plot_search", "rate_finder"]

def learning_curves(history: Sequence[EpochRow], path: Path, *, title: str = "") -> None:
    """Draw the loss of every epoch, and what the validation images say after it. The epoch that was kept is marked.

    Parameters
    ----------
    history
        From epoch 0, which is before the first.
    path
        A ``.png`` or ``.svg`` file.

    Raises
    ------
    OptionError
        The file cannot be written.
    """
    with new_figure(7.0, 4.2) as (figure, axes):
        trained = [row for row in history if row.loss is not None]
        losses = [row.loss or 0.0 for row in trained]
        axes.plot([row.epoch for row in trained], losses, "s-", color=BLUE, markersize=4, label="training loss")
        seen = [
            (row.epoch, row.log_loss, row.accuracy)
            for row in history
            if row.log_loss is not None and row.accuracy is not None
        ]
        epochs = [epoch for epoch, _, _ in seen]
        if seen:
            loss = [loss for _, loss, _ in seen]
            axes.plot(epochs, loss, "o-", color=ORANGE, markersize=4, label="validation log-loss")
            best = min(seen, key=lambda one: one[1])
            axes.axvline(best[0], color=GREY, linestyle="--", linewidth=1.2, label=f"kept: epoch {best[0]}")
            right = axes.twinx()
            right.spines["right"].set_visible(True)
            right.grid(visible=False)
            shares = [100 * share for _, _, share in seen]
            right.plot(epochs, shares, "D:", color=GREEN, markersize=4, label="validation accuracy")
            right.set_ylabel("validation accuracy (%)", color=GREEN)
            axes.plot([], [], "D:", color=GREEN, markersize=4, label="validation accuracy")
        axes.set_ylim(bottom=0)
        axes.set_xticks([row.epoch for row in history][:: 1 + len(history) // 12])
        axes.set_xlabel("epoch")
        axes.set_ylabel("nats")
        set_head(figure, axes, title)
        save_figure(figure, path)


def rate_finder(curve: RateCurve, path: Path, *, title: str = "") -> None:
    """Draw the loss against the learning rate of a range test, and the rate that it suggests.

    Raises OptionError where the file cannot be written.
    """
    with new_figure(7.0, 4.2) as (figure, axes):
        axes.plot(curve.rates, curve.losses, color=BLUE, linewidth=1.5)
        axes.axvline(curve.suggestion, color=ORANGE, linestyle="--", linewidth=1.5, label=f"suggested: {curve.suggestion:.2g}")
        axes.set_xscale("log")
        axes.set_xlabel("learning rate of the topmost stage")
        axes.set_ylabel("loss, smoothed (nats)")
        set_head(figure, axes, title)
        save_figure(figure, path)


def plot_depths(figures: DepthFigures, path: Path, *, title: str = "") -> None:
    """Draw the accuracy of every stage with its interval, and the suggested cut.

    Parameters
    ----------
    path
        A ``.png`` or ``.svg`` file.
    title
        What was measured; by default that is not said.

    Raises
    ------
    OptionError
        The file cannot be written.
    """
    stages, joined, suggestion = figures.stages, figures.together, figures.suggestion
    names = [one.stage for one in stages]
    end = len(names)
    cut = names.index(suggestion.cut) if suggestion.cut in names else end
    trained = f"retrain from {suggestion.cut}" if suggestion.cut in names else "none, the head alone"
    with new_figure(1.6 + 0.8 * max(7, end + 1), 4.6) as (figure, axes):
        axes.axvspan(cut - 0.5, end - 0.5, color=PALE, zorder=0, linewidth=0)
        axes.axvline(cut - 0.5, color=ORANGE, linestyle="--", linewidth=1.5, zorder=1, label=f"suggested cut: {trained}")
        shares = [100 * one.accuracy for one in (*stages, joined)]
        axes.plot(range(end), shares[:end], color=BLUE, linewidth=1.5, zorder=2)
        _interval_bars(axes, range(end), stages, BLUE, "o")
        _interval_bars(axes, [end], [joined], GREEN, "D")
        best = names.index(figures.best)
        axes.plot(best, shares[best], "o", markersize=13, markerfacecolor="none", markeredgecolor=BLUE, zorder=4,
                  linestyle="none", label="best stage")  # fmt: skip
        chance = 100 * figures.largest_class
        axes.axhline(chance, color=GREY, linestyle=":", linewidth=1.4, zorder=1, label="largest class")
        for place, one in enumerate((*stages, joined)):
            axes.annotate(f"{shares[place]:.1f}", (place, 100 * one.interval[1]), (0, 5), textcoords="offset points",
                          ha="center", fontsize=9)  # fmt: skip
        many = end > 6
        axes.set_xlim(-0.5, end + 0.5)
        axes.set_xticks(range(end + 1), [*names, joined.stage], rotation=30 if many else 0, ha="right" if many else "center",
                        rotation_mode="anchor")  # fmt: skip
        axes.grid(axis="x", visible=False)
        _fit_percent(axes, [chance, *(100 * one for depth in (*stages, joined) for one in depth.interval)])
        axes.set_xlabel("stage whose pooled output is read, from the image upwards")
        axes.set_ylabel(f"accuracy in {figures.folds} folds (%)")
        set_head(figure, axes, title)
        save_figure(figure, path)


def plot_comparison(rows: Sequence[BackboneFigures], path: Path, *, title: str = "") -> None:
    """Draw accuracy with its interval against the seconds that 1,000 images take, and the Pareto front.

    Parameters
    ----------
    rows
        One or more, as ``side_by_side`` gives them.
    path
        A ``.png`` or ``.svg`` file.
    title
        What was measured; by default that is not said.

    Raises
    ------
    OptionError
        No rows, or a file that cannot be written.
    """
    if not rows:
        raise OptionError("plot_comparison: needs one backbone or more, got none")
    with new_figure(7.8, 5.2) as (figure, axes):
        axes.set_xscale("log")
        seconds = [one.cost.seconds_per_1000 for one in rows]
        front = sorted((one.cost.seconds_per_1000, 100 * one.accuracy) for one in rows if one.on_front)
        axes.plot(*zip(*front, strict=True), color=BLUE, linewidth=1.2, linestyle="--", zorder=1)
        for some, colour, marker, label in (
            ([one for one in rows if one.on_front], BLUE, "o", "on the Pareto front"),
            ([one for one in rows if not one.on_front], ORANGE, "s", "another is quicker and no worse"),
        ):
            _interval_bars(axes, [one.cost.seconds_per_1000 for one in some], some, colour, marker, label)
        axes.set_xlim(min(seconds) / 1.7, max(seconds) * 1.7)
        _fit_percent(axes, [100 * one for row in rows for one in row.interval])
        _plain_log_ticks(axes)
        axes.set_xlabel("seconds per 1,000 images, frozen pass from files (logarithmic)")
        axes.set_ylabel("accuracy out of fold (%)")
        set_head(figure, axes, title)
        label_points(figure, axes, rows, front)
        save_figure(figure, path)


def plot_search(found: Search, path: Path, *, title: str = "", most: int = 3) -> None:
    """Draw the validation log-loss of every trial of a search against the values that mattered most.

    Parameters
    ----------
    path
        A ``.png`` or ``.svg`` file.
    most
        How many values; where it is not known what mattered, the first ones of the search.

    Raises
    ------
    OptionError
        The file cannot be written.
    """
    names = list(found.importances)[:most] or list(found.best.values)[:most]
    kinds = (
        ([one for one in found.trials if one.ended == "finished"], BLUE, "o", "finished"),
        ([one for one in found.trials if one.ended != "finished"], GREY, "x", "given up early"),
        ([found.trials[0]], GREEN, "D", "the default"),
        ([found.best], ORANGE, "*", "taken"),
    )
    losses = [one.log_loss for one in found.trials]
    low, high = min(losses), max(losses)
    with new_figure(2.0 + 2.9 * len(names), 4.2) as (figure, first):
        first.remove()
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            words = sorted({str(one.values[name]) for one in found.trials}) if isinstance(found.best.values[name], str) else []
            for some, colour, marker, label in (kind for kind in kinds if kind[0]):
                axes.plot(_places(some, name, words), [one.log_loss for one in some], marker, color=colour, linestyle="none",
                          markersize=13 if marker == "*" else 6, label=label, zorder=3)  # fmt: skip
            share = found.importances.get(name)
            axes.set_xlabel(name.replace("_", " ") + (f" ({100 * share:.0f} % of the variance)" if share is not None else ""))
            if words:
                axes.set_xticks(range(len(words)), words)
                axes.set_xlim(-0.5, len(words) - 0.5)
            elif name in ("learning_rate", "head_learning_rate", "weight_decay") and min(_places(found.trials, name, words)) > 0:
                axes.set_xscale("log")
                _plain_log_ticks(axes, every=(1,))
            elif len(set(_places(found.trials, name, words))) <= 4:
                axes.set_xticks(sorted(set(_places(found.trials, name, words))))
                axes.xaxis.set_major_formatter("{x:g}")
        panels[0].set_ylim(max(0.0, low - 0.08 * (high - low or 1)), high + 0.08 * (high - low or 1))
        panels[0].set_ylabel("validation log-loss, best epoch (nats)")
        set_head(figure, panels[0], title)
        save_figure(figure, path)


def _places(trials: Sequence[SearchTrial], name: str, words: Sequence[str]) -> list[float]:
    """Where trials stand on the axis of a value: words in their order."""
    return [float(words.index(str(one.values[name])) if words else one.values[name]) for one in trials]


def _plain_log_ticks(axes: Axes, every: Sequence[int] = (1, 2, 5)) -> None:
    """Ticks at 1, 2 and 5 times the powers of ten, as plain numbers; over a wide range at the powers alone."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(10, subs=every if high / low < 300 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _interval_bars(
    axes: Axes, places: Sequence[float], rows: Sequence[Depth] | Sequence[BackboneFigures], colour: str, marker: str, label: str = ""
) -> None:
    """Points of accuracy in percent, with their intervals."""
    if not rows:
        return
    shares = [100 * one.accuracy for one in rows]
    below = [max(100 * (one.accuracy - one.interval[0]), 0) for one in rows]
    above = [max(100 * (one.interval[1] - one.accuracy), 0) for one in rows]
    axes.errorbar(places, shares, yerr=[below, above], fmt=marker, color=colour, markersize=6.5, elinewidth=1.3, capsize=3.5, zorder=3)
    if label:
        axes.plot([], [], marker, color=colour, markersize=6.5, label=label)


def _fit_percent(axes: Axes, values: Sequence[float]) -> None:
    """Limits of the axis of per cent: all of the values and some room; ticks within 0 and 100 alone."""
    span = max(max(values) - min(values), 5.0)
    low, high = min(values) - 0.06 * span, max(values) + 0.1 * span
    axes.set_ylim(low, high)
    axes.set_yticks([tick for tick in axes.get_yticks() if max(low, 0) <= tick <= min(high, 100)])
    axes.set_ylim(low, high)
