"""One look for all pictures; the same result gives the same file.

Matplotlib is imported where something is drawn, and used without pyplot: no window, no state of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from greffon.errors import OptionError
from greffon.report.labels import printable
from greffon.whole import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "GREEN", "GREY", "INK", "ORANGE", "PALE", "new_figure", "save_figure", "set_head"]

#: Okabe and Ito (2008): colours that colour-blind people tell apart. What differs in colour differs in form, too.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, GREY, PALE = "#222222", "#767676", "#EAF2F8"

#: What differs from matplotlib's own look. The text of an SVG becomes outlines, so that it looks the same everywhere.
_LOOK = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold dollars
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.dpi": 150,
    "figure.dpi": 150,
    "svg.fonttype": "path",
    "svg.hashsalt": "greffon",
}


def set_head(figure: Figure, axes: Axes, title: str) -> None:
    """The title, and under it the legend in one row, above the axes: there it covers nothing."""
    if title:
        figure.suptitle(printable(title), x=0.01, ha="left", fontsize=11.5)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.005), ncols=3, frameon=False, fontsize=8.5, borderaxespad=0.2,
                handletextpad=0.5, columnspacing=1.6)  # fmt: skip


@contextmanager
def new_figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure in inches with one pair of axes, in the look of the house; to be saved before the context ends."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # From matplotlib's defaults, not from the user's own file: the same picture everywhere.
    # A sign that the font lacks is drawn as a box; that need not be said.
    with style.context(["default", _LOOK]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.add_subplot()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's ending, whole or not at all.

    Raises OptionError where the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise OptionError(f"{path}: a picture is written as .png or .svg")
    # Neither the date nor matplotlib's version: the same result gives the same file.
    unsaid = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    try:
        with whole_file(path) as part:
            figure.savefig(part, format=kind, metadata=unsaid)
    except OSError as error:
        raise OptionError(f"{path}: cannot be written ({error.strerror or error})") from error
