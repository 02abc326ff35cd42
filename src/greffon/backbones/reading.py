"""Any weight file to tensors in timm's names: the format told from the content, names and axes by explicit tables."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from timm.models.efficientnet import EfficientNet
from timm.models.inception_v3 import InceptionV3
from timm.models.vgg import VGG
from torch import Tensor, nn

from greffon.backbones.formats.caffe import read_caffe
from greffon.backbones.formats.keras_h5 import read_keras_archive, read_keras_h5
from greffon.backbones.formats.npy import read_npy, read_npz
from greffon.backbones.formats.onnx import read_onnx
from greffon.backbones.formats.renames import rename_efficientnet
from greffon.backbones.formats.torch import read_safetensors, read_torch
from greffon.backbones.formats.vgg import rename_vgg
from greffon.backbones.network import Blueprint
from greffon.errors import WeightsError

__all__ = ["FORMATS", "Converted", "convert", "convolutions", "file_format", "float32", "read_weights"]

#: What greffon calls a format, and what people do.
FORMATS = {
    "keras-h5": "Keras HDF5 (.h5, .weights.h5)",
    "keras": "Keras archive (.keras)",
    "npy": "NumPy .npy with a dict of arrays",
    "npz": "NumPy .npz",
    "caffe": "Caffe .caffemodel",
    "torch": "PyTorch .pth",
    "safetensors": "safetensors",
    "onnx": "ONNX",
}


@final
@dataclass(frozen=True, slots=True)
class Converted:
    """The tensors of a file in timm's names and axes.

    Parameters
    ----------
    tensors
        Not yet checked against the network.
    layout
        Whose spelling the file had: ``Keras``, ``torchvision``, ..., or ``timm``.
    convention
        Whose preprocessing goes with that spelling as a rule: ``"caffe"``, ``"torch"``, or ``""`` where nothing follows.
    notes
        What was left out, and why.
    """

    tensors: dict[str, Tensor]
    layout: str = "timm"
    convention: Literal["caffe", "torch", ""] = ""
    notes: tuple[str, ...] = ()


def file_format(path: Path) -> str:
    """The format of a weight file by its content, one of ``FORMATS``.

    Raises WeightsError for a file that is missing, empty, or none of them.
    """
    try:
        if path.exists() and not path.is_file():
            raise WeightsError(f"{path}: a weight file is expected, and this is not a file")
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # a NUL in the name
        raise WeightsError(f"{str(path)!r}: not the name of a file") from error
    if not head:
        raise WeightsError(f"{path}: the file is empty")
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return "keras-h5"
    if head[:6] == b"\x93NUMPY":
        return "npy"
    if head[:2] == b"PK":
        return _kind_of_archive(path)
    if head[:2] == b"\x80\x02":
        return "torch"
    if head[8:9] == b"{":
        return "safetensors"
    if head[:1] == b"\x08":
        return "onnx"
    # The first field of a NetParameter: its name, a layer of the old kind, or one of the new kind.
    if head[:1] in (b"\x0a", b"\x12") or head[:2] == b"\xa2\x06":
        return "caffe"
    raise WeightsError(f"{path}: not a weight file of a known format ({', '.join(FORMATS.values())})")


def _kind_of_archive(path: Path) -> str:
    """Of a zip archive. A damaged one is taken for PyTorch's, whose reader then says so."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # zipfile raises many kinds for damaged files
        return "torch"
    if "model.weights.h5" in names:
        return "keras"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "torch"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file under its own names, with its own axes. The format is told from its content.

    Raises WeightsError for a file that is missing, of an unknown format, or damaged.
    """
    readers: dict[str, Callable[[Path], Mapping[str, np.ndarray]]] = {
        "keras-h5": read_keras_h5,
        "keras": read_keras_archive,
        "npy": read_npy,
        "npz": read_npz,
        "caffe": read_caffe,
        "onnx": read_onnx,
    }
    kind = file_format(path)
    if kind == "torch":
        return read_torch(path)
    if kind == "safetensors":
        return read_safetensors(path)[0]
    return _tensors(readers[kind](path))


def convert(plan: Blueprint, found: Mapping[str, Tensor], kind: str = "") -> Converted:
    """Rename and transpose the tensors of a file to timm's names and axes; a classifier of other classes is left out.

    A VGG may be Keras's, Caffe's, NumPy's, torchvision's or ONNX's; an EfficientNet that of the package
    ``efficientnet_pytorch``; an Inception v3 torchvision's, whose auxiliary classifier is left out. Any other file passes
    unchanged: ``check_tensors`` tells whether it has timm's names.

    Parameters
    ----------
    kind
        The file's format, where it is known: ``"caffe"`` and ``"npy"`` have the same names and other axes.

    Raises
    ------
    WeightsError
        The file holds the convolutions of another VGG, or one of them twice.
    """
    came = _renamed(plan, found, kind)
    state, top = plan.model.state_dict(), plan.classifier_keys()
    other = [key for key in top if key in came.tensors and came.tensors[key].shape != state[key].shape]
    if not other:
        return came
    kept = {key: tensor for key, tensor in came.tensors.items() if key not in top}
    shapes = f"{other[-1]} is {tuple(came.tensors[other[-1]].shape)} instead of {tuple(state[other[-1]].shape)}"
    return replace(came, tensors=kept, notes=(*came.notes, f"its classifier is left out: {shapes}"))


def _renamed(plan: Blueprint, found: Mapping[str, Tensor], kind: str) -> Converted:
    model = plan.model
    if isinstance(model, VGG):
        table = convolutions(plan)
        window = int(model.pre_logits.input_kernel_size)  # type: ignore[arg-type]  # a number; nn.Module hides it
        try:
            renamed = rename_vgg(found, table, classes=model.num_classes, window=window, caffe=kind == "caffe")
        except WeightsError as error:
            raise WeightsError(
                f"these are not the weights of {plan.entry.name}: {error.what}", hint=error.hint
            ) from error
        if renamed is not None:
            return Converted(renamed.tensors, renamed.layout.name, renamed.layout.convention, renamed.notes)
    if isinstance(model, EfficientNet) and "_conv_stem.weight" in found:
        blocks = [link for stage in plan.stages for link in stage.links if link.startswith("blocks.")]
        return Converted(rename_efficientnet(found, blocks), "efficientnet_pytorch")
    if isinstance(model, InceptionV3):
        kept = {key: tensor for key, tensor in found.items() if not key.startswith("AuxLogits.")}
        left = ("its auxiliary classifier, which only training uses, is left out",) if len(kept) < len(found) else ()
        return Converted(kept, notes=left)
    return Converted(dict(found))


def convolutions(plan: Blueprint) -> dict[str, str]:
    """Keras's name of each convolution of a VGG (``block3_conv2``) and timm's (``features.12``), from the image upwards."""
    found: dict[str, str] = {}
    for stage in plan.stages:
        links = [link for link in stage.links if isinstance(plan.model.get_submodule(link), nn.Conv2d)]
        found |= {f"{stage.name}_conv{i}": link for i, link in enumerate(links, start=1)}
    return found


def float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fractions of every width as float32; whole numbers stay."""
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays of plain numbers as tensors; in this machine's byte order, and no wider than torch knows them."""
    tensors: dict[str, Tensor] = {}
    for key, array in arrays.items():
        if array.dtype.kind in "fiu":
            native = array.astype(array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.float64)
            tensors[key] = torch.from_numpy(np.ascontiguousarray(native).reshape(array.shape))
    return tensors
