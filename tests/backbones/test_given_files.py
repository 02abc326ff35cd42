"""Weights in a file that the user gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn
from vggs import LAYERS, same, vgg_plan, vgg_tensors, write_keras

from greffon.backbones.catalogue import entry
from greffon.backbones.network import Backbone, blueprint
from greffon.backbones.reading import convert, read_weights
from greffon.backbones.weights import find_weights
from greffon.errors import WeightsError
from greffon.progress import Silent


@pytest.mark.parametrize(
    ("kernel", "bias"),
    [("{0}/{0}_W_1:0", "{0}/{0}_b_1:0"), ("{0}/{0}/kernel:0", "{0}/{0}/bias:0")],
)
@pytest.mark.parametrize("depth", [16, 19])
def test_keras_files_are_the_same_tensors(depth: int, kernel: str, bias: str, tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_keras(path, depth, kernel, bias)
    progress = Silent()
    assert same(find_weights(vgg_plan(depth), path, progress), vgg_tensors(depth))
    assert len(progress.warnings) == 1 and "published ones" in progress.warnings[0]


def test_onnx_torch_and_safetensors_are_the_same_tensors(tmp_path: Path) -> None:
    tensors = vgg_tensors(16)
    links = [key.removesuffix(".weight") for key in tensors if key.endswith(".weight")]
    exported = []
    for layer, link in zip(LAYERS[16], links, strict=True):
        exported += [
            numpy_helper.from_array(tensors[f"{link}.weight"].numpy(), f"net/{layer}_1/convolution/ReadVariableOp:0"),
            numpy_helper.from_array(tensors[f"{link}.bias"].numpy(), f"net/{layer}_1/Squeeze:0"),
        ]
    exported.append(numpy_helper.from_array(np.zeros((4, 4), np.float32), "net/dense/Cast/ReadVariableOp:0"))
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], exported)), tmp_path / "w.onnx")
    torch.save({"state_dict": tensors}, tmp_path / "w.pth")
    save_file({key: tensor.double() for key, tensor in tensors.items()}, tmp_path / "w.safetensors")
    plan = vgg_plan(16)
    for name in ("w.onnx", "w.pth", "w.safetensors"):
        assert same(find_weights(plan, tmp_path / name, Silent()), tensors), name
    backbone = Backbone(plan, convert(plan, read_weights(tmp_path / "w.onnx")).tensors)
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    naive = image
    with torch.no_grad():
        for layer, link in zip(LAYERS[16], links, strict=True):
            if layer.endswith("conv1") and layer != "block1_conv1":
                naive = nn.functional.max_pool2d(naive, 2)
            naive = nn.functional.conv2d(naive, tensors[f"{link}.weight"], tensors[f"{link}.bias"], padding=1).relu()
        assert torch.allclose(backbone.below("none")(image), nn.functional.max_pool2d(naive, 2), rtol=1e-4, atol=1e-6)


def test_files_of_another_network_are_one_clear_error(tmp_path: Path) -> None:
    write_keras(tmp_path / "vgg19.h5", 19)
    write_keras(tmp_path / "vgg16.h5", 16)
    tensors = vgg_tensors(16)
    files: dict[str, dict[str, Tensor]] = {
        "resnet": {"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.bias": torch.zeros(64)},
        "short": {key: t for key, t in tensors.items() if key != "features.28.bias"},
        "long": {**tensors, "features.99.weight": torch.zeros(1)},
        "shape": {**tensors, "features.0.weight": tensors["features.0.weight"].permute(2, 3, 1, 0).contiguous()},
        "whole": {**tensors, "features.0.weight": torch.zeros(64, 3, 3, 3, dtype=torch.int8)},
    }
    for name, content in files.items():
        save_file(content, tmp_path / name)
    expected = [
        (16, "vgg19.h5", "layers unexpected: block3_conv4, block4_conv4, block5_conv4"),
        (19, "vgg16.h5", r"layers missing: block3_conv4 \(kernel\)"),
        (16, "resnet", "missing: .*unexpected: bn1.bias, conv1.weight"),
        (16, "short", "missing: features.28.bias"),
        (16, "long", "unexpected: features.99.weight"),
        (16, "shape", r"of another shape: features.0.weight \(3, 3, 3, 64\) instead of \(64, 3, 3, 3\)"),
        (16, "whole", r"of another kind: features.0.weight torch.int8"),
    ]
    for depth, name, message in expected:
        with pytest.raises(WeightsError, match=rf"{name}: these are not the weights of vgg{depth}.*{message}"):
            find_weights(vgg_plan(depth), tmp_path / name, Silent())
    with pytest.raises(WeightsError, match=r"vgg16\.h5: these are not the weights of resnet18"):
        find_weights(blueprint(entry("resnet18")), tmp_path / "vgg16.h5", Silent())


def test_other_weights_than_the_published_ones_are_warned_of(tmp_path: Path) -> None:
    save_file(vgg_tensors(16), tmp_path / "w")
    progress = Silent()
    find_weights(vgg_plan(16), tmp_path / "w", progress)
    assert len(progress.warnings) == 1 and "are not the published ones of vgg16" in progress.warnings[0]
    save_file(vgg_tensors(19), tmp_path / "w")
    progress = Silent()
    find_weights(vgg_plan(19), tmp_path / "w", progress)
    assert "cannot be told to be, or not to be, the published ones of vgg19" in progress.warnings[0]
