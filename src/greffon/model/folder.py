"""A model as a folder: safetensors and JSON, never pickle. Reading it believes nothing."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from greffon.activations import KEEPS, PRECISIONS, QuantisedGraph, Tap
from greffon.backbones import Backbone, Entry, blueprint, fingerprint, load_backbone
from greffon.errors import GreffonError, ModelError
from greffon.heads import NeighbourHead, Normaliser, Representation, head_from_arrays
from greffon.images import Preprocess
from greffon.model.disk import as_json, check_keys, no_constant, no_link, write_tensors, write_text
from greffon.model.examples import about_examples, read_examples, write_examples
from greffon.model.upper import feature_widths
from greffon.model.value import Model
from greffon.novelty import NEIGHBOURS

__all__ = [
    "SCHEMA",
    "about_backbone",
    "backbone_of",
    "check_backbone",
    "is_model_folder",
    "load_model",
    "read_description",
    "save_model",
    "versions",
]

#: The version of the folder's layout. A reader refuses a newer one, and reads every older one.
SCHEMA = 1


def is_model_folder(path: Path | str) -> bool:
    """Whether a path looks like a folder that greffon saved a model in."""
    try:
        return (Path(path) / "model.json").is_file()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False


def save_model(model: Model, folder: Path, *, slim: bool = False) -> None:
    """Write ``model.safetensors``, ``model.json`` and, if there are any, ``examples.safetensors``, each whole or not at all.

    Parameters
    ----------
    slim
        Leave the frozen stages out. The folder then needs the backbone's weights from elsewhere, and its fingerprint
        tells whether they are the right ones.

    Raises
    ------
    ModelError
        The folder cannot be written, or training, figures or data hold what JSON has no value for.
    """
    from safetensors import SafetensorError

    entry = model.backbone.plan.entry
    tensors = {
        "normaliser.mean": torch.tensor(model.normaliser.mean),
        "normaliser.scale": torch.tensor(model.normaliser.scale),
        **{f"head.{name}": torch.tensor(array) for name, array in model.head.arrays().items()},
    }
    grown = fingerprint(tensors)
    if model.quantised is not None:
        tensors |= {
            f"quantised.{name}": torch.from_numpy(np.frombuffer(content, np.uint8).copy())
            for name, content in (("xml", model.quantised.xml), ("weights", model.quantised.weights))
        }
    if not slim:
        tensors |= {f"backbone.{name}": tensor.contiguous() for name, tensor in model.backbone.tensors().items()}
    head: dict[str, Any] = {"kind": model.head.kind, "temperature": model.head.temperature, "fingerprint": grown}
    if isinstance(model.head, NeighbourHead):
        head["k"] = model.head.k
    about = {
        "schema": SCHEMA,
        "classes": list(model.classes),
        "backbone": about_backbone(model.backbone, included=not slim),
        "cut": model.cut,
        "preprocess": entry.preprocess.to_dict(),
        "representation": {name: getattr(model.representation, name) for name in ("stages", "pool", "norm")},
        "head": head,
        "precision": model.precision,
        "keep": model.keep,
        "training": dict(model.training),
        "figures": dict(model.figures),
        "data": dict(model.data),
        "versions": versions(),
    }
    if model.conformal is not None:
        about["conformal"] = [round(float(score), 6) for score in model.conformal]
    if model.examples is not None:
        about["examples"] = about_examples(model.examples)
    if model.novelty is not None:
        about["novelty"] = {"neighbours": NEIGHBOURS, "scores": [round(float(score), 6) for score in model.novelty]}
    if model.quantised is not None:
        one = model.quantised
        about["quantised"] = {"tap": str(one.tap), "shape": list(one.shape), "fingerprint": one.fingerprint}
    try:
        text = as_json(about)
        folder.mkdir(parents=True, exist_ok=True)
        write_examples(folder, model.examples)
        write_tensors(folder / "model.safetensors", tensors, {"format": f"greffon {SCHEMA}"})
        write_text(folder / "model.json", text)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be written ({getattr(error, 'strerror', None) or error})") from error
    except (TypeError, ValueError) as error:
        raise ModelError(f"{folder}: the model's training, figures and data must be JSON values ({error})") from error


def about_backbone(network: Backbone, *, included: bool) -> dict[str, Any]:
    """What model.json tells of the network; ``included``: whether its tensors are in the folder."""
    entry = network.plan.entry
    return {
        "name": entry.name,
        "architecture": entry.architecture,
        "fingerprint": network.fingerprint,
        "weights_of": entry.weights_of,
        "licence": entry.licence,
        "stages": list(network.stages),
        "included": included,
    }


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    libraries = ("greffon", "torch", "timm", "numpy", "scikit-learn", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}


def load_model(folder: Path | str) -> Model:
    """Read a model folder, checking everything: schema, keys, types, shapes, finite values, fingerprints.

    Raises
    ------
    ModelError
        With the file and the fault.
    """
    path = Path(folder)
    about = read_description(path)
    if about.get("kind") == "network":
        raise ModelError(f"{path}: holds a network without a head, expected a model that predicts",
                         hint=f"Train a head on it: greffon train DATA --out MODEL --backbone {path}")  # fmt: skip
    try:
        return _model(path, about)
    except GreffonError as error:
        if isinstance(error, ModelError) and str(path) in error.what:
            raise
        raise ModelError(f"{path}: {error.what}", hint=error.hint) from error
    except Exception as error:  # whatever a damaged description makes PyTorch or timm raise is one kind of fault here
        raise ModelError(f"{path / 'model.json'}: damaged ({type(error).__name__}: {str(error)[:200]})") from error


def read_description(path: Path) -> dict[str, Any]:
    """``model.json`` as it stands, of a schema that can be read. Raises ModelError."""
    file = path / "model.json"
    no_link(file)
    try:
        if file.stat().st_size > 2**26:
            raise ModelError(f"{file}: larger than 64 MiB, which no model.json is")
        about = json.loads(file.read_text(encoding="utf-8"), parse_constant=no_constant)
    except OSError as error:
        raise ModelError(f"{path}: not a model folder of greffon ({file.name}: {error.strerror})",
                         hint="A model is the folder that greffon train --out made.") from error  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: not JSON, or damaged ({str(error)[:200]})") from error
    if not isinstance(about, dict) or type(about.get("schema")) is not int:
        raise ModelError(f"{file}: has no schema version, so it is not a model of greffon")
    if about["schema"] != SCHEMA:
        raise ModelError(f"{file}: has schema {str(about['schema'])[:40]}; this greffon reads {SCHEMA}",
                         hint="Install a newer greffon." if about["schema"] > SCHEMA else "")  # fmt: skip
    return about


#: The keys of model.json and the types of their values; those of its objects beneath them.
_KEYS: dict[str, type] = {
    "classes": list,
    "backbone": dict,
    "cut": str,
    "preprocess": dict,
    "representation": dict,
    "head": dict,
    "precision": str,
    "training": dict,
    "figures": dict,
    "data": dict,
    "versions": dict,
}
_BACKBONE_KEYS: dict[str, type] = {
    "name": str,
    "architecture": str,
    "fingerprint": str,
    "weights_of": str,
    "licence": str,
    "stages": list,
    "included": bool,
}


def check_backbone(path: Path, about: Mapping[str, Any]) -> None:
    """Every key of the network's description there, with its type, or a ModelError."""
    description = str(path / "model.json")
    check_keys(description, about, {"backbone": dict, "preprocess": dict})
    check_keys(f"{description}: backbone", about["backbone"], _BACKBONE_KEYS)


