"""What a model's heat maps look like: a picture for each photo, and a page with all of them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from greffon.errors import ImageError
from greffon.explaining import Method, overlaid, scale_colours, shown_levels
from greffon.images import decode, read_bytes, thumbnail
from greffon.report.labels import printable
from greffon.report.look import GREY, INK, new_figure, save_figure
from greffon.report.parts import photo_address, write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ExplainedPhoto", "ExplanationCard", "NearPhoto", "explanation_card", "explanations_page", "plot_explanation"]

#: Pixels of a photo on the page, and in a picture.
_SIDE, _DRAWN = 320, 640


@final
@dataclass(frozen=True, slots=True)
class NearPhoto:
    """A training photo that the network sees as near to the photo: its thumbnail is a JPEG file's bytes, or none."""

    name: str
    label: str
    distance: float
    thumbnail: bytes = b""


@final
@dataclass(frozen=True, slots=True, eq=False)
class ExplainedPhoto:
    """A photo, what the model says of it, and the map of what speaks for a class.

    Parameters
    ----------
    best
        The most probable classes with their probabilities, the best first.
    label, probability
        The class that the map is of.
    picture, heat
        What the network saw, uint8 (h, w, 3), and the map, float32 (h, w).
    box
        Where that lies on the photo: see ``Preprocess.seen_box``.
    nearest
        The nearest first.
    """

    path: Path
    best: tuple[tuple[str, float], ...]
    label: str
    probability: float
    picture: np.ndarray
    heat: np.ndarray
    box: tuple[float, float, float, float]
    nearest: tuple[NearPhoto, ...] = ()

    @property
    def silent(self) -> bool:
        """Whether nothing on the photo speaks for the class."""
        return not shown_levels(self.heat)[1]


@final
@dataclass(frozen=True, slots=True)
class ExplanationCard:
    """A photo on the page: pictures as data addresses, lengths as shares."""

    path: str
    name: str
    best: tuple[tuple[str, float], ...]
    label: str
    probability: float
    photo: str
    heat: str
    box: tuple[float, float, float, float]
    cropped: bool
    silent: bool
    nearest: tuple[tuple[str, str, float, str], ...]  # name, class, distance, picture

    @property
    def shown(self) -> bool:
        """Whether there are pictures of the nearest training photos."""
        return any(picture for *_, picture in self.nearest)


def explanation_card(one: ExplainedPhoto) -> ExplanationCard:
    """What the page keeps of a photo."""
    nearest = tuple((near.name, near.label, near.distance, _address(near.thumbnail)) for near in one.nearest)
    heat = _address(thumbnail(overlaid(one.picture, one.heat), side=_SIDE, quality=85))
    box = one.box
    return ExplanationCard(str(one.path), one.path.name, one.best, one.label, one.probability, photo_address(one.path, side=_SIDE),
                           heat, box, _is_cropped(box), one.silent, nearest)  # fmt: skip


def explanations_page(path: Path, cards: Sequence[ExplanationCard], method: Method, *, lead: str, hidden: int = 0) -> None:
    """Write the page of some photos.

    Parameters
    ----------
    lead
        A sentence or two on the model and its precision.
    hidden
        How many photos are not on the page.

    Raises
    ------
    ModelError
        The file cannot be written.
    """
    colours = ", ".join(f"rgb({r}, {g}, {b})" for r, g, b in scale_colours(12).tolist())
    write_page(path, "explanations.html", {"cards": cards, "method": method, "lead": lead, "hidden": hidden, "colours": colours})


def plot_explanation(one: ExplainedPhoto, method: Method, file: Path) -> None:
    """Draw the photo with what the network saw of it, and the map over that, to ``.png`` or ``.svg``.

    Raises OptionError where the file cannot be written.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    with new_figure(8.6, 4.0) as (figure, first):
        first.remove()
        left, right = figure.subplots(1, 2)
        for axes in (left, right):
            axes.axis("off")
        _draw_photo(left, one)
        right.imshow(overlaid(one.picture, one.heat), interpolation="antialiased")
        taken = "" if one.best[0][0] == one.label else f", taken for {one.best[0][0]} ({100 * one.best[0][1]:.1f} %)"
        figure.suptitle(printable(f"{one.label}: {100 * one.probability:.1f} %{taken}"), x=0.01, ha="left", fontsize=12, weight="bold")
        left.set_title(printable(_short(one.path.name)), loc="left", fontsize=9, color=GREY)
        note = "nothing on the photo speaks for the class" if one.silent else method.title
        right.set_title(note, loc="left", fontsize=9, color=GREY)
        top = shown_levels(one.heat)[1] or 1.0
        scale = ScalarMappable(Normalize(0, top), ListedColormap(scale_colours() / 255))
        bar = figure.colorbar(scale, ax=right, fraction=0.05, pad=0.02)
        bar.set_label(method.unit, fontsize=8.5)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8)
        bar.ax.axhline(top / 2, color=INK, linewidth=1)
        if method.name.startswith("gradcam") or one.silent:
            bar.set_ticks([0, top], labels=["none", "most"])
        save_figure(figure, file)


def _draw_photo(axes: Axes, one: ExplainedPhoto) -> None:
    from matplotlib.patches import Rectangle

    try:
        photo = decode(read_bytes(one.path), reduce_to=_DRAWN)
    except ImageError:  # it has gone since it was read
        axes.text(0.5, 0.5, "no picture", color=GREY, ha="center", va="center", transform=axes.transAxes)
        return
    step = max(1, min(photo.shape[:2]) // _DRAWN)  # a photo that is no JPEG comes in full
    photo = photo[::step, ::step]
    height, width = photo.shape[:2]
    across, down, wide, tall = one.box
    shown = photo.copy()
    if _is_cropped(one.box):
        top, left = round(down * height), round(across * width)
        inside = np.zeros((height, width), bool)
        inside[max(0, top) : top + round(tall * height), max(0, left) : left + round(wide * width)] = True
        shown[~inside] = 255 - (255 - shown[~inside]) // 3
        edges = (across * width, down * height), wide * width, tall * height
        axes.add_patch(Rectangle(*edges, fill=False, edgecolor="white", linewidth=2.6))
        axes.add_patch(Rectangle(*edges, fill=False, edgecolor=INK, linewidth=1.2))
    axes.imshow(shown, interpolation="antialiased")
    axes.set_xlim(-0.5 - 0.01 * width, width * 1.01)
    axes.set_ylim(height * 1.01, -0.5 - 0.01 * height)


def _is_cropped(box: tuple[float, float, float, float]) -> bool:
    return min(box[2:]) < 0.995


def _short(name: str, most: int = 44) -> str:
    return name if len(name) <= most else f"…{name[-most + 1:]}"


def _address(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else ""
