"""What an exported file tells of itself, so that whoever runs it needs neither greffon nor torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from greffon.exporting.graph import OUTPUTS
from greffon.exporting.photo import PHOTO
from greffon.exporting.remembered import novelty_told
from greffon.model import Model

__all__ = ["SCHEMA", "model_card", "properties", "tool_versions"]

#: The version of ``properties``.
SCHEMA = 1


def properties(model: Model, *, maps: bool, precision: str, batches: bool = True) -> dict[str, Any]:
    """What the file itself carries, as JSON values: classes, temperature, contract of input and outputs, scores for sets, model card."""
    n = "n" if batches else 1
    shapes = {
        "probabilities": [n, len(model.classes)],
        "features": [n, len(model.normaliser.mean)],
        "maps": [n, len(model.classes), "h'", "w'"],
    }
    what = {
        "probabilities": "of the classes, in their order; temperature and softmax are done",
        "features": "of the photo, before the normaliser: as greffon embed gives them",
        "maps": "class activation maps; the mean over h' and w' is the score before the temperature",
    }
    scores = {} if model.conformal is None else {"conformal": [round(float(score), 6) for score in model.conformal]}
    return {
        "greffon": SCHEMA,
        "classes": list(model.classes),
        "precision": precision,
        "temperature": model.head.temperature,
        "input": {
            "name": PHOTO,
            "dtype": "uint8",
            "shape": [n, "h", "w", 3],
            "what": "decoded photos of one size, upright (EXIF orientation applied), RGB, transparency on white; any height and width",
        },
        "outputs": [
            {"name": name, "dtype": "float32", "shape": shapes[name], "what": what[name]} for name in (OUTPUTS if maps else OUTPUTS[:-1])
        ],
        "maps": maps,
        **scores,
        **novelty_told(model),
        "model": model_card(model),
    }


def model_card(model: Model) -> dict[str, Any]:
    """Where the model comes from and how good it is, as JSON values; no paths of the machine that it was made on."""
    entry = model.backbone.plan.entry
    return {
        "backbone": {
            "name": entry.name,
            "architecture": entry.architecture,
            "fingerprint": model.backbone.fingerprint,
            "weights_of": entry.weights_of,
            "licence": entry.licence,
        },
        "cut": model.cut,
        "representation": str(model.representation),
        "head": model.head.kind,
        "preprocess": entry.preprocess.to_dict(),
        "training": {name: model.training[name] for name in ("strategy", "method", "seed") if name in model.training},
        "trained_in": model.precision,
        "figures": _short(model.figures),
        "data": {name: value for name, value in model.data.items() if name != "root"},
    }


def _short(values: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers, words and intervals; not what has a line for each class."""
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, (int, float, str)) or (isinstance(value, list) and all(isinstance(one, float) for one in value))
    }


def tool_versions() -> dict[str, str]:
    """The versions of what a file was made with."""
    found = {}
    for name in ("greffon", "torch", "onnx", "onnxruntime", "onnxscript", "openvino", "nncf", "pillow", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
