"""``Model``: a backbone, a cut and a head, with all that is needed to predict. Saved as safetensors and JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from greffon.activations import Executor, Photo, Store, Tap, best_precision, compute, make_engine
from greffon.backbones import Backbone, Entry, blueprint, load_backbone
from greffon.errors import GreffonError, ModelError
from greffon.heads import Head, NeighbourHead, Normaliser, Representation, head_from_arrays
from greffon.images import Preprocess
from greffon.progress import Progress, Silent

__all__ = ["SCHEMA", "Model", "Prediction", "is_model_folder", "load_any_backbone", "load_model", "save_model", "versions", "write_json"]

#: The version of the folder's layout. A reader refuses a newer one, and reads every older one.
SCHEMA = 1


@final
@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a model says of n images.

    Parameters
    ----------
    probabilities
        float64 (n, c); rows of images that could not be read are NaN.
    failed
        Position → reason.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    failed: dict[int, str]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """All that is needed to predict, and how it came to be.

    Parameters
    ----------
    backbone
        The network, its preprocessing included.
    cut
        ``"none"``: the cut stands above the last stage.
    classes
        In the order of the probabilities.
    representation, normaliser, head
        From the backbone's output to scores.
    precision
        Of the frozen part when the head was fitted; predicting uses the same.
    training
        The configuration, as JSON values: with the same data it repeats the run.
    figures
        Of the test split, as JSON values.
    data
        What it was trained on, as JSON values: fingerprint and counts.
    """

    backbone: Backbone
    cut: str
    classes: tuple[str, ...]
    representation: Representation
    normaliser: Normaliser
    head: Head
    precision: str
    training: Mapping[str, Any]
    figures: Mapping[str, Any]
    data: Mapping[str, Any]

    @property
    def tap(self) -> Tap:
        """What the head reads."""
        return Tap("map", "none") if self.representation.pool == "flatten" else Tap("pooled")

    def probabilities(self, records: np.ndarray) -> np.ndarray:
        """Records of the frozen part, (n, ...), to float64 (n, c)."""
        features = self.representation.take(records, self.backbone.widths())
        return self.head.probabilities(self.normaliser.apply(features))

    def predict(
        self,
        photos: Sequence[Photo],
        *,
        store: Store | None = None,
        progress: Progress | None = None,
        precision: str = "",
        digests: Sequence[str] | None = None,
        executor: Executor | None = None,
    ) -> Prediction:
        """Probabilities of every photo. One that cannot be read is named, and the others are predicted.

        Parameters
        ----------
        photos
            Paths, or arrays uint8 (h, w, 3).
        store
            Where activations are kept; by default nothing is.
        precision
            Of the frozen part, instead of that of the training.
        digests
            The digests of the photos, where they are known.
        """
        listener = progress or Silent()
        chosen = precision or self.precision
        if chosen == "bfloat16" and not precision and best_precision("cuda" if torch.cuda.is_available() else "cpu") != "bfloat16":
            listener.warn("the model was trained in bfloat16, which this processor does not compute in: float32 is used")
            chosen = "float32"
        engine = make_engine(self.backbone, self.tap, chosen)
        found = compute(photos, self.backbone, self.tap, engine, store=store, progress=listener, digests=digests, executor=executor)
        out = np.full((len(photos), len(self.classes)), np.nan)
        good = [i for i in range(len(photos)) if i not in found.failed]
        for start in range(0, len(good), 4096):
            part = good[start : start + 4096]
            out[part] = self.probabilities(found.batch(part))
        return Prediction(self.classes, out, found.failed)


def is_model_folder(path: Path | str) -> bool:
    """Whether a path looks like a folder that greffon saved a model in."""
    try:
        return (Path(path) / "model.json").is_file()
    except OSError:
        return False


def load_any_backbone(name: str, *, weights: Path | None = None, size: int = 0, progress: Progress | None = None) -> Backbone:
    """A backbone by its name in the catalogue, or that of a model folder."""
    if is_model_folder(name):
        model = load_model(Path(name))
        if weights is not None:
            raise ModelError(f"{name}: a model folder has weights of its own; leave --weights out")
        if not size:
            return model.backbone
        from greffon.backbones import resized

        return Backbone(blueprint(resized(model.backbone.plan.entry, size)), model.backbone.tensors())
    return load_backbone(name, weights=weights, size=size, progress=progress)


# --- the folder -------------------------------------------------------------------------------------------------


def save_model(model: Model, folder: Path, *, slim: bool = False) -> None:
    """Write ``model.safetensors`` and ``model.json``, each whole or not at all.

    Parameters
    ----------
    slim
        Leave the frozen stages out. The folder then needs the backbone's weights from elsewhere, and its fingerprint
        tells whether they are the right ones.

    Raises
    ------
    ModelError
        The folder cannot be written.
    """
    from safetensors.torch import save_file

    entry = model.backbone.plan.entry
    tensors = {
        "normaliser.mean": torch.from_numpy(model.normaliser.mean),
        "normaliser.scale": torch.from_numpy(model.normaliser.scale),
        **{f"head.{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in model.head.arrays().items()},
    }
    if not slim:
        tensors |= {f"backbone.{name}": tensor.contiguous() for name, tensor in model.backbone.tensors().items()}
    head: dict[str, Any] = {"kind": model.head.kind, "temperature": model.head.temperature}
    if isinstance(model.head, NeighbourHead):
        head["k"] = model.head.k
    about = {
        "schema": SCHEMA,
        "classes": list(model.classes),
        "backbone": {
            "name": entry.name,
            "architecture": entry.architecture,
            "fingerprint": model.backbone.fingerprint,
            "weights_of": entry.weights_of,
            "licence": entry.licence,
            "stages": list(model.backbone.stages),
            "included": not slim,
        },
        "cut": model.cut,
        "preprocess": entry.preprocess.to_dict(),
        "representation": {name: getattr(model.representation, name) for name in ("stages", "pool", "norm")},
        "head": head,
        "precision": model.precision,
        "training": dict(model.training),
        "figures": dict(model.figures),
        "data": dict(model.data),
        "versions": versions(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".model-{os.getpid()}.safetensors"
        save_file(tensors, part, metadata={"format": f"greffon {SCHEMA}"})
        _sync(part)
        part.replace(folder / "model.safetensors")
        write_json(folder / "model.json", about)
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written ({error.strerror or error})") from error


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("greffon", "torch", "timm", "numpy", "scikit-learn", "pillow")}}


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    part = path.with_name(f".{path.name}-{os.getpid()}")
    part.write_text(json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    _sync(part)
    part.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def load_model(folder: Path | str) -> Model:
    """Read a model folder, checking everything: schema, keys, shapes, finite values, fingerprint.

    Raises
    ------
    ModelError
        With the file and the fault.
    """
    path = Path(folder)
    about = _read_about(path)
    try:
        return _model(path, about)
    except ModelError:
        raise
    except GreffonError as error:
        raise ModelError(f"{path}: {error.what}", hint=error.hint) from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ModelError(f"{path / 'model.json'}: damaged ({type(error).__name__}: {str(error)[:200]})") from error


def _read_about(path: Path) -> dict[str, Any]:
    file = path / "model.json"
    try:
        if file.stat().st_size > 2**26:
            raise ModelError(f"{file}: larger than 64 MiB, which no model.json is")
        about = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: not a model folder of greffon ({file.name}: {error.strerror})",
                         hint="A model is the folder that greffon train --out made.") from error  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: not JSON, or damaged ({str(error)[:200]})") from error
    if not isinstance(about, dict) or not isinstance(about.get("schema"), int):
        raise ModelError(f"{file}: has no schema version, so it is not a model of greffon")
    if about["schema"] != SCHEMA:
        raise ModelError(f"{file}: has schema {about['schema']}; this greffon reads {SCHEMA}", hint="Install a newer greffon.")
    return about


def _model(path: Path, about: dict[str, Any]) -> Model:
    from greffon.backbones.formats.torch import read_safetensors

    file = path / "model.safetensors"
    if not file.is_file():
        raise ModelError(f"{file}: missing; the folder is not whole")
    tensors, _ = read_safetensors(file)
    classes = about["classes"]
    if not isinstance(classes, list) or len(classes) < 2 or len(set(classes)) != len(classes) or not all(isinstance(c, str) for c in classes):
        raise ModelError(f"{path}: classes must be two or more different names")
    told = about["backbone"]
    entry = Entry(
        name=str(told["name"]),
        architecture=str(told["architecture"]),
        preprocess=Preprocess.from_dict(about["preprocess"]),
        weights_of=str(told["weights_of"]),
        licence=str(told["licence"]),
    )
    if told["included"]:
        frozen = {key.removeprefix("backbone."): value for key, value in tensors.items() if key.startswith("backbone.")}
        backbone = Backbone(blueprint(entry), frozen)
    else:
        source = load_backbone(entry.name)
        backbone = Backbone(blueprint(replace(source.plan.entry, preprocess=entry.preprocess)), source.tensors())
    if backbone.fingerprint != told["fingerprint"]:
        raise ModelError(f"{path}: the backbone's tensors have the fingerprint {backbone.fingerprint[:12]},"
                         f" expected {str(told['fingerprint'])[:12]}: the files are damaged or do not belong together")  # fmt: skip
    known = {"backbone.", "head.", "normaliser."}
    strange = sorted(key for key in tensors if not key.startswith(tuple(known)))
    if strange:
        raise ModelError(f"{file}: unexpected tensors: {', '.join(strange[:4])}")
    representation = Representation(**about["representation"])
    mean, scale = tensors["normaliser.mean"].numpy(), tensors["normaliser.scale"].numpy()
    if mean.ndim != 1 or mean.shape != scale.shape or not (np.isfinite(mean).all() and np.isfinite(scale).all()):
        raise ModelError(f"{file}: the normaliser must be two finite vectors of one length")
    features = _feature_count(backbone, representation)
    if len(mean) != features:
        raise ModelError(f"{file}: the normaliser has {len(mean)} numbers, but {backbone.name} gives {features} features")
    arrays = {key.removeprefix("head."): value.numpy() for key, value in tensors.items() if key.startswith("head.")}
    backbone.position(about["cut"])
    return Model(
        backbone=backbone,
        cut=about["cut"],
        classes=tuple(classes),
        representation=representation,
        normaliser=Normaliser(representation.norm, mean, scale),
        head=head_from_arrays(about["head"], arrays, features, len(classes)),
        precision=str(about["precision"]),
        training=about["training"],
        figures=about["figures"],
        data=about["data"],
    )


def _feature_count(backbone: Backbone, representation: Representation) -> int:
    if representation.pool == "flatten":
        from greffon.backbones import stage_shapes

        c, h, w = stage_shapes(backbone.plan)[-1][1]
        return c * h * w
    widths = backbone.widths() if representation.stages == "all" else backbone.widths()[-1:]
    return sum(widths) * (2 if representation.pool == "mean+max" else 1)
