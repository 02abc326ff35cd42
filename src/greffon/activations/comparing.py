"""How near a cheap engine comes to float32, on a sample of the user's own images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.activations.engines import Engine, TorchEngine, run_filled
from greffon.backbones import Backbone

__all__ = [
    "Comparison",
    "Fidelity",
    "as_float",
    "class_means_right",
    "compared",
    "fidelity",
    "paired_interval",
]


@final
@dataclass(frozen=True, slots=True)
class Fidelity:
    """How near a cheap engine comes to float32 on a sample of the user's own images."""

    precision: str
    images: int
    cosine_mean: float
    cosine_lowest: float

    def __str__(self) -> str:
        cosines = f"cosine {self.cosine_mean:.5f}, lowest {self.cosine_lowest:.5f}"
        return f"{self.precision} against float32 on {self.images} of these images: {cosines}"

    def to_dict(self) -> dict[str, float | int | str]:
        return {name: getattr(self, name) for name in self.__slots__}


@final
@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two engines on the same n images.

    Parameters
    ----------
    cosines
        float64 (n,): of the last stage's pooled outputs, or of whole maps.
    found, exact
        float32 (n, d): what a quick classifier can read, from either engine: the last stage's pooled outputs, or the
        means of a map's channels.
    """

    cosines: np.ndarray
    found: np.ndarray
    exact: np.ndarray

    def fidelity(self, precision: str) -> Fidelity:
        """In one line. Needs one image or more."""
        return Fidelity(precision, len(self.cosines), float(self.cosines.mean()), float(self.cosines.min()))


def fidelity(backbone: Backbone, engine: Engine, sample: np.ndarray) -> Fidelity:
    """Compare an engine with float32 on uint8 (n, h, w, 3): cosines of the outputs, image by image, last stage only."""
    exact = TorchEngine(backbone, engine.tap, "float32", "cpu")
    return compared(backbone, engine, exact, sample).fidelity(engine.precision)


def compared(backbone: Backbone, engine: Engine, exact: Engine, images: np.ndarray) -> Comparison:
    """Run both engines on uint8 (n, h, w, 3), a few images at a time: maps at a low cut are large."""
    last = 2 * backbone.widths()[-1]
    some = max(engine.batch, exact.batch)
    cosines, features = [], []
    for start in range(0, len(images), some):
        part = images[start : start + some]
        a, b = (as_float(run_filled(one, part)) for one in (engine, exact))
        if engine.tap.kind == "pooled":
            a, b = a[:, -last:], b[:, -last:]
        cosines.append(_cosines(*(one.reshape(len(part), -1).astype(np.float64) for one in (a, b))))
        features.append([one if one.ndim == 2 else one.mean((2, 3)) for one in (a, b)])
    found, wanted = (np.concatenate(one) for one in zip(*features, strict=True))
    return Comparison(np.concatenate(cosines), found, wanted)


def as_float(values: np.ndarray) -> np.ndarray:
    """Records as they are kept to float32; ``uint16`` are the bits of bfloat16, the upper half of a float32."""
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row; 1 where both are nothing but zeros, 0 where one is, or where a value is not finite."""
    finite = np.asarray(np.isfinite(np.concatenate([a, b], 1)).all(axis=1, keepdims=True))
    a, b = np.where(finite, a, 0), np.where(finite, b, 0)
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = lengths[0] * lengths[1]
    cosine = np.divide((a * b).sum(1), product, out=np.zeros(len(a)), where=product > 0)
    return np.where(finite[:, 0] & (lengths[0] == 0) & (lengths[1] == 0), 1.0, cosine)


def class_means_right(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the nearest class mean is that of an image's own class, the image left out of it: bool (m,).

    A classifier that has nothing to tune, for a quick look at what a change of the features costs. Nearness is the cosine.

    Parameters
    ----------
    features
        float32 (n, d).
    labels
        int64 (n,); -1 where it is not known. Only images of classes that have two or more are judged: m of the n.
    """
    known, number, counts = np.unique(labels, return_inverse=True, return_counts=True)
    judged = (labels >= 0) & (counts[number] >= 2)
    if len(known[(known >= 0) & (counts >= 2)]) < 2:
        return np.zeros(0, bool)
    x = features[judged].astype(np.float64)
    x = np.where(np.isfinite(x), x, 0)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    classes, y = np.unique(labels[judged], return_inverse=True)
    sums = np.stack([x[y == c].sum(0) for c in range(len(classes))])
    cosines = x @ sums.T / np.linalg.norm(sums, axis=1).clip(1e-12)
    own = sums[y] - x
    cosines[np.arange(len(y)), y] = (x * own).sum(1) / np.linalg.norm(own, axis=1).clip(1e-12)
    return cosines.argmax(1) == y


def paired_interval(found: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the difference of two accuracies on the same images, ``found`` minus ``exact``, bool (n,) each.

    After Agresti and Min (2005), Statistics in Medicine 24, 729-740: half an observation more in each cell of the table.
    """
    n = len(found) + 2
    more, fewer = float((found & ~exact).sum()) + 0.5, float((~found & exact).sum()) + 0.5
    middle = (more - fewer) / n
    half = 1.959964 * math.sqrt(more + fewer - (more - fewer) ** 2 / n) / n
    return max(-1.0, middle - half), min(1.0, middle + half)
