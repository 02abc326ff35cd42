"""The engine: what runs the network of an export, in this process, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import final

import numpy as np

from greffon.errors import ModelError
from greffon.images import Preprocess
from greffon.server.exported import Export
from greffon.server.onnx_graphs import open_onnx
from greffon.server.opened import FEATURES, MAPS, PROBABILITIES, Opened, first_line, outputs_of
from greffon.server.openvino_graphs import open_openvino

__all__ = ["Engine", "Outputs", "make_engine"]

#: How far the file's own resize may be from ``Preprocess``, in levels: one pixel, and the mean. A newer or older Pillow
#: than the one that the file was made beside rounds in another order, by up to six levels in a few pixels.
_ONE_PIXEL, _ALL_PIXELS = 6.5, 0.25


@final
@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What the network gives for n pictures.

    Parameters
    ----------
    probabilities
        float32 (n, c).
    maps
        float32 (n, c, h', w'), or None where they were not asked for.
    features
        float32 (n, d), where the model has training photos to compare them with.
    """

    probabilities: np.ndarray
    maps: np.ndarray | None
    features: np.ndarray | None = None


@final
class Engine:
    """One network, ready to run. ``run`` is called by one thread at a time.

    ``cost``: seconds that a picture took when it was tried; 0 before.
    """

    def __init__(self, opened: Opened, preprocess: Preprocess, outputs: Sequence[str]) -> None:
        self._opened = opened
        self.preprocess = preprocess
        self._outputs = tuple(outputs)
        self.cost = 0.0

    def run(self, pictures: np.ndarray, *, maps: bool = False) -> Outputs:
        """Pictures as ``Preprocess.fit`` gives them, uint8 (n, height, width, 3), to what the network says of them."""
        names = [name for name in self._outputs if maps or name != MAPS]
        found = dict(zip(names, self._opened.network(self.preprocess.normalise(pictures), names), strict=True))
        return Outputs(found[PROBABILITIES], found.get(MAPS), found.get(FEATURES))


def make_engine(export: Export, *, threads: int) -> Engine:
    """The engine of an export, tried once on drawn pictures.

    Raises
    ------
    ModelError
        The graph is not one that may be run, its resize is not that of ``Preprocess``, or it gives what it should not.
    OptionError
        What runs it is not installed.
    """
    opened = (open_openvino if export.format == "openvino" else open_onnx)(export, threads=threads)
    _check_photo(opened, export.preprocess, export.file)
    engine = Engine(opened, export.preprocess, outputs_of(export))
    _check_network(engine, export, export.file)
    return engine


def _drawn(height: int, width: int) -> np.ndarray:
    """A picture with edges and soft shades, uint8 (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    soft = 127.5 + 127.5 * np.sin(x / 9 + y / 14)
    edges = np.where((x // 8 + y // 11) % 2, 235, 20)
    return np.stack([soft, edges, 255 - soft], 2).astype(np.uint8)


def _check_photo(opened: Opened, preprocess: Preprocess, file: Path) -> None:
    """The file's own way from a photo to what the network sees, beside the one that is used here."""
    scale = np.asarray(preprocess.std, np.float64).reshape(1, 3, 1, 1) / (abs(preprocess.scale) or 1)
    for height, width in ((123, 187), (210, 96)):
        photo = _drawn(height, width)
        expected = preprocess.normalise(preprocess.fit(photo)[None])
        try:
            found = opened.photo(photo[None])
        except Exception as error:  # engines raise kinds of their own
            raise ModelError(f"{file}: cannot be run on a photo ({first_line(error)})") from error
        if found.shape != expected.shape:
            raise ModelError(f"{file}: makes {found.shape} of a photo, and export.json says {expected.shape}")
        off = np.abs(found - expected) * scale
        if not (off.max() <= _ONE_PIXEL and off.mean() <= _ALL_PIXELS):
            raise ModelError(f"{file}: its resize and that of export.json differ by {off.max():.1f} levels ({off.mean():.2f} in the mean):"
                             " the files do not belong together")  # fmt: skip


def _check_network(engine: Engine, export: Export, file: Path) -> None:
    pictures = np.stack([export.preprocess.fit(_drawn(height, width)) for height, width in ((64, 80), (90, 70))])
    began = perf_counter()
    try:
        found = engine.run(pictures, maps=True)
    except Exception as error:  # engines raise kinds of their own
        raise ModelError(f"{file}: cannot be run ({first_line(error)})") from error
    engine.cost = (perf_counter() - began) / len(pictures)
    rows, count = found.probabilities, len(export.classes)
    if rows.dtype != np.float32 or rows.shape != (2, count):
        raise ModelError(f"{file}: gives {rows.dtype} {rows.shape} for two photos, and there are {count} classes")
    if not np.isfinite(rows).all() or rows.min() < 0 or np.abs(rows.sum(1) - 1).max() > 1e-3:
        raise ModelError(f"{file}: what it gives are no probabilities")
    if export.remembered is not None:
        wanted, features = (2, export.remembered.known.shape[1]), found.features
        if features is None or features.shape != wanted or features.dtype != np.float32 or not np.isfinite(features).all():
            raise ModelError(f"{file}: gives features that are not float32 {wanted}, as those of the training photos are")
    if found.maps is not None and (found.maps.ndim != 4 or found.maps.shape[:2] != (2, count) or found.maps.shape[2] < 1):
        raise ModelError(f"{file}: its class activation maps have the shape {found.maps.shape}")
