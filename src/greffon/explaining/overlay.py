"""Maps as colours over a photo."""

from __future__ import annotations

import numpy as np

__all__ = ["overlaid", "peak_of", "scale_colours", "shown_levels"]

#: Matplotlib's plasma: its lightness rises evenly, also for colour-blind people and in grey print.
_COLOURS = "plasma"
#: How much of the photo the strongest colour covers, and how dark the grey photo below it is.
_COVER, _DIM = 0.75, 0.8


def shown_levels(heat: np.ndarray) -> tuple[np.ndarray, float]:
    """A map, float32 (h, w), to what is shown of it, float64 (h, w) from 0 to 1, and the value that 1 stands for.

    Only what speaks for the class, above zero, smoothed over a fiftieth of the shorter side, and the strongest half percent
    as one. Where nothing speaks for the class all is 0, and so is the value.
    """
    smooth = _smooth(heat)
    top = float(np.quantile(smooth, 0.995))
    return (np.minimum(smooth / top, 1), top) if top > 0 else (np.zeros(heat.shape), 0.0)


def overlaid(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The photo in grey with the map in colour over it, and a line around what has half of the most or more.

    Parameters
    ----------
    picture
        uint8 (h, w, 3).
    heat
        float32 (h, w). What speaks against the class, below zero, has no colour.

    Returns
    -------
    uint8 (h, w, 3).
    """
    levels, _ = shown_levels(heat)
    mixed = _mixed(picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114]), levels)
    around, within = _outline(levels >= 0.5)
    mixed[around], mixed[within] = 0, 255
    return mixed


def peak_of(heat: np.ndarray) -> tuple[float, float] | None:
    """Where the most stands, as shares of width and height from the left and the top; None where nothing speaks for the class."""
    smooth = _smooth(heat)
    if not smooth.max() > 0:
        return None
    row, column = np.unravel_index(int(smooth.argmax()), smooth.shape)
    return (float(column) + 0.5) / heat.shape[1], (float(row) + 0.5) / heat.shape[0]


def scale_colours(steps: int = 256) -> np.ndarray:
    """What levels from 0 to 1 look like over a photo of middle grey, uint8 (steps, 3)."""
    return _mixed(np.full(steps, 128.0), np.linspace(0, 1, steps))


def _smooth(heat: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(np.maximum(np.nan_to_num(heat.astype(np.float64)), 0), min(heat.shape) / 50, mode="nearest")


def _mixed(grey: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Greys from 0 to 255 (...) under the colours of levels (...), uint8 (..., 3)."""
    from matplotlib import colormaps

    colours = colormaps[_COLOURS](levels)[..., :3] * 255
    cover = (_COVER * np.sqrt(levels))[..., None]
    return (grey[..., None] * _DIM * (1 - cover) + colours * cover).round().astype(np.uint8)


def _outline(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels just around a region, and the last ones within, bool (h, w) each: seen on dark and on bright."""
    from scipy.ndimage import binary_dilation, binary_erosion

    if not inside.any():
        return inside, inside
    wide, narrow = (np.asarray(one, bool) for one in (binary_dilation(inside), binary_erosion(inside, border_value=1)))
    return wide & ~inside, inside & ~narrow