def _model(path: Path, about: dict[str, Any]) -> Model:
    from greffon.backbones.formats.torch import read_safetensors

    file, description = path / "model.safetensors", str(path / "model.json")
    no_link(file)
    if not file.is_file():
        raise ModelError(f"{file}: missing; the folder is not whole")
    check_keys(description, about, _KEYS)
    check_backbone(path, about)
    classes = about["classes"]
    check_keys(f"{description}: head", about["head"], {"fingerprint": str})
    if len(classes) < 2 or not all(isinstance(c, str) for c in classes) or len(set(classes)) != len(classes):
        raise ModelError(f"{description}: classes must be two or more different names")
    if about["precision"] not in PRECISIONS or about["precision"] == "auto":
        raise ModelError(f"{description}: precision must be one of {', '.join(PRECISIONS[1:])}, got {about['precision'][:40]!r}")
    check_keys(f"{description}: representation", about["representation"], {"stages": str, "pool": str, "norm": str})
    representation = Representation(**about["representation"])
    tensors, _ = read_safetensors(file)
    parts: dict[str, dict[str, torch.Tensor]] = {"backbone": {}, "head": {}, "normaliser": {}, "quantised": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        if part not in parts or (part == "normaliser" and name not in ("mean", "scale")):
            raise ModelError(f"{file}: unexpected tensor {key[:80]!r}")
        parts[part][name] = tensor
    grown = fingerprint({key: tensor for key, tensor in tensors.items() if not key.startswith(("backbone.", "quantised."))})
    if grown != about["head"]["fingerprint"]:
        raise ModelError(f"{file}: the head has the fingerprint {grown[:12]}, expected {about['head']['fingerprint'][:12]}:"
                         " the files are damaged or do not belong together")  # fmt: skip
    backbone = backbone_of(path, about, parts["backbone"])
    backbone.position(about["cut"])
    features = _feature_count(backbone, about["cut"], representation)
    keep = about.get("keep", "")
    if keep not in ("", *KEEPS):
        raise ModelError(f"{description}: keep must be one of {', '.join(KEEPS)}, or empty, got {str(keep)[:40]!r}")
    shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in parts["normaliser"].items()}
    if shapes != dict.fromkeys(("mean", "scale"), (torch.float32, (features,))):
        raise ModelError(f"{file}: the normaliser must be mean and scale, float32 ({features},), got {shapes}")
    mean, scale = parts["normaliser"]["mean"].numpy(), parts["normaliser"]["scale"].numpy()
    if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
        raise ModelError(f"{file}: the normaliser holds numbers that are not finite")
    model = Model(
        backbone=backbone,
        cut=about["cut"],
        classes=tuple(classes),
        representation=representation,
        normaliser=Normaliser(representation.norm, mean, scale),
        head=head_from_arrays(about["head"], {name: t.numpy() for name, t in parts["head"].items()}, features, len(classes)),
        precision=about["precision"],
        training=about["training"],
        figures=about["figures"],
        data=about["data"],
        keep=keep,
        quantised=_quantised(path, about, parts["quantised"]),
        conformal=_conformal(description, about),
        examples=read_examples(path, about, features, len(classes)),
        novelty=_novelty(description, about),
    )
    if model.quantised is not None and model.quantised.tap != model.tap:
        raise ModelError(f"{description}: the quantised network gives {model.quantised.tap}, and the head reads {model.tap}")
    return model


