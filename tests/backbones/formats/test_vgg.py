"""VGG from every program: the same numbers out of each file, against NumPy, Keras's own outputs, and torchvision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
import torch
from caffe_schema import net_parameter
from onnx import helper, numpy_helper
from thin import (
    CLASSES,
    DENSE,
    KERAS,
    PAPER,
    as_keras_holds_them,
    golden,
    naive,
    run,
    thin_plan,
    thin_torchvision,
)

from greffon.backbones.formats import vgg
from greffon.backbones.formats.vgg import rename_vgg
from greffon.backbones.network import check_tensors
from greffon.backbones.reading import convert, convolutions, file_format, float32, read_weights
from greffon.backbones.writing import WRITERS, write_weights
from greffon.errors import WeightsError

IMAGES = np.random.default_rng(11).standard_normal((2, 224, 224, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def expected() -> tuple[np.ndarray, np.ndarray]:
    told = [naive(image) for image in IMAGES]
    return np.stack([maps for maps, _ in told]), np.stack([scores for _, scores in told])


def caffe_axes(name: str) -> tuple[np.ndarray, np.ndarray]:
    """As Caffe holds them: (out, in, h, w), and dense ones (out, in) over a map flattened in the order c, h, w."""
    kernel, bias = as_keras_holds_them()[name]
    if kernel.ndim == 4:
        return np.transpose(kernel, (3, 2, 0, 1)), bias
    if name == "fc6":
        out = kernel.shape[1]
        return np.stack([kernel[:, o].reshape(7, 7, -1).transpose(2, 0, 1).ravel() for o in range(out)]), bias
    return kernel.T, bias


# --- one writer a format, none of them greffon's ---------------------------------------------------------------------


def npy_of_lists(path: Path) -> None:
    held = {name: [kernel, bias] for name, (kernel, bias) in as_keras_holds_them().items()}
    with path.open("wb") as file:
        np.save(file, np.array(held, dtype=object), allow_pickle=True)


def npy_of_dicts(path: Path) -> None:
    held = {name: {"weights": kernel, "biases": bias} for name, (kernel, bias) in as_keras_holds_them().items()}
    with path.open("wb") as file:
        np.save(file, np.array(held, dtype=object), allow_pickle=True)


def npz(path: Path) -> None:
    held = {f"{name}_{part}": array for name, both in as_keras_holds_them().items() for part, array in zip("Wb", both, strict=True)}
    with path.open("wb") as file:
        np.savez(file, **held)  # type: ignore[arg-type]  # none of them is called allow_pickle


def keras_2015(path: Path) -> None:
    names = {**dict(zip(PAPER, KERAS, strict=True)), **DENSE}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in names.values()]
        for name, layer in names.items():
            for part, array in zip("Wb", as_keras_holds_them()[name], strict=True):
                file[f"{layer}/{layer}_{part}_1:0"] = array


def keras_2017(path: Path) -> None:
    names = {**dict(zip(PAPER, KERAS, strict=True)), **DENSE}
    with h5py.File(path, "w") as file:
        for name, layer in names.items():
            for part, array in zip(("kernel", "bias"), as_keras_holds_them()[name], strict=True):
                file[f"model_weights/{layer}/{layer}/{part}:0"] = array


def onnx_by_tf2onnx(path: Path) -> None:
    """As in the package that carries VGG16: convolutions are turned, dense layers are not."""
    names = {**dict(zip(PAPER, KERAS, strict=True)), **DENSE}
    tensors = []
    for name, layer in names.items():
        kernel, bias = as_keras_holds_them()[name]
        if kernel.ndim == 4:
            kernel, parts = np.transpose(kernel, (3, 2, 0, 1)), ("convolution/ReadVariableOp:0", "Squeeze:0")
        else:
            parts = ("MatMul/ReadVariableOp:0", "BiasAdd/ReadVariableOp:0")
        for part, array in zip(parts, (kernel, bias), strict=True):
            tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), f"vgg16/{layer}_1/{part}"))
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], tensors)), path)


def caffe_old(path: Path) -> None:
    """Layers of the first kind, and four sides for everything: as the VGG team's own files are."""
    net = net_parameter()(name="VGG_ILSVRC_16_layers")
    for name in (*PAPER, *DENSE):
        layer = net.layers.add(name=name, type=4, bottom=["x"])
        for array in caffe_axes(name):
            sides = (1,) * (4 - array.ndim) + array.shape
            layer.blobs.add(num=sides[0], channels=sides[1], height=sides[2], width=sides[3], data=array.ravel().tolist())
        net.layers.add(name=f"relu_{name}", type=18)
    path.write_bytes(net.SerializeToString())


def caffe_new(path: Path) -> None:
    net = net_parameter()(name="VGG")
    for name in (*PAPER, *DENSE):
        layer = net.layer.add(name=name, type="Convolution")
        for array in caffe_axes(name):
            layer.blobs.add(data=array.ravel().tolist()).shape.dim.extend(array.shape)
    path.write_bytes(net.SerializeToString())


