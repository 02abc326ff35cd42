"""The real keras.applications beside greffon: every layout, with and without the dense layers. Needs an environment with Keras.

Make it with ``make benchmarks/.venv-keras/.installed``; without it these tests are skipped.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from greffon.backbones import blueprint
from greffon.backbones.catalogue import entry
from greffon.backbones.network import Backbone
from greffon.backbones.reading import convert, file_format, float32, read_weights

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "benchmarks" / ".venv-keras" / "bin" / "python"
SCRIPT = Path(__file__).parent / "formats" / "golden" / "keras_beside.py"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PYTHON.is_file(), reason="there is no environment with Keras")]


@pytest.mark.parametrize("name", ["VGG16", "VGG19"])
@pytest.mark.parametrize(
    ("top", "layout"), [("top", "weights.h5"), ("top", "keras"), ("top", "h5"), ("notop", "weights.h5"), ("notop", "h5")]
)
def test_the_network_of_keras_is_ours(name: str, top: str, layout: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(PYTHON), str(SCRIPT), name, top, layout, str(tmp_path)], capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    path, told = tmp_path / f"w.{layout}", np.load(tmp_path / "told.npz")
    plan = blueprint(entry(name.lower()))
    came = convert(plan, read_weights(path), file_format(path))
    backbone = Backbone(plan, float32(came.tensors))
    assert came.layout == "Keras" and came.notes == () and backbone.has_classifier == (top == "top")
    images = torch.from_numpy(told["images"]).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        maps = backbone.below("none")(images)
        found = maps.permute(0, 2, 3, 1).numpy()
        assert np.abs(found - told["block5"]).max() < 1e-4 * np.abs(told["block5"]).max()
        if top == "top":
            predictions = backbone.classify(maps).softmax(1).numpy()
            assert np.abs(predictions - told["predictions"]).max() < 1e-4 * told["predictions"].max()
            assert predictions.std() > 0 and np.array_equal(predictions.argmax(1), told["predictions"].argmax(1))