def _conformal(description: str, about: Mapping[str, Any]) -> np.ndarray | None:
    """The scores of the images that were held out, which models had not before greffon made sets."""
    told: Any = about.get("conformal")
    return None if told is None else _scores(f"{description}: conformal", told, 1)


def _novelty(description: str, about: Mapping[str, Any]) -> np.ndarray | None:
    """How new images were that were held out; models had none before greffon kept examples, and of another count they say nothing."""
    told: Any = about.get("novelty")
    if told is None:
        return None
    if not isinstance(told, dict) or type(told.get("neighbours")) is not int or told["neighbours"] < 1:
        raise ModelError(f"{description}: novelty must have neighbours, a whole number, and scores")
    scores = _scores(f"{description}: the scores of novelty", told.get("scores"), 2)
    return scores if told["neighbours"] == NEIGHBOURS and about.get("examples") is not None else None


def _scores(what: str, told: Any, most: int) -> np.ndarray:
    if not isinstance(told, list) or not all(type(score) in (int, float) and 0 <= score <= most for score in told) or told != sorted(told):
        raise ModelError(f"{what} must be a list of numbers from 0 to {most}, in their order")
    return np.array(told, np.float64)


def _quantised(path: Path, about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> QuantisedGraph | None:
    """The frozen part in int8, if the model has it; a model that was trained in int8 must."""
    told, description = about.get("quantised"), f"{path / 'model.json'}: quantised"
    if told is None and not tensors and about["precision"] != "int8":
        return None
    if not isinstance(told, dict):
        raise ModelError(f"{description}: missing, though the precision is {about['precision']} or there are tensors of it")
    check_keys(description, told, {"tap": str, "shape": list, "fingerprint": str})
    kind, _, cut = told["tap"].partition(":")
    if kind not in ("pooled", "map") or len(told["shape"]) != 4 or not all(type(side) is int and side > 0 for side in told["shape"]):
        raise ModelError(f"{description}: the tap or the shape is damaged")
    kinds = {name: (tensor.dtype, tensor.ndim) for name, tensor in tensors.items()}
    if kinds != dict.fromkeys(("xml", "weights"), (torch.uint8, 1)):
        raise ModelError(f"{path / 'model.safetensors'}: the quantised network must be xml and weights, uint8 (n,), got {kinds}")
    xml, weights = (tensors[name].numpy().tobytes() for name in ("xml", "weights"))
    graph = QuantisedGraph(xml, weights, Tap(kind, cut) if cut else Tap(kind), (*told["shape"],))
    if graph.fingerprint != told["fingerprint"]:
        raise ModelError(f"{path}: the quantised network has the fingerprint {graph.fingerprint[:12]}, expected"
                         f" {told['fingerprint'][:12]}: the files are damaged or do not belong together")  # fmt: skip
    return graph


def backbone_of(path: Path, about: Mapping[str, Any], frozen: Mapping[str, torch.Tensor]) -> Backbone:
    """The network that model.json tells of, with the tensors of the folder or, of a slim one, those from elsewhere."""
    told = about["backbone"]
    preprocess = Preprocess.from_dict(about["preprocess"])
    if not all(torch.isfinite(tensor).all() for tensor in frozen.values()):
        raise ModelError(f"{path / 'model.safetensors'}: the backbone holds numbers that are not finite")
    if told["included"]:
        if not _is_architecture(told["architecture"]):
            raise ModelError(f"{path / 'model.json'}: timm knows no architecture {told['architecture'][:80]!r}")
        entry = Entry(
            name=told["name"],
            architecture=told["architecture"],
            preprocess=preprocess,
            weights_of=told["weights_of"],
            licence=told["licence"],
        )
        backbone = Backbone(blueprint(entry), frozen)
    elif frozen:
        raise ModelError(f"{path}: tensors of the backbone, which model.json says are left out")
    else:
        source = load_backbone(told["name"])
        backbone = Backbone(blueprint(replace(source.plan.entry, preprocess=preprocess)), source.tensors())
    if backbone.fingerprint != told["fingerprint"]:
        fault = "the files are damaged or do not belong together" if told["included"] else "these are not the weights it was trained with"
        raise ModelError(f"{path}: the backbone's tensors have the fingerprint {backbone.fingerprint[:12]},"
                         f" expected {told['fingerprint'][:12]}: {fault}")  # fmt: skip
    if list(backbone.stages) != told["stages"]:
        stages = ", ".join(backbone.stages)
        raise ModelError(f"{path / 'model.json'}: the stages of {backbone.name} are {stages}, got {str(told['stages'])[:200]}")
    return backbone


def _is_architecture(name: str) -> bool:
    """Whether timm has such a network of its own; to ``create_model``, names may also be folders and places on the internet."""
    from greffon.backbones.timm_library import is_model

    return name.isidentifier() and is_model(name)


def _feature_count(backbone: Backbone, cut: str, representation: Representation) -> int:
    if representation.pool == "flatten":
        from greffon.backbones import stage_shapes

        if cut != "none":
            raise ModelError("flattened features go with the cut 'none' alone")
        c, h, w = stage_shapes(backbone.plan)[-1][1]
        return c * h * w
    widths = feature_widths(backbone, cut)
    return sum(widths if representation.stages == "all" else widths[-1:]) * (2 if representation.pool == "mean+max" else 1)