def caffe_doubles(path: Path) -> None:
    net = net_parameter()()
    for name in (*PAPER, *DENSE):
        layer = net.layer.add(name=name)
        for array in caffe_axes(name):
            layer.blobs.add(double_data=array.astype(float).ravel().tolist()).shape.dim.extend(array.shape)
    path.write_bytes(net.SerializeToString())


def torchvision_file(path: Path) -> None:
    model = thin_torchvision()
    with torch.no_grad():
        for link, name in zip([k[:-7] for k in model.state_dict() if k.endswith(".weight")], (*PAPER, *DENSE), strict=True):
            kernel, bias = (torch.from_numpy(np.ascontiguousarray(array)) for array in caffe_axes(name))
            module = model.get_submodule(link)
            module.weight.copy_(kernel)  # type: ignore[union-attr, operator]
            module.bias.copy_(bias)  # type: ignore[union-attr, operator]
    torch.save(model.state_dict(), path)


WRITE: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "npy of lists": (npy_of_lists, "npy", "NumPy"),
    "npy of dicts": (npy_of_dicts, "npy", "NumPy"),
    "npz": (npz, "npz", "NumPy"),
    "keras 2015": (keras_2015, "keras-h5", "Keras"),
    "keras 2017": (keras_2017, "keras-h5", "Keras"),
    "tf2onnx": (onnx_by_tf2onnx, "onnx", "ONNX from Keras"),
    "caffe, old": (caffe_old, "caffe", "Caffe"),
    "caffe, new": (caffe_new, "caffe", "Caffe"),
    "caffe, doubles": (caffe_doubles, "caffe", "Caffe"),
    "torchvision": (torchvision_file, "torch", "torchvision"),
}


