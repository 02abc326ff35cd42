"""``export_model``: a model becomes a file that takes the photo as it is, and is not let out before it agrees with its model."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import has_openvino
from greffon.errors import ExportError, ImageError, OptionError
from greffon.exporting.calibrating import largest_activation
from greffon.exporting.card import properties, tool_versions
from greffon.exporting.files import FORMATS, ONNX_SETTINGS, OPENVINO_SETTINGS, Format, open_file, runner_text
from greffon.exporting.graph import has_exporter
from greffon.exporting.parity import TOLERANCES, Parity, check_parity, sample_photos
from greffon.exporting.photo import OPSET, can_be_exported
from greffon.exporting.remembered import EXAMPLES_FILE, examples_told, write_examples_file
from greffon.exporting.writing import Wish, write_file
from greffon.images import read_bytes
from greffon.model import Model, write_json
from greffon.model.modules import has_maps
from greffon.progress import Progress, Silent
from greffon.report import check_folder_is_free

__all__ = ["EXPORT_FILE", "RUNNER_FILE", "Exported", "export_model", "format_of", "ready_to_export"]

EXPORT_FILE, RUNNER_FILE = "export.json", "run.py"

#: How many photos the ranges of int8 are taken from, and how many are compared, at most.
_CALIBRATE, _COMPARE = 64, 256
#: How many are looked at for numbers that float16 cannot hold, and what it can.
_FOR_FLOAT16, _FLOAT16 = 16, 65504.0


@final
@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Parameters
    ----------
    folder
        It holds ``files``, the first of which is the model.
    bytes
        Of the network's files.
    parity
        How far the file is from the model.
    beside_predict
        The same against what ``predict`` does by itself, where that is not float32; None elsewhere.
    maps
        Whether class activation maps are an output.
    """

    folder: Path
    format: str
    precision: str
    files: tuple[str, ...]
    bytes: int
    parity: Parity
    beside_predict: Parity | None
    maps: bool

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "folder": str(self.folder),
            "format": self.format,
            "precision": self.precision,
            "files": list(self.files),
            "bytes": self.bytes,
            "maps": self.maps,
            "parity": self.parity.to_dict(),
            "beside_predict": self.beside_predict.to_dict() if self.beside_predict else None,
        }


def format_of(name: str, precision: str) -> Format:
    """The format of a name. Raises OptionError where there is none, or it has no such precision."""
    chosen = next((one for one in FORMATS if one.name == name), None)
    if chosen is None:
        raise OptionError(f"export: --to must be one of {', '.join(one.name for one in FORMATS)}, got {name!r}")
    if precision not in chosen.precisions:
        raise OptionError(f"export: --precision of {name} must be one of {', '.join(chosen.precisions)}, got {precision!r}")
    return chosen


def ready_to_export(to: str, precision: str = "float32") -> Format:
    """The format of a name, all that writes and runs it being installed. Raises OptionError."""
    form = format_of(to, precision)
    if form.name != "torch":
        has_exporter()
    if form.name == "openvino" and not has_openvino():
        raise OptionError("export: --to openvino needs OpenVINO, which is not installed",
                          hint='Install it: pip install "greffon[cpu,export]".')  # fmt: skip
    return form


def export_model(
    model: Model,
    folder: Path,
    *,
    to: str = "onnx",
    precision: str = "float32",
    check: Sequence[Path] = (),
    calibrate: Sequence[Path] = (),
    maps: bool = True,
    examples: bool = True,
    tolerance: float = 0.0,
    progress: Progress | None = None,
) -> Exported:
    """Write a model as one file that takes photos, compare it with the model, and keep it only if the two agree.

    The folder gets the file, ``export.json``, ``run.py`` and, where the model has examples, a file with these.

    Parameters
    ----------
    to
        The name of one of ``FORMATS``.
    precision
        Of the stages of the network; what stands below and above them is float32 always.
    check
        Photos to compare on; some that are always at hand and drawn ones are looked at as well.
    calibrate
        Photos that the ranges of int8 are taken from, by default every other one of ``check``.
    maps
        Whether class activation maps become an output where they are exact.
    examples
        Whether what the model remembers of its training photos goes along.
    tolerance
        The most that a probability may be off; 0: that of the format in float32, and of ``TOLERANCES`` in others.

    Raises
    ------
    ExportError
        The file does not agree with the model; it is removed.
    OptionError, BackboneError
        It cannot be written.
    """
    listener = progress or Silent()
    form = ready_to_export(to, precision)
    allowed = tolerance or TOLERANCES.get(precision, form.tolerance)
    if not 0 < allowed < 1:
        raise OptionError(f"export: --tolerance must be between 0 and 1, got {tolerance}")
    can_be_exported(model.backbone.preprocess)
    check_folder_is_free(folder, (EXPORT_FILE,))
    if not examples:
        model = replace(model, examples=None, novelty=None)
    carried = precision == "int8" and form.name == "openvino" and model.quantised is not None
    with_maps = maps and has_maps(model) and not carried
    compared, pictures = list(check), np.zeros((0, 1, 1, 3), np.uint8)
    if precision == "int8" and not carried:
        compared, ranges = _shared(check, calibrate)
        pictures = _pictures(model, ranges, listener)
        listener.say(f"taking the ranges of int8 from {len(pictures)} photos")
    if precision == "float16":
        _check_float16(model, compared, listener)
    about = properties(model, maps=with_maps, precision=precision, batches=form.batches)
    listener.say(f"writing {form.file} in {precision}")
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as name:
            part = Path(name)
            write_file(model, form.name, Wish(precision, with_maps, pictures, about), part / form.file)
            parity, beside = _gate(model, form, part / form.file, precision, _some(compared), allowed, listener)
            files = (form.file, *form.beside)
            size = sum((part / one).stat().st_size for one in files)
            if model.examples is not None:
                write_examples_file(model, model.examples, part / EXAMPLES_FILE)
                files, about = (*files, EXAMPLES_FILE), about | examples_told(model, model.examples)
            write_json(part / EXPORT_FILE, {**about, **_record(form, precision, part, files, parity, beside)})
            (part / RUNNER_FILE).write_text(runner_text(form), encoding="utf-8")
            _replace(part, folder, (*files, RUNNER_FILE, EXPORT_FILE))
    except OSError as error:
        raise OptionError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    finally:
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return Exported(folder, form.name, precision, (*files, EXPORT_FILE, RUNNER_FILE), size, parity, beside, with_maps)


