"""What each format is: its files, how they are opened, and the small program beside them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon import silence
from greffon.errors import ExportError
from greffon.exporting.parity import Runner
from greffon.exporting.photo import PHOTO

__all__ = ["FORMATS", "ONNX_SETTINGS", "OPENVINO_SETTINGS", "Format", "open_file", "runner_text"]

#: What the engines are told. OpenVINO would else compute in bfloat16 where the processor has it.
ONNX_SETTINGS: dict[str, str] = {}
OPENVINO_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


@final
@dataclass(frozen=True, slots=True)
class Format:
    """One way to write a model down.

    Parameters
    ----------
    name
        What ``--to`` calls it.
    file, beside
        The file that is opened, and those that it needs beside it.
    needs
        The package that runs it.
    precisions
        What it can be written in.
    batches
        Whether it takes several photos of one size at once.
    tolerance
        The most that a probability may be off in float32.
    lines
        Of the small program: how the package is imported, the file opened, a photo run.
    """

    name: str
    file: str
    beside: tuple[str, ...]
    needs: str
    precisions: tuple[str, ...]
    batches: bool
    tolerance: float
    lines: tuple[str, str, str]


_HERE = "Path(__file__).with_name"
_CLASSES = f'classes = json.loads({_HERE}("export.json").read_text("utf-8"))["classes"]'

FORMATS = (
    Format(
        name="onnx",
        file="model.onnx",
        beside=(),
        needs="onnxruntime",
        precisions=("float32", "float16", "int8"),
        batches=True,
        tolerance=1e-4,
        lines=(
            "import onnxruntime",
            f'session = onnxruntime.InferenceSession(str({_HERE}("model.onnx")), providers=["CPUExecutionProvider"])\n'
            'classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])',
            'session.run(["probabilities"], {"photo": read(path)[None]})[0][0].tolist()',
        ),
    ),
    Format(
        name="openvino",
        file="model.xml",
        beside=("model.bin",),
        needs="openvino",
        precisions=("float32", "float16", "int8"),
        batches=False,
        tolerance=1e-3,  # it has no float64, so that a level of the resized photo in a thousand can be the next one
        lines=(
            "import openvino",
            f'compiled = openvino.Core().compile_model(str({_HERE}("model.xml")), "CPU", {OPENVINO_SETTINGS})\n{_CLASSES}',
            'compiled({"photo": read(path)[None]})["probabilities"][0].tolist()',
        ),
    ),
    Format(
        name="torch",
        file="model.pt2",
        beside=(),
        needs="torch",
        precisions=("float32",),
        batches=True,
        tolerance=1e-4,
        lines=(
            "import torch",
            f'module = torch.export.load(str({_HERE}("model.pt2"))).module()\n{_CLASSES}',
            "module(torch.tensor(read(path)[None]))[0][0].tolist()",
        ),
    ),
)


def runner_text(format: Format) -> str:
    """The program ``run.py``: photos to lines of JSON, with the format's package, NumPy and Pillow alone."""
    text = files("greffon.exporting").joinpath("runner.txt").read_text(encoding="utf-8")
    places = {"@NEEDS@": format.needs, "@IMPORT@": format.lines[0], "@OPEN@": format.lines[1], "@RUN@": format.lines[2]}
    for mark, line in places.items():
        text = text.replace(mark, line)
    return text


def open_file(format: Format, file: Path) -> Runner:
    """What the file says of photos: uint8 (n, h, w, 3) to probabilities (n, c). Raises ExportError where it cannot be opened."""
    try:
        with silence.quiet():
            return {"onnx": _onnx, "openvino": _openvino, "torch": _torch}[format.name](file)
    except Exception as error:  # the engines raise many kinds, some of their own
        raise ExportError(f"the file cannot be opened again ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]


def _guarded(run: Runner) -> Runner:
    def guarded(photos: np.ndarray) -> np.ndarray:
        try:
            return run(photos)
        except Exception as error:  # as above
            raise ExportError(f"the file cannot be run on a photo of {photos.shape[1]} × {photos.shape[2]} ({_reason(error)})") from error

    return guarded


def _onnx(file: Path) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return _guarded(lambda photos: np.asarray(session.run(["probabilities"], {PHOTO: photos})[0]))


def _openvino(file: Path) -> Runner:
    openvino: Any = silence.openvino()
    compiled = openvino.Core().compile_model(str(file), "CPU", OPENVINO_SETTINGS)
    return _guarded(lambda photos: np.array(compiled({PHOTO: photos})["probabilities"]))


def _torch(file: Path) -> Runner:
    import torch

    module: Any = torch.export.load(str(file)).module()
    return _guarded(lambda photos: module(torch.from_numpy(np.array(photos)))[0].numpy())
