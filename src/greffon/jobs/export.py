"""``greffon export``: a model folder becomes a file that takes raw photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from greffon.datasets import find_images, read_photos
from greffon.errors import GreffonError
from greffon.exporting import Exported, export_model, ready_to_export
from greffon.model import Model, load_model
from greffon.progress import Progress, Silent

__all__ = ["export"]


def export(
    model: Path | str,
    *,
    out: Path | str,
    to: str = "onnx",
    precision: str = "float32",
    check: Sequence[str | Path] = (),
    calibrate: Sequence[str | Path] = (),
    maps: bool = True,
    examples: bool = True,
    tolerance: float = 0.0,
    progress: Progress | None = None,
) -> Exported:
    """Export a model folder, and compare the file with the model on photos.

    Parameters
    ----------
    model
        A model folder.
    out
        The folder to write: the file, ``export.json`` and ``run.py``.
    to
        ``"onnx"``, ``"openvino"`` or ``"torch"``.
    precision
        ``"float32"``, ``"float16"`` or ``"int8"``.
    check
        Photos to compare on, as for ``predict``; by default those that the model was trained on, where they are still there.
    calibrate
        Photos that the ranges of int8 are taken from; by default half of those of ``check``.
    maps
        Whether class activation maps become an output, where they are exact.
    examples
        Whether what the model remembers of its training photos goes along: its features, and names and thumbnails where it has them.
    tolerance
        The most that a probability may be off; 0: what is usual in the precision.

    Raises
    ------
    ExportError
        The file does not agree with the model; it is removed.
    ModelError, OptionError, DataError, BackboneError
    """
    listener = progress or Silent()
    ready_to_export(to, precision)
    looked, ranges = (find_images(names) if names else [] for names in (check, calibrate))
    loaded = load_model(model)
    if not looked:
        looked = _remembered(loaded)
        if looked:
            listener.say(f"comparing on the photos that the model was trained on: {loaded.data['root']}")
        else:
            listener.warn("no photos of your own are compared; name some with --check")
    return export_model(loaded, Path(out), to=to, precision=precision, check=looked, calibrate=ranges, maps=maps,
                        examples=examples, tolerance=tolerance, progress=listener)  # fmt: skip


def _remembered(model: Model) -> list[Path]:
    """The photos that the training record names, as far as they can still be found."""
    root = model.data.get("root")
    if not isinstance(root, str) or not root:
        return []
    try:
        return list(read_photos(Path(root)).paths)
    except GreffonError:
        return []
