"""VGG in the spelling of other programs: tables of names and axes. Pure: tensors in, tensors out.

Names decide how a file is read, never shapes: a kernel of (3, 3, 3, 3) could be either way round. Layers are called here as in
``keras.applications``: ``block1_conv1`` to ``block5_conv3``, then ``fc1``, ``fc2`` and ``predictions`` (the paper's and Caffe's
conv1_1, fc6, fc7 and fc8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor

from greffon.errors import WeightsError

__all__ = ["CAFFE", "DENSE", "LAYOUTS", "TORCHVISION", "Layout", "Renamed", "rename_vgg"]

#: The dense layers, and timm's names of them.
DENSE = {"fc1": "pre_logits.fc1", "fc2": "pre_logits.fc2", "predictions": "head.fc"}


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """How a program names and lays out the tensors of a VGG.

    Parameters
    ----------
    name
        For people.
    convention
        Whose preprocessing weights in this layout are usually trained with: ``"caffe"`` (BGR, means subtracted), ``"torch"``
        (RGB, ImageNet's mean and deviation), or ``""`` where it tells nothing.
    kernel, bias
        Match the whole name of a tensor. The layer's name is in the group ``layer``, or its numbers are in ``block`` and
        ``conv``, or it is the name of the group.
    axes
        The order in which a convolution's axes are (out, in, h, w).
    dense
        A dense kernel is (in, out) or (out, in).
    flattened
        The order in which the first dense layer sees the last feature map.
    """

    name: str
    convention: Literal["caffe", "torch", ""]
    kernel: re.Pattern[str]
    bias: re.Pattern[str]
    axes: tuple[int, int, int, int]
    dense: Literal["in,out", "out,in"]
    flattened: Literal["h,w,c", "c,h,w"]


_HWIO, _OIHW = (3, 2, 0, 1), (0, 1, 2, 3)
_KERAS = r"(?:.+/)?(?P<layer>block\d+_conv\d+|fc1|fc2|predictions)"
_PAPER = r"(?:conv(?P<block>\d)_(?P<conv>\d)|fc(?:(?P<fc1>6)|(?P<fc2>7)|(?P<predictions>8)))"
_CLASSIFIER = r"classifier\.(?:(?P<fc1>0)|(?P<fc2>3)|(?P<predictions>6))\."

LAYOUTS = (
    # block1_conv1/block1_conv1_W_1:0 in the files of 2015, block1_conv1/block1_conv1/kernel:0 later.
    Layout(
        name="Keras",
        convention="caffe",
        kernel=re.compile(_KERAS + r"(?:_\d+)?/(?:(?P=layer)_W_1|kernel|vars/0)(?::0)?"),
        bias=re.compile(_KERAS + r"(?:_\d+)?/(?:(?P=layer)_b_1|bias|vars/1)(?::0)?"),
        axes=_HWIO,
        dense="in,out",
        flattened="h,w,c",
    ),
    # What tf2onnx makes of Keras's: model/block1_conv1_1/convolution/ReadVariableOp:0; it has turned the convolutions.
    Layout(
        name="ONNX from Keras",
        convention="caffe",
        kernel=re.compile(_KERAS + r"(?:_\d+)?/(?:convolution|Conv2D|MatMul|Cast)/ReadVariableOp:0"),
        bias=re.compile(_KERAS + r"(?:_\d+)?/(?:Squeeze|(?:BiasAdd|Add|add)/ReadVariableOp):0"),
        axes=_OIHW,
        dense="in,out",
        flattened="h,w,c",
    ),
    # vgg16.npy: {"conv1_1": [kernel, bias], ...}; caffe-tensorflow writes {"conv1_1": {"weights": ..., "biases": ...}}, and
    # vgg16_weights.npz has conv1_1_W and conv1_1_b.
    Layout(
        name="NumPy",
        convention="caffe",
        kernel=re.compile(_PAPER + r"(?:/0|/weights|_W)"),
        bias=re.compile(_PAPER + r"(?:/1|/biases|_b)"),
        axes=_HWIO,
        dense="in,out",
        flattened="h,w,c",
    ),
)
#: The same names as in ``vgg16.npy``, and other axes: which of the two it is, only the file's format says.
CAFFE = Layout(
    name="Caffe",
    convention="caffe",
    kernel=re.compile(_PAPER + r"/0"),
    bias=re.compile(_PAPER + r"/1"),
    axes=_OIHW,
    dense="out,in",
    flattened="c,h,w",
)
#: Convolutions and norms are called as in timm.
TORCHVISION = Layout(
    name="torchvision",
    convention="torch",
    kernel=re.compile(_CLASSIFIER + r"weight"),
    bias=re.compile(_CLASSIFIER + r"bias"),
    axes=_OIHW,
    dense="out,in",
    flattened="c,h,w",
)

#: Keras's own names of the last years' files: by class, counted from the image upwards.
_COUNTED = re.compile(
    r"(?P<net>(?:.*/)?)(?:layers|_layer_checkpoint_dependencies)/(?P<kind>conv2d|dense)(?:_(?P<n>\d+))?/vars/(?P<part>[01])"
)


@final
@dataclass(frozen=True, slots=True)
class Renamed:
    """Tensors in timm's names and axes.

    ``layout`` is the file's; ``notes`` say what of the file was left out, and why.
    """

    tensors: dict[str, Tensor]
    layout: Layout
    notes: tuple[str, ...] = ()


def rename_vgg(
    found: Mapping[str, Tensor], table: Mapping[str, str], *, classes: int = 1000, window: int = 7, caffe: bool = False
) -> Renamed | None:
    """The convolutions of a VGG, and its three dense layers where they are there; nothing else of a file is taken.

    Parameters
    ----------
    found
        The file's tensors.
    table
        The name of each convolution in ``keras.applications`` (``block3_conv2``) and in timm (``features.12``).
    classes
        Of the network. A last layer with another number of classes is left out, and so are all three.
    window
        Side of the feature map that the first dense layer sees.
    caffe
        Whether the file is a caffemodel.

    Returns
    -------
    None where the file has no such names at all.

    Raises
    ------
    WeightsError
        The file holds the convolutions of another VGG, or one of them twice.
    """
    if not caffe and any(TORCHVISION.kernel.fullmatch(key) for key in found):
        return _torchvision(found, classes, window)
    names = _counted(found, table)
    for layout in (CAFFE,) if caffe else (LAYOUTS[0],) if names else LAYOUTS:
        kernels, biases = names if names else (_matches(layout.kernel, found), _matches(layout.bias, found))
        if any(layer in kernels for layer in table):
            break
    else:
        return None
    held = (("kernel", kernels), ("bias", biases))
    missing = [f"{layer} ({part})" for layer in table for part, tensors in held if layer not in tensors]
    unexpected = sorted((set(kernels) | set(biases)) - set(table) - set(DENSE))
    if missing or unexpected:
        lists = (("missing", missing), ("unexpected", unexpected))
        parts = [f"{word}: {', '.join(names)}" for word, names in lists if names]
        raise WeightsError(f"layers {'; '.join(parts)}")
    taken: dict[str, Tensor] = {}
    for layer, link in table.items():
        if kernels[layer].ndim != 4:
            raise WeightsError(f"the kernel of {layer} has {kernels[layer].ndim} axes, expected 4")
        taken[f"{link}.weight"] = kernels[layer].permute(layout.axes).contiguous()
        taken[f"{link}.bias"] = biases[layer]
    dense = {layer: (kernels[layer], biases[layer]) for layer in DENSE if layer in kernels and layer in biases}
    top, notes = _dense(dense, layout, classes, window)
    return Renamed({**taken, **top}, layout, notes)


def _torchvision(found: Mapping[str, Tensor], classes: int, window: int) -> Renamed:
    rest = {key: tensor for key, tensor in found.items() if not key.startswith("classifier.")}
    kernels, biases = _matches(TORCHVISION.kernel, found), _matches(TORCHVISION.bias, found)
    dense = {layer: (kernels[layer], biases[layer]) for layer in DENSE if layer in kernels and layer in biases}
    top, notes = _dense(dense, TORCHVISION, classes, window)
    return Renamed({**rest, **top}, TORCHVISION, notes)


def _dense(
    found: Mapping[str, tuple[Tensor, Tensor]], layout: Layout, classes: int, window: int
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The three dense layers as timm has them, the first two as convolutions; all of them, or none and why."""
    if not found:
        return {}, ()
    if len(found) < len(DENSE):
        return {}, (f"of the dense layers there are only {', '.join(found)}: they are left out",)
    if len(found["predictions"][1]) != classes:
        count = len(found["predictions"][1])
        return {}, (f"its dense layers are left out: the last one has {count:,} classes, not ImageNet's {classes:,}",)
    taken: dict[str, Tensor] = {}
    for layer, (kernel, bias) in found.items():
        first = layer == "fc1"
        if first and kernel.ndim == 4 and layout.dense == "out,in" and kernel.shape[2:] == (window, window):
            kernel = kernel.flatten(1)  # written as a convolution, as in fully convolutional networks
        if kernel.ndim != 2 or (first and kernel.shape[layout.dense == "out,in"] % window**2):
            raise WeightsError(f"the kernel of {layer} is {tuple(kernel.shape)}, expected a dense layer's")
        flat = kernel.T if layout.dense == "in,out" else kernel  # (out, in)
        if not first:
            taken[f"{DENSE[layer]}.weight"] = (flat if layer == "predictions" else flat[:, :, None, None]).contiguous()
        elif layout.flattened == "h,w,c":
            taken[f"{DENSE[layer]}.weight"] = flat.reshape(len(flat), window, window, -1).permute(0, 3, 1, 2).contiguous()
        else:
            taken[f"{DENSE[layer]}.weight"] = flat.reshape(len(flat), -1, window, window).contiguous()
        taken[f"{DENSE[layer]}.bias"] = bias
    return taken, ()


def _counted(found: Mapping[str, Tensor], table: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, Tensor]] | None:
    """The kernels and biases of Keras's counted names; of several networks in a file, the one with the most convolutions.

    None where the file has no such names.
    """
    nets: dict[str, dict[tuple[str, int], dict[str, Tensor]]] = {}
    for key, tensor in found.items():
        match = _COUNTED.fullmatch(key)
        if match is not None:
            layer = (match["kind"], int(match["n"] or 0))
            nets.setdefault(match["net"], {}).setdefault(layer, {})[match["part"]] = tensor
    if not nets:
        return None
    layers = max(nets.values(), key=lambda net: sum(kind == "conv2d" for kind, _ in net))
    kernels: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for kind, wanted in (("conv2d", tuple(table)), ("dense", tuple(DENSE))):
        there = sorted(layer for layer in layers if layer[0] == kind)
        if kind == "conv2d" and len(there) != len(wanted):
            raise WeightsError(f"layers: {len(there)} convolutions, expected {len(wanted)}")
        if kind == "dense" and len(there) != len(wanted):
            continue  # those of somebody's own classifier
        for name, layer in zip(wanted, there, strict=True):
            kernels |= {name: layers[layer]["0"]} if "0" in layers[layer] else {}
            biases |= {name: layers[layer]["1"]} if "1" in layers[layer] else {}
    return kernels, biases


def _matches(pattern: re.Pattern[str], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names match, by the name of their layer."""
    taken: dict[str, Tensor] = {}
    for key, tensor in found.items():
        match = pattern.fullmatch(key)
        if match is None:
            continue
        groups = {name: value for name, value in match.groupdict().items() if value is not None}
        if "block" in groups:
            layer = f"block{groups['block']}_conv{groups['conv']}"
        else:
            layer = groups.get("layer") or next(name for name in groups if name in DENSE)
        if layer in taken:
            raise WeightsError(f"the file holds {layer} twice, the second time as {key}")
        taken[layer] = tensor
    return taken