@pytest.mark.parametrize("name", WRITE)
def test_every_format_gives_the_same_network(name: str, expected: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    write, kind, layout = WRITE[name]
    path = tmp_path / "weights"
    write(path)
    assert file_format(path) == kind
    plan = thin_plan()
    came = convert(plan, read_weights(path), kind)
    assert came.layout == layout and came.notes == ()
    assert came.convention == ("torch" if layout == "torchvision" else "caffe")
    check_tensors(plan, came.tensors)
    for found, wanted in zip(run(plan, came.tensors, IMAGES), expected, strict=True):
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["npy of lists", "caffe, old", "keras 2015", "torchvision"])
@pytest.mark.parametrize("fault", ["axes", "flattened", "dense"])
def test_a_disturbed_table_gives_another_network(
    name: str, fault: str, expected: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above would say if a transpose were wrong."""
    write, kind, layout = WRITE[name]
    path = tmp_path / "weights"
    write(path)

    def wrong(one: vgg.Layout) -> vgg.Layout:
        if fault == "axes":
            o, i, h, w = one.axes
            return replace(one, axes=(o, i, w, h))
        if fault == "flattened":
            return replace(one, flattened="c,h,w" if one.flattened == "h,w,c" else "h,w,c")
        return replace(one, dense="in,out" if one.dense == "out,in" else "out,in")

    monkeypatch.setattr(vgg, "CAFFE", wrong(vgg.CAFFE))
    monkeypatch.setattr(vgg, "TORCHVISION", wrong(vgg.TORCHVISION))
    monkeypatch.setattr(vgg, "LAYOUTS", tuple(wrong(one) for one in vgg.LAYOUTS))
    plan = thin_plan()
    try:
        came = convert(plan, read_weights(path), kind)
        check_tensors(plan, came.tensors)
    except WeightsError:
        assert fault == "dense"  # the shapes tell
        return
    if layout == "torchvision" and fault == "axes":
        return  # its convolutions are taken as they are
    scores = run(plan, came.tensors, IMAGES)[1]
    assert np.abs(scores - expected[1]).max() > 0.01 * np.abs(expected[1]).max()


# --- Keras, by Keras itself ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return golden(tmp_path_factory.mktemp("keras"))


@pytest.mark.parametrize("name", ["top.weights.h5", "top.keras", "top.h5", "notop.weights.h5"])
def test_keras_files_give_what_keras_gives(name: str, keras: dict[str, Path]) -> None:
    plan, path = thin_plan(), keras[name]
    images = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3)).astype(np.float32) / 128 - 1
    told = np.load(keras["expected.npz"])
    came = convert(plan, read_weights(path), file_format(path))
    check_tensors(plan, came.tensors)
    assert came.layout == "Keras" and ("head.fc.weight" in came.tensors) == name.startswith("top")
    whole = {key: came.tensors.get(key, torch.zeros(tensor.shape)) for key, tensor in plan.model.state_dict().items()}
    maps, scores = run(plan, whole, images)
    assert np.abs(maps - told["block5"]).max() < 1e-4 * np.abs(told["block5"]).max()
    if name.startswith("top"):
        found = torch.from_numpy(scores).softmax(1).numpy()
        assert np.abs(found - told["predictions"]).max() < 1e-4 and told["predictions"].std() > 0.02


@pytest.mark.parametrize("name", ["own.keras", "own.weights.h5"])
def test_of_somebodys_own_network_the_vgg_in_it_is_taken(name: str, keras: dict[str, Path]) -> None:
    plan = thin_plan()
    base = convert(plan, read_weights(keras["notop.weights.h5"])).tensors
    came = convert(plan, read_weights(keras[name]), file_format(keras[name]))
    assert came.tensors.keys() == base.keys()
    assert all(torch.equal(came.tensors[key], base[key]) for key in base)


# --- torchvision, and the way back -----------------------------------------------------------------------------------


def test_torchvisions_own_class_gives_the_same_scores() -> None:
    plan, reference = thin_plan(), thin_torchvision()
    came = convert(plan, reference.state_dict(), "torch")
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    with torch.no_grad():
        wanted = reference(images).numpy()
    found = run(plan, came.tensors, IMAGES)[1]
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("to", WRITERS)
def test_what_is_written_is_read_again(to: str, tmp_path: Path) -> None:
    plan = thin_plan()
    caffe_new(tmp_path / "caffe")
    tensors = float32(convert(plan, read_weights(tmp_path / "caffe"), "caffe").tensors)
    for held in (tensors, {key: tensors[key] for key in plan.trunk_keys()}):
        write_weights(plan, held, tmp_path / "out", to, about={"from": "here"})
        came = convert(plan, read_weights(tmp_path / "out"), file_format(tmp_path / "out"))
        assert came.tensors.keys() == held.keys()
        assert all(torch.equal(came.tensors[key], held[key]) for key in held)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["caffe", "out"]


def test_torchvision_reads_what_is_written_for_it(tmp_path: Path) -> None:
    plan, reference = thin_plan(), thin_torchvision()
    came = convert(plan, reference.state_dict(), "torch")
    write_weights(plan, came.tensors, tmp_path / "w.pth", "torchvision", about={})
    thin_torchvision().load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(torch.load(tmp_path / "w.pth", weights_only=True).values(),
                                                 reference.state_dict().values(), strict=True))  # fmt: skip


# --- what does not belong --------------------------------------------------------------------------------------------


def caffe_tensors() -> dict[str, torch.Tensor]:
    return {f"{name}/{i}": torch.from_numpy(np.ascontiguousarray(array))
            for name in (*PAPER, *DENSE) for i, array in enumerate(caffe_axes(name))}  # fmt: skip


def test_dense_layers_come_all_or_not_at_all() -> None:
    plan, found = thin_plan(), caffe_tensors()
    table = convolutions(plan)
    for gone in ("fc6", "fc8"):
        part = rename_vgg({k: t for k, t in found.items() if not k.startswith(gone)}, table, classes=CLASSES, caffe=True)
        assert part is not None and "head.fc.weight" not in part.tensors and len(part.tensors) == 26
        assert "of the dense layers there are only" in part.notes[0]
    other = rename_vgg(found, table, classes=1000, caffe=True)
    assert other is not None and len(other.tensors) == 26
    assert other.notes == ("its dense layers are left out: the last one has 5 classes, not ImageNet's 1,000",)
    # fc6 written as a convolution, as in fully convolutional networks: the same numbers.
    as_convolution = {**found, "fc6/0": found["fc6/0"].reshape(-1, 8, 7, 7)}
    both = [rename_vgg(one, table, classes=CLASSES, caffe=True) for one in (found, as_convolution)]
    assert both[0] is not None and both[1] is not None
    assert torch.equal(both[0].tensors["pre_logits.fc1.weight"], both[1].tensors["pre_logits.fc1.weight"])
    with pytest.raises(WeightsError, match=r"the kernel of fc1 is \(4, 8, 3, 3\), expected a dense layer's"):
        rename_vgg({**found, "fc6/0": torch.zeros(4, 8, 3, 3)}, table, classes=CLASSES, caffe=True)
    with pytest.raises(WeightsError, match="the kernel of fc1"):
        rename_vgg({**found, "fc6/0": torch.zeros(4, 391)}, table, classes=CLASSES, caffe=True)


def test_counted_layers_of_another_depth_are_told() -> None:
    plan = thin_plan()
    names = ["conv2d", *(f"conv2d_{i}" for i in range(1, 16))]
    found = {f"layers/{name}/vars/{part}": torch.zeros(3, 3, 4, 4) for name in names for part in (0, 1)}
    with pytest.raises(WeightsError, match="these are not the weights of vgg16: layers: 16 convolutions, expected 13"):
        convert(plan, found)


def test_the_order_of_counted_layers_is_that_of_their_numbers() -> None:
    """conv2d_10 comes after conv2d_2, whatever the alphabet says."""
    table = {f"block1_conv{i}": f"features.{i}" for i in range(1, 13)}
    names = {i: "conv2d" if i == 1 else f"conv2d_{i - 1}" for i in range(1, 13)}
    found = {f"layers/{names[i]}/vars/{p}": torch.full((1, 1, 1, 1) if not p else (1,), float(i)) for i in names for p in (0, 1)}
    renamed = rename_vgg(dict(sorted(found.items())), table)
    assert renamed is not None
    assert [renamed.tensors[f"features.{i}.weight"].item() for i in range(1, 13)] == list(range(1, 13))
