"""The engine: what runs the network of an export. ONNX Runtime, in this process, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.errors import ModelError
from greffon.images import Preprocess
from greffon.server.exported import GRAPH, Export
from greffon.server.graphs import MAPS, PHOTO, PIXELS, PROBABILITIES, halves

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
    """

    probabilities: np.ndarray
    maps: np.ndarray | None


@final
class Engine:
    """One network, ready to run. ``run`` is called by one thread at a time."""

    def __init__(self, session: Any, preprocess: Preprocess, *, has_maps: bool) -> None:
        self._session = session
        self.preprocess = preprocess
        self.has_maps = has_maps

    def run(self, pictures: np.ndarray, *, maps: bool = False) -> Outputs:
        """Pictures as ``Preprocess.fit`` gives them, uint8 (n, height, width, 3), to what the network says of them."""
        pixels = self.preprocess.normalise(pictures)
        names = [PROBABILITIES, MAPS] if maps and self.has_maps else [PROBABILITIES]
        found = self._session.run(names, {PIXELS: pixels})
        return Outputs(found[0], found[1] if len(found) > 1 else None)


def make_engine(export: Export, *, threads: int) -> Engine:
    """The engine of an export, tried once on drawn pictures.

    Raises
    ------
    ModelError
        The graph is not one that may be run, cannot be run, or gives what it should not.
    """
    parts = halves(export)
    file = export.folder / GRAPH
    _check_photo(_session(parts.photo, file, 1), export.preprocess, file)
    engine = Engine(_session(parts.network, file, threads), export.preprocess, has_maps=export.maps)
    _check_network(engine, export, file)
    return engine


def _session(content: bytes, file: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait do so asleep: the processor is needed for the next photos.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises kinds of its own
        raise ModelError(f"{file}: ONNX Runtime cannot load it ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]


def _drawn(height: int, width: int) -> np.ndarray:
    """A picture with edges and soft shades, uint8 (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    soft = 127.5 + 127.5 * np.sin(x / 9 + y / 14)
    edges = np.where((x // 8 + y // 11) % 2, 235, 20)
    return np.stack([soft, edges, 255 - soft], 2).astype(np.uint8)


def _check_photo(session: Any, preprocess: Preprocess, file: Path) -> None:
    """The file's own way from a photo to what the network sees, beside the one that is used here."""
    scale = np.asarray(preprocess.std, np.float64).reshape(1, 3, 1, 1) / (abs(preprocess.scale) or 1)
    for height, width in ((123, 187), (210, 96)):
        photo = _drawn(height, width)
        expected = preprocess.normalise(preprocess.fit(photo)[None])
        try:
            found = session.run([PIXELS], {PHOTO: photo[None]})[0]
        except Exception as error:  # as above
            raise ModelError(f"{file}: cannot be run on a photo ({_first_line(error)})") from error
        if found.shape != expected.shape:
            raise ModelError(f"{file}: makes {found.shape} of a photo, and export.json says {expected.shape}")
        off = np.abs(found - expected) * scale
        if not (off.max() <= _ONE_PIXEL and off.mean() <= _ALL_PIXELS):
            raise ModelError(f"{file}: its resize and that of export.json differ by {off.max():.1f} levels ({off.mean():.2f} in the mean):"
                             " the files do not belong together")  # fmt: skip


def _check_network(engine: Engine, export: Export, file: Path) -> None:
    pictures = np.stack([export.preprocess.fit(_drawn(height, width)) for height, width in ((64, 80), (90, 70))])
    try:
        found = engine.run(pictures, maps=True)
    except Exception as error:  # as above
        raise ModelError(f"{file}: cannot be run ({_first_line(error)})") from error
    rows, count = found.probabilities, len(export.classes)
    if rows.dtype != np.float32 or rows.shape != (2, count):
        raise ModelError(f"{file}: gives {rows.dtype} {rows.shape} for two photos, and there are {count} classes")
    if not np.isfinite(rows).all() or rows.min() < 0 or np.abs(rows.sum(1) - 1).max() > 1e-3:
        raise ModelError(f"{file}: what it gives are no probabilities")
    if found.maps is not None and (found.maps.ndim != 4 or found.maps.shape[:2] != (2, count) or found.maps.shape[2] < 1):
        raise ModelError(f"{file}: its class activation maps have the shape {found.maps.shape}")
