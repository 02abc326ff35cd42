"""Weight files as bytes: what each format's reader gives, and what it says to damaged and hostile ones."""

from __future__ import annotations

import os
import pickle  # to write a hostile file; nothing is unpickled
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import Tensor

from greffon.backbones.formats.caffe import read_caffe
from greffon.backbones.formats.keras_h5 import read_keras_h5
from greffon.backbones.formats.onnx import read_onnx
from greffon.backbones.formats.renames import rename_efficientnet
from greffon.backbones.formats.torch import read_safetensors, read_torch
from greffon.backbones.formats.vgg import rename_vgg
from greffon.backbones.reading import read_weights
from greffon.errors import WeightsError

VALUES = {
    "first/a": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "first/b": np.array([1, -2.5], np.float32),
    "n": np.array(3),
}


def write_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for key, value in VALUES.items():
            file[key] = value
        file["words"] = "no numbers"


def write_onnx(path: Path) -> None:
    tensors = [numpy_helper.from_array(np.asarray(value), key) for key, value in VALUES.items()]
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], tensors)), path)


def write_torch(path: Path) -> None:
    torch.save({key: torch.from_numpy(np.asarray(value)) for key, value in VALUES.items()}, path)


def write_legacy_torch(path: Path) -> None:
    tensors = {key: torch.from_numpy(np.asarray(value)) for key, value in VALUES.items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def write_safetensors(path: Path) -> None:
    save_file({key: torch.from_numpy(np.asarray(value)) for key, value in VALUES.items()}, path)


WRITERS: list[Callable[[Path], None]] = [write_h5, write_onnx, write_torch, write_legacy_torch, write_safetensors]
each_format = pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)


