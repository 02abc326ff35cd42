"""Weights written out for other programs: the way back through the tables of ``formats``. Each file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from timm.models.vgg import VGG
from torch import Tensor

from greffon.backbones.formats.vgg import DENSE
from greffon.backbones.network import Blueprint
from greffon.backbones.reading import convolutions
from greffon.errors import WeightsError

__all__ = ["WRITERS", "write_weights"]

_Write = Callable[[Blueprint, Mapping[str, Tensor], Path, Mapping[str, str]], None]


def write_weights(plan: Blueprint, tensors: Mapping[str, Tensor], target: Path, to: str, *, about: Mapping[str, str]) -> None:
    """Write tensors in timm's names as one of ``WRITERS``.

    Parameters
    ----------
    about
        Where they came from, their licence, their preprocessing: kept in formats that have a place for it.

    Raises
    ------
    WeightsError
        The format has no such network, or the file cannot be written.
    """
    if to in ("torchvision", "keras-h5", "npy") and not isinstance(plan.model, VGG):
        raise WeightsError(f"--to {to} is for VGG, and {plan.entry.name} is another network", hint="Choose --to safetensors or torch.")
    if to in ("keras-h5", "npy") and any(key.endswith("running_mean") for key in tensors):
        raise WeightsError(f"--to {to} has no VGG with BatchNorm", hint="Choose --to safetensors, torch or torchvision.")
    try:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=target.absolute().parent) as folder:
            part = Path(folder) / "weights"
            WRITERS[to](plan, tensors, part, about)
            part.replace(target)
    except OSError as error:
        raise WeightsError(f"{target}: cannot be written ({error.strerror or error})") from error


def _safetensors(plan: Blueprint, tensors: Mapping[str, Tensor], part: Path, about: Mapping[str, str]) -> None:
    from safetensors.torch import save_file

    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, part, metadata=dict(about))


def _torch(plan: Blueprint, tensors: Mapping[str, Tensor], part: Path, about: Mapping[str, str]) -> None:
    torch.save(dict(tensors), part)


def _torchvision(plan: Blueprint, tensors: Mapping[str, Tensor], part: Path, about: Mapping[str, str]) -> None:
    names = {DENSE["fc1"]: "classifier.0", DENSE["fc2"]: "classifier.3", DENSE["predictions"]: "classifier.6"}
    written = {}
    for key, tensor in tensors.items():
        link, _, name = key.rpartition(".")
        flat = tensor.flatten(1) if link in names and name == "weight" else tensor
        written[f"{names.get(link, link)}.{name}"] = flat.contiguous()
    torch.save(written, part)


def _keras_h5(plan: Blueprint, tensors: Mapping[str, Tensor], part: Path, about: Mapping[str, str]) -> None:
    try:
        import h5py
    except ImportError as error:
        raise WeightsError("writing Keras files needs the package h5py", hint='pip install "greffon[keras-weights]"') from error
    layers = _keras_layers(plan, tensors)
    with h5py.File(part, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.0.0"
        for layer, (kernel, bias) in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/kernel:0".encode(), f"{layer}/bias:0".encode()]
            group[f"{layer}/kernel:0"], group[f"{layer}/bias:0"] = kernel, bias


def _npy(plan: Blueprint, tensors: Mapping[str, Tensor], part: Path, about: Mapping[str, str]) -> None:
    names = {"fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}
    held = {
        names.get(layer) or layer.replace("block", "conv").replace("_conv", "_"): [kernel, bias]
        for layer, (kernel, bias) in _keras_layers(plan, tensors).items()
    }
    with part.open("wb") as file:
        np.save(file, np.array(held, dtype=object), allow_pickle=True)  # these files are so; ours holds names and arrays alone
        file.flush()
        os.fsync(file.fileno())


def _keras_layers(plan: Blueprint, tensors: Mapping[str, Tensor]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernels (h, w, in, out) or (in, out), and biases, by Keras's names."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for layer, link in convolutions(plan).items():
        kernel = tensors[f"{link}.weight"].permute(2, 3, 1, 0)
        found[layer] = np.ascontiguousarray(kernel.numpy()), tensors[f"{link}.bias"].numpy()
    for layer, link in DENSE.items():
        if f"{link}.weight" not in tensors:
            continue
        kernel = tensors[f"{link}.weight"]
        if kernel.ndim == 4:  # (out, c, h, w): Keras flattens in the order h, w, c
            kernel = kernel.permute(0, 2, 3, 1).flatten(1)
        found[layer] = np.ascontiguousarray(kernel.T.numpy()), tensors[f"{link}.bias"].numpy()
    return found


#: The formats that weights can be written in.
WRITERS: dict[str, _Write] = {
    "safetensors": _safetensors,
    "torch": _torch,
    "torchvision": _torchvision,
    "keras-h5": _keras_h5,
    "npy": _npy,
}