def _shared(check: Sequence[Path], calibrate: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The photos to compare on, and those to take ranges from, none of them in both where there are two or more."""
    if calibrate:
        ranges = set(calibrate)
        return [path for path in check if path not in ranges], list(calibrate)
    if not check:
        raise OptionError("export: int8 takes its ranges from photos, and there are none",
                          hint="Name some with --calibrate: 64 of the kind that the model will see.")  # fmt: skip
    return (list(check[1::2]) or list(check)), list(check[::2])


def _some(photos: Sequence[Path], most: int = _COMPARE) -> list[Path]:
    """Evenly spread over all of them, since they come class by class."""
    if len(photos) <= most:
        return list(photos)
    return [photos[i * len(photos) // most] for i in range(most)]


def _pictures(model: Model, photos: Sequence[Path], progress: Progress) -> np.ndarray:
    found = []
    for path in _some(photos, _CALIBRATE):
        try:
            found.append(model.backbone.preprocess.read(read_bytes(path)))
        except ImageError as error:
            progress.warn(f"set aside: {path}: {error.what.removeprefix(f'{path}: ')}")
    if not found:
        raise OptionError("export: none of the photos that were given can be read")
    return np.stack(found)


def _check_float16(model: Model, photos: Sequence[Path], progress: Progress) -> None:
    """A processor that computes in float32 would not notice what overflows on one that computes in float16."""
    pre = model.backbone.preprocess
    pictures = [pre.fit(image) for image in sample_photos().values()]
    if photos:
        pictures += list(_pictures(model, _some(photos, _FOR_FLOAT16), progress))
    largest = largest_activation(model, np.stack(pictures))
    if not largest < _FLOAT16:
        raise OptionError(f"export: the network's numbers reach {largest:,.0f}, and float16 holds {_FLOAT16:,.0f} at most",
                          hint="Choose --precision float32 or int8.")  # fmt: skip
    progress.say(f"the network's numbers reach {largest:,.0f}; float16 holds {_FLOAT16:,.0f}")


def _gate(
    model: Model, form: Format, file: Path, precision: str, photos: Sequence[Path], allowed: float, progress: Progress
) -> tuple[Parity, Parity | None]:
    """Raises ExportError where the file does not agree with the model."""
    run = open_file(form, file)
    own = precision == "int8" and model.quantised is not None and has_openvino()
    parity, beside = check_parity(model, run, photos, allowed, progress, own=own, batches=form.batches, drawn=precision != "int8")
    if not parity.passed:
        others = "".join(f"\n  {one.image}: {one.file} instead of {one.model}" for one in parity.other[:5])
        raise ExportError(
            f"the file in {precision} does not say what the model says, and was removed: {parity}{others}",
            hint=_advice(form.name, precision),
        )  # fmt: skip
    return parity, beside


def _advice(to: str, precision: str) -> str:
    """What to do about a file that the gate has refused."""
    if precision == "float32":
        return "This is a fault of greffon's or of the engine's, unless --tolerance was small."
    if precision == "float16":
        return "Choose --precision float32, or allow more with --tolerance."
    other = ", or --to onnx, whose int8 may come nearer" if to == "openvino" else ""
    return (f"Choose --precision float16, which is half as large as float32{other}, or name other photos of the kind that the model will"
            " see with --calibrate (64 are used), or allow more with --tolerance where such a difference does no harm.")  # fmt: skip


def _record(
    form: Format, precision: str, part: Path, files: Sequence[str], parity: Parity, beside: Parity | None
) -> Mapping[str, Any]:
    """What ``export.json`` has beyond the properties that the file itself carries."""
    return {
        "format": form.name,
        "file": form.file,
        "files": {
            name: {"bytes": (part / name).stat().st_size, "sha256": hashlib.sha256((part / name).read_bytes()).hexdigest()}
            for name in files
        },
        "opset": OPSET if form.name == "onnx" else None,
        "engine": {"package": form.needs, "settings": OPENVINO_SETTINGS if form.name == "openvino" else ONNX_SETTINGS},
        "parity": parity.to_dict(),
        "beside_predict": beside.to_dict() if beside else None,
        "versions": tool_versions(),
    }


def _replace(part: Path, folder: Path, names: Sequence[str]) -> None:
    """Put the files in their place, those of an earlier export away, and ``export.json`` last."""
    for old in (EXAMPLES_FILE, *(name for form in FORMATS for name in (form.file, *form.beside))):
        if old not in names:
            (folder / old).unlink(missing_ok=True)
    (folder / EXPORT_FILE).unlink(missing_ok=True)
    for name in names:
        (part / name).replace(folder / name)
