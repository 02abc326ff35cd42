"""PyTorch's files (``.pth``, ``.pt``, ``.bin``), by its restricted unpickler alone; and safetensors."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from greffon.errors import WeightsError

__all__ = ["read_safetensors", "read_torch"]


def read_torch(path: Path) -> dict[str, Tensor]:
    """The state dict of a PyTorch file on the CPU, also one wrapped as ``{"state_dict": ...}`` or ``{"model": ...}``.

    Raises WeightsError for anything but tensors under names: code in the file is never run.
    """
    try:
        with warnings.catch_warnings():  # about TorchScript archives, which are refused anyway
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and key errors for damaged files
        raise WeightsError(f"{path}: not a file of PyTorch tensors ({type(error).__name__})") from error
    for wrapper in ("state_dict", "model", "state_dict_ema"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items()):
        raise WeightsError(f"{path}: expected tensors under names, got something else")
    for key, tensor in found.items():
        # A tensor without values ("meta"), sparse, or quantised could not be compared, nor loaded.
        if tensor.device.type != "cpu" or tensor.layout is not torch.strided or tensor.is_quantized:
            raise WeightsError(f"{path}: {key} is not a plain tensor of numbers")
    return {key.removeprefix("module."): tensor.detach() for key, tensor in found.items()}


def read_safetensors(path: Path, *, leave_out: Collection[str] = ()) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, but those that are left out, and the metadata of a safetensors file. Raises WeightsError if damaged."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name not in leave_out]  # noqa: SIM118  # no dict: it has keys() and cannot be iterated
            # Copies: the library's tensors are views of the mapped file, and change when somebody writes into that.
            return {name: file.get_tensor(name).clone() for name in names}, dict(file.metadata() or {})
    except Exception as error:  # safetensors' own error class is not a stable import
        raise WeightsError(f"{path}: not a safetensors file, or a damaged one ({str(error)[:200]})") from error