@each_format
def test_a_file_gives_its_tensors_whatever_it_is_called(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "weights.data"
    write(path)
    found = read_weights(path)
    assert set(found) == set(VALUES)
    for key, value in VALUES.items():
        assert found[key].shape == np.shape(value) and np.array_equal(found[key].numpy(), value)


@each_format
def test_a_truncated_file_is_damaged(write: Callable[[Path], None], tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    write(whole)
    data = whole.read_bytes()
    for part in (1, 3, 9, 16, len(data) // 4, len(data) // 2, len(data) - 1):
        path = tmp_path / "part"
        path.write_bytes(data[:part])
        with pytest.raises(WeightsError, match="part"):
            read_weights(path)


@each_format
def test_a_file_with_flipped_bytes_gives_tensors_or_one_error(write: Callable[[Path], None], tmp_path: Path) -> None:
    """Never another exception. Not every flip can be seen: that is what fingerprints are for."""
    path = tmp_path / "file"
    write(path)
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        flipped = bytearray(data)
        for place in random.integers(0, min(len(data), 1500), 3):
            flipped[place] ^= int(random.integers(1, 256))
        path.write_bytes(flipped)
        try:
            found = read_weights(path)
        except WeightsError as error:
            assert str(path) in error.what
        else:
            assert all(isinstance(tensor, Tensor) for tensor in found.values())


def test_what_is_no_weight_file_is_told_so(tmp_path: Path) -> None:
    for name, data, message in (
        ("empty", b"", "the file is empty"),
        ("text", b"Dear all,\nthese are the weights", "not a weight file of a known format"),
        ("png", b"\x89PNG\r\n\x1a\n" + bytes(40), "not a weight file of a known format"),
        ("hdf", b"\x89HDF\r\n\x1a\n" + bytes(40), "not an HDF5 file, or a damaged one"),
        ("zip", b"PK\x03\x04" + bytes(40), "not a file of PyTorch tensors"),
        ("header", (2**62).to_bytes(8, "little") + b"{" + bytes(40), "not a safetensors file, or a damaged one"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(WeightsError, match=rf"{name}.*{message}"):
            read_weights(path)
    with pytest.raises(WeightsError, match=r"nowhere: cannot be read \(No such file"):
        read_weights(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match="not a file"):
        read_weights(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="not a file"):  # and it does not wait for a writer
        read_weights(tmp_path / "pipe")
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(WeightsError, match="not a file of PyTorch tensors"):
        read_weights(tmp_path / "a.keras")


# --- PyTorch -------------------------------------------------------------------------------------------------------


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, zipped: bool) -> None:
    path, made = tmp_path / "hostile.pth", tmp_path / "made"
    torch.save({"w": torch.zeros(2), "x": Hostile(made)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"hostile\.pth: not a file of PyTorch tensors"):
        read_weights(path)
    assert not made.exists()
    torch.load(path, weights_only=False)  # our own file: it would have run
    assert made.exists()


def test_a_bare_pickle_is_not_run(tmp_path: Path) -> None:
    path, made = tmp_path / "bare", tmp_path / "made"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(Hostile(made), protocol))
        with pytest.raises(WeightsError):
            read_weights(path)
        with pytest.raises(WeightsError):
            read_torch(path)
    assert not made.exists()


def test_state_dicts_are_unwrapped(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    weight = torch.arange(4.0)
    for content in (
        {"state_dict": {"module.w": weight}, "epoch": 3},
        {"model": {"w": torch.nn.Parameter(weight)}},
        {"state_dict_ema": {"w": weight}},
    ):
        torch.save(content, path)
        found = read_torch(path)
        assert list(found) == ["w"] and torch.equal(found["w"], weight) and not found["w"].requires_grad


def test_what_is_not_tensors_under_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    empty = torch.zeros(2, device="meta")
    sparse = torch.eye(3).to_sparse()
    for content in ([torch.zeros(2)], {"w": "text"}, {3: torch.zeros(2)}, torch.zeros(2), {"w": empty}, {"w": sparse}):
        torch.save(content, path)
        with pytest.raises(WeightsError, match=r"expected tensors under names|w is not a plain tensor"):
            read_torch(path)


def test_safetensors_keeps_its_metadata(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "w", metadata={"from": "here"})
    tensors, about = read_safetensors(tmp_path / "w")
    assert tensors["w"].dtype == torch.bfloat16 and about == {"from": "here"}


# --- Keras and ONNX ------------------------------------------------------------------------------------------------


def test_other_byte_orders_and_widths_of_hdf5_are_the_same_numbers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w", "w") as file:
        for kind in (">f4", "<f4", ">f8", "<f2", ">i2", "g"):
            file[kind.replace("<", "little ").replace(">", "big ")] = np.array([1, -2.5 if "f" in kind else -2], kind)
    found = read_weights(tmp_path / "w")
    assert len(found) == 6
    for key, tensor in found.items():
        assert tensor.tolist() == ([1, -2.5] if "f" in key else [1, -2]), key


def test_data_outside_an_hdf5_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(np.arange(4.0, dtype=np.float32).tobytes())
    with h5py.File(tmp_path / "external", "w") as file:
        file.create_dataset("w", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 16)])
    with h5py.File(tmp_path / "virtual", "w") as file:
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource(tmp_path / "other", "w", (4,))
        file.create_virtual_dataset("w", layout)
    with h5py.File(tmp_path / "bomb", "w") as file:
        file.create_dataset("w", (2**40,), "f4", chunks=(2**20,), compression="gzip")
    for name in ("external", "virtual", "bomb"):
        with pytest.raises(WeightsError, match="the data set w is too large, or lies outside the file"):
            read_keras_h5(tmp_path / name)


def test_tensors_outside_an_onnx_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret")
    path = tmp_path / "w.onnx"
    path.write_bytes(helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString())
    with pytest.raises(WeightsError, match="keeps tensors outside the file"):
        read_onnx(path)


@pytest.mark.parametrize(
    ("package", "read"),
    [("h5py", read_keras_h5), ("onnx", read_onnx), ("google.protobuf", read_caffe)],
    ids=["h5py", "onnx", "protobuf"],
)  # fmt: skip
def test_a_missing_package_is_named_with_its_extra(
    package: str, read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(WeightsError, match=rf"needs the package {package.removeprefix('google.')}\npip install .greffon\["):
        read(tmp_path / "w")


# --- renames -------------------------------------------------------------------------------------------------------

TABLE = {"block1_conv1": "features.0", "block1_conv2": "features.2"}


def vgg_tensors(found: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = rename_vgg(found, TABLE)
    return renamed.tensors if renamed is not None else {}


def test_names_and_not_shapes_decide_how_a_kernel_lies() -> None:
    """A kernel of (3, 3, 3, 3) fits both ways."""
    kernel, bias = torch.arange(81.0).reshape(3, 3, 3, 3), torch.zeros(3)
    keras = {f"{layer}/{layer}_{part}_1:0": t for layer in TABLE for part, t in (("W", kernel), ("b", bias))}
    onnx_names = {"convolution/ReadVariableOp:0": kernel, "Squeeze:0": bias}
    exported = {f"net/{layer}_1/{name}": t for layer in TABLE for name, t in onnx_names.items()}
    for h in range(3):
        for w in range(3):
            for i in range(3):
                for o in range(3):
                    assert vgg_tensors(keras)["features.2.weight"][o, i, h, w] == kernel[h, w, i, o]
    assert torch.equal(vgg_tensors(exported)["features.0.weight"], kernel)


@pytest.mark.parametrize(
    "names",
    [
        "{0}/{0}_W_1:0 {0}/{0}_b_1:0",
        "{0}/{0}/kernel:0 {0}/{0}/bias:0",
        "model_weights/{0}/{0}_1/kernel:0 model_weights/{0}/{0}_1/bias:0",
        "{0}/vgg16/{0}/kernel {0}/vgg16/{0}/bias",
    ],
)
def test_the_ways_in_which_keras_has_written_names(names: str) -> None:
    found = {}
    for number, layer in enumerate(TABLE):
        kernel, bias = names.format(layer).split()
        found |= {kernel: torch.full((3, 3, 4, 5), float(number)), bias: torch.full((5,), float(number))}
    renamed = vgg_tensors({**found, "fc1/fc1_W_1:0": torch.zeros(2, 2)})
    assert {key: (tuple(t.shape), t.max().item()) for key, t in renamed.items()} == {
        "features.0.weight": ((5, 4, 3, 3), 0.0),
        "features.0.bias": ((5,), 0.0),
        "features.2.weight": ((5, 4, 3, 3), 1.0),
        "features.2.bias": ((5,), 1.0),
    }


def test_layers_too_many_too_few_or_twice_are_refused() -> None:
    kernel, bias = torch.zeros(3, 3, 4, 5), torch.zeros(5)
    found = {f"{layer}/{layer}_{part}_1:0": t for layer in TABLE for part, t in (("W", kernel), ("b", bias))}
    assert rename_vgg({}, TABLE) is None and rename_vgg({"features.0.weight": kernel}, TABLE) is None
    with pytest.raises(WeightsError, match="unexpected: block1_conv3"):
        rename_vgg({**found, "block1_conv3/block1_conv3_W_1:0": kernel}, TABLE)
    with pytest.raises(WeightsError, match=r"missing: block1_conv2 \(bias\)"):
        rename_vgg({key: t for key, t in found.items() if key != "block1_conv2/block1_conv2_b_1:0"}, TABLE)
    with pytest.raises(WeightsError, match="holds block1_conv1 twice"):
        rename_vgg({**found, "x/block1_conv1/kernel:0": kernel}, TABLE)
    with pytest.raises(WeightsError, match="the kernel of block1_conv2 has 1 axes"):
        rename_vgg({**found, "block1_conv2/block1_conv2_W_1:0": bias}, TABLE)


def test_efficientnet_names() -> None:
    keys = {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.running_mean": "bn1.running_mean",
        "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
        "_blocks.0._bn1.bias": "blocks.0.0.bn1.bias",
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
        "_blocks.1._expand_conv.weight": "blocks.1.0.conv_pw.weight",
        "_blocks.1._bn0.weight": "blocks.1.0.bn1.weight",
        "_blocks.1._bn1.weight": "blocks.1.0.bn2.weight",
        "_blocks.1._bn2.weight": "blocks.1.0.bn3.weight",
        "_blocks.1._project_conv.weight": "blocks.1.0.conv_pwl.weight",
        "_blocks.2._conv.weight": "_blocks.2._conv.weight",
        "_fc.bias": "classifier.bias",
        "strange": "strange",
    }
    found = {key: torch.tensor(float(number)) for number, key in enumerate(keys)}
    renamed = rename_efficientnet(found, ["blocks.0.0", "blocks.1.0"])
    assert list(renamed) == list(keys.values()) and [t.item() for t in renamed.values()] == list(range(len(keys)))


@each_format
def test_tensors_do_not_change_with_their_file(write: Callable[[Path], None], tmp_path: Path) -> None:
    """A mapped file would be another one after its fingerprint was taken."""
    path = tmp_path / "w"
    write(path)
    found = read_weights(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert np.array_equal(found["first/a"].numpy(), VALUES["first/a"])
