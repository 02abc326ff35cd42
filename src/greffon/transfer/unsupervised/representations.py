"""What of the frozen part's output the photos are compared by. Nothing here has a field for labels: none can be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from greffon.errors import DataError, OptionError

__all__ = ["LOOKS", "Look", "Unlabelled", "on_axes", "unit_rows"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Unlabelled:
    """Photos as features, and nothing else.

    Parameters
    ----------
    features
        float32 (n, d).

    Raises
    ------
    DataError
        It is no table of finite numbers.
    """

    features: np.ndarray

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or not len(self.features) or not self.features.shape[1]:
            raise DataError(f"features must be (n, d) of one photo or more, got {self.features.shape}")
        if not np.isfinite(self.features).all():
            raise DataError("features must be finite numbers")

    def __len__(self) -> int:
        return len(self.features)

    def take(self, positions: np.ndarray) -> Unlabelled:
        """The photos at these positions, int64 (k,)."""
        return Unlabelled(self.features[positions])


@final
@dataclass(frozen=True, slots=True)
class Look:
    """One way to look at the stages' pooled outputs.

    Parameters
    ----------
    stage
        Counted from the top: 1 is the last.
    pool
        Over height and width: the mean, the maximum, or both beside each other, each at its own length 1.
    norm
        ``"l2"``: every photo's vector to length 1. ``"sqrt-l2"``: its signed square root first (Arandjelović and Zisserman 2012).
    axes
        So many principal axes are kept, at most; 0: all.
    whiten
        Whether every axis is given the same variance (Jégou and Chum 2012, ECCV).
    """

    stage: int = 1
    pool: Literal["mean", "max", "mean+max"] = "mean"
    norm: Literal["l2", "sqrt-l2"] = "sqrt-l2"
    axes: int = 128
    whiten: bool = False

    def __post_init__(self) -> None:
        if self.stage < 1 or self.axes < 0:
            raise OptionError(f"Look: stage must be 1 or more and axes 0 or more, got {self.stage} and {self.axes}")
        if self.pool not in ("mean", "max", "mean+max") or self.norm not in ("l2", "sqrt-l2"):
            raise OptionError(f"Look: unknown {self.pool!r} or {self.norm!r}")

    def __str__(self) -> str:
        where = "the last stage" if self.stage == 1 else f"stage {self.stage} from the top"
        return f"{self.pool} of {where}, {self.norm}" + (", whitened" if self.whiten else "")

    def columns(self, widths: Sequence[int]) -> tuple[slice, ...]:
        """Where its values lie in a pooled record, float32 (sum of 2 c). Raises OptionError where there is no such stage."""
        if self.stage > len(widths):
            raise OptionError(f"Look: stage {self.stage} from the top of {len(widths)} does not exist")
        place = len(widths) - self.stage
        start, width = 2 * sum(widths[:place]), widths[place]
        both = {"mean": slice(start, start + width), "max": slice(start + width, start + 2 * width)}
        return tuple(part for name, part in both.items() if name in self.pool)

    def of(self, pooled: np.ndarray, widths: Sequence[int]) -> Unlabelled:
        """The features out of pooled records, float32 (n, sum of 2 c): float32 (n, d), centred, on their principal axes."""
        parts = []
        for part in self.columns(widths):
            x = pooled[:, part].astype(np.float32)
            parts.append(unit_rows(np.sign(x) * np.sqrt(np.abs(x)) if self.norm == "sqrt-l2" else x))
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, 1) / np.float32(np.sqrt(len(parts)))
        return Unlabelled(on_axes(joined, self.axes, whiten=self.whiten))


#: What is looked at, one after the other. Clusterings err differently on each, and what they agree on is kept.
LOOKS = (
    Look(pool="mean"),
    Look(pool="max"),
    Look(pool="mean+max"),
)


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Every row of float32 (n, d) to length 1; rows of nothing but 0 stay."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.float32(1e-12))


def on_axes(x: np.ndarray, axes: int = 0, *, whiten: bool = False) -> np.ndarray:
    """Rows about their mean, on the principal axes that have the most variance.

    Distances stay as they are but for the axes that are left out, so that all that follows is quicker and sees less noise.

    Parameters
    ----------
    x
        float32 (n, d).
    axes
        So many at most; 0: all in which anything but rounding lies.
    whiten
        Every axis to variance 1.

    Returns
    -------
    float32 (n, r), r at least 1: a column of 0 where nothing varies.
    """
    mean = x.mean(0, dtype=np.float64)
    wide = x.shape[1] > len(x)
    gram = np.zeros((len(x), len(x)) if wide else (x.shape[1], x.shape[1]))
    if wide:
        rows = x - mean
        gram = rows @ rows.T
    else:
        for start in range(0, len(x), 8192):  # by parts: a copy in float64 of all would be large
            rows = x[start : start + 8192] - mean
            gram += rows.T @ rows
    values, vectors = np.linalg.eigh(gram)
    # What a float32 cannot tell from its rounding is no variance.
    floor = max(1e-10 * float(np.trace(gram)), 1e-12 * float(mean @ mean) * len(x), 1e-300)
    kept = np.flatnonzero(values > floor)[::-1][: axes or None]
    if not len(kept):
        return np.zeros((len(x), 1), np.float32)
    lengths, vectors = np.sqrt(values[kept]), vectors[:, kept]
    scale = np.sqrt(len(x)) / lengths if whiten else np.ones(len(kept))
    if wide:
        return _signed(vectors * (lengths * scale)).astype(np.float32)
    turned = x @ (vectors * scale).astype(np.float32)
    return _signed(turned - ((mean @ vectors) * scale).astype(np.float32))


def _signed(found: np.ndarray) -> np.ndarray:
    """The largest value of every column is positive: which of two opposite axes is found depends on the library."""
    place = np.abs(found).argmax(0)
    return found * np.where(found[place, np.arange(found.shape[1])] < 0, -1, 1).astype(found.dtype)
