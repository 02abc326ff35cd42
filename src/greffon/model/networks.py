"""A model folder that holds a network and no head: what serves as a backbone, and predicts nothing by itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from greffon.backbones import Backbone, blueprint, load_backbone
from greffon.errors import GreffonError, ModelError
from greffon.model.disk import write_json, write_tensors
from greffon.model.folder import (
    SCHEMA,
    about_backbone,
    backbone_of,
    check_backbone,
    is_model_folder,
    load_model,
    read_description,
    versions,
)
from greffon.progress import Progress

__all__ = ["load_any_backbone", "load_network", "save_network"]


def load_any_backbone(name: str, *, weights: Path | None = None, size: int = 0, progress: Progress | None = None) -> Backbone:
    """A backbone by its name in the catalogue, or that of a model folder, with a head or without one."""
    if not is_model_folder(name):
        return load_backbone(name, weights=weights, size=size, progress=progress)
    network = load_network(Path(name))
    if weights is not None:
        raise ModelError(f"{name}: a model folder has weights of its own; leave --weights out")
    if not size:
        return network
    from greffon.backbones import resized

    return Backbone(blueprint(resized(network.plan.entry, size)), network.tensors())


def save_network(network: Backbone, folder: Path, training: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` and ``model.json`` of a network without a head, each whole or not at all.

    Parameters
    ----------
    training, data
        How the network came to be and of which images, as JSON values.

    Raises
    ------
    ModelError
        The folder cannot be written, or training or data hold what JSON has no value for.
    """
    from safetensors import SafetensorError

    about = {
        "schema": SCHEMA,
        "kind": "network",
        "backbone": about_backbone(network, included=True),
        "preprocess": network.plan.entry.preprocess.to_dict(),
        "training": dict(training),
        "data": dict(data),
        "versions": versions(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"backbone.{name}": tensor.contiguous() for name, tensor in network.tensors().items()}
        write_tensors(folder / "model.safetensors", tensors, {"format": f"greffon {SCHEMA}"})
        write_json(folder / "model.json", about)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be written ({getattr(error, 'strerror', None) or error})") from error
    except (TypeError, ValueError) as error:
        raise ModelError(f"{folder}: the training and data of a network must be JSON values ({error})") from error


def load_network(folder: Path) -> Backbone:
    """The network of a model folder, with a head or without one, checked like ``load_model``. Raises ModelError."""
    about = read_description(folder)
    if about.get("kind") != "network":
        return load_model(folder).backbone
    from greffon.backbones.formats.torch import read_safetensors

    file = folder / "model.safetensors"
    if not file.is_file():
        raise ModelError(f"{file}: missing; the folder is not whole")
    try:
        check_backbone(folder, about)
        tensors, _ = read_safetensors(file)
        strange = sorted(name for name in tensors if not name.startswith("backbone."))
        if strange:
            raise ModelError(f"{file}: unexpected tensor {strange[0][:80]!r}")
        frozen: dict[str, torch.Tensor] = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}
        return backbone_of(folder, about, frozen)
    except GreffonError as error:
        if isinstance(error, ModelError) and str(folder) in error.what:
            raise
        raise ModelError(f"{folder}: {error.what}", hint=error.hint) from error
    except Exception as error:  # whatever a damaged description makes PyTorch or timm raise is one kind of fault here
        raise ModelError(f"{folder / 'model.json'}: damaged ({type(error).__name__}: {str(error)[:200]})") from error
