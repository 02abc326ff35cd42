"""What a graphics processor computes: as near to the processor's figures as its precision says, and the same every time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from greffon import adapt, classify, evaluate, predict, train
from greffon.activations import Tap, TorchEngine, fidelity, steady_kernels
from greffon.demo import write_digits
from greffon.jobs.adapt import Above
from greffon.jobs.train import FineTuning
from greffon.progress import Silent
from greffon.training import Recipe, find_rate, fit
from greffon.transfer.inductive import grown_on
from growing import drawn_network, held, started

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA on this machine")

SMALL: dict[str, Any] = {"backbone": "efficientnet-lite0", "size": 64}
LAST = "blocks.6"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda") / "digits"
    write_digits(folder, images=300)
    return folder


def tuning(epochs: int) -> FineTuning:
    return FineTuning(views=2, recipe=Recipe(epochs=epochs, batch=32, learning_rate=0.0, head_learning_rate=0.0))


@pytest.mark.parametrize(("architecture", "size"), [("vgg16", 224), ("test_resnet", 64), ("test_efficientnet", 64)])
def test_features_in_float32_are_the_processor_s(architecture: str, size: int) -> None:
    network = drawn_network(architecture, size)
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)
    for tap in (Tap("pooled"), Tap("map", network.stages[-1])):
        here = TorchEngine(network, tap, "float32", "cpu", batch=4, keep="float32").run(images).astype(np.float64)
        there = TorchEngine(network, tap, "float32", "cuda", batch=4, keep="float32").run(images).astype(np.float64)
        assert np.abs(here - there).max() < 2e-5 * np.abs(here).max()  # TF32 strays by some 1e-3


def test_bfloat16_is_near_and_the_same_in_every_run() -> None:
    network = drawn_network("vgg16", 224)
    images = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), np.uint8)
    engine = TorchEngine(network, Tap("pooled"), "bfloat16", "cuda")
    assert fidelity(network, engine, images).cosine_mean > 0.999
    assert np.array_equal(engine.run(images), engine.run(images))
    assert np.array_equal(engine.run(images), TorchEngine(network, Tap("pooled"), "bfloat16", "cuda").run(images))


def test_kernels_keep_float32_whole_and_are_put_back() -> None:
    before = torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic
    with steady_kernels("float32"):
        assert torch.backends.cudnn.enabled and torch.backends.cudnn.deterministic
        x, w = torch.randn(2, 64, 32, 32, device="cuda"), torch.randn(64, 64, 3, 3, device="cuda")
        exact = torch.nn.functional.conv2d(x.double(), w.double())
        assert (torch.nn.functional.conv2d(x, w).double() - exact).abs().max() < 1e-5 * exact.abs().max()
    assert (torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic) == before


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_twice_gives_the_same_weights(precision: Literal["float32", "bfloat16"]) -> None:
    network, results = drawn_network(), []
    for _ in range(2):
        drawn, some, looked_at = held(network, "layer3")
        recipe = Recipe(epochs=2, batch=7, learning_rate=1e-3, head_learning_rate=1e-2, seed=5, precision=precision, winograd=False,
                        ema=0.5, mix="cutmix", dropout=0.2, l2_sp=0.01)  # fmt: skip
        module = grown_on(network, started(network, "layer3", drawn, some), recipe)
        results.append(fit(module, drawn, some, looked_at, recipe, progress=Silent()).state)
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_training_in_float32_is_the_processor_s_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    network, results = drawn_network(), []
    for cuda in (True, False):
        if not cuda:
            monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        drawn, some, looked_at = held(network, "layer3")
        recipe = Recipe(epochs=1, batch=7, learning_rate=1e-3, head_learning_rate=1e-2, seed=5, winograd=False)
        module = grown_on(network, started(network, "layer3", drawn, some), recipe)
        results.append(fit(module, drawn, some, looked_at, recipe, progress=Silent()).history[-1].loss)
    assert results[0] == pytest.approx(results[1], rel=1e-3)


def test_the_learning_rate_is_found() -> None:
    network = drawn_network()
    drawn, some, _ = held(network, "layer3")
    recipe = Recipe(epochs=1, batch=7, learning_rate=1e-3, head_learning_rate=1e-2, seed=5, winograd=False)
    curve = find_rate(grown_on(network, started(network, "layer3", drawn, some), recipe), drawn, some, recipe, progress=Silent())
    assert 1e-7 < curve.suggestion < 10


def test_a_head_and_fine_tuning_from_files_to_a_model(digits: Path, tmp_path: Path) -> None:
    train(digits, out=tmp_path / "head", **SMALL)
    train(digits, out=tmp_path / "tuned", unfreeze=LAST, tuning=tuning(3), **SMALL)
    for name in ("head", "tuned"):
        told = json.loads((tmp_path / name / "metrics.json").read_text())
        assert told["accuracy"] > 0.6
        assert evaluate(tmp_path / name, digits).evaluation.accuracy > 0.7


def test_a_model_answers_the_same_without_the_graphics_processor(digits: Path, tmp_path: Path) -> None:
    train(digits, out=tmp_path / "m", unfreeze=LAST, tuning=tuning(2), precision="float32", **SMALL)
    photos = sorted(str(path) for path in digits.rglob("*.png"))[:40]
    here = {str(one.path): one.probability for one in predict(tmp_path / "m", photos)}
    words = [sys.executable, "-m", "greffon", "predict", str(tmp_path / "m"), *photos, "--json"]
    told = subprocess.run(words, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=True)
    there = {row["path"]: row["probability"] for row in map(json.loads, told.stdout.splitlines())}
    assert len(there) == len(photos)
    assert max(abs(here[path] - there[path]) for path in photos) < 1e-3


CHILD = """
import sys
from greffon import train
from greffon.jobs.train import FineTuning
from greffon.training import Recipe
recipe = Recipe(epochs=12, batch=16, ema=0.9, mix="mixup", learning_rate=0.0, head_learning_rate=0.0)
train(sys.argv[1], out=sys.argv[2], backbone="efficientnet-lite0", size=64, unfreeze="blocks.6", resume="resume" in sys.argv,
      tuning=FineTuning(views=2, recipe=recipe))
"""


def test_killed_and_resumed_it_ends_with_the_same_model(digits: Path, tmp_path: Path) -> None:
    def run(out: Path, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", CHILD, str(digits), str(out), *more])

    assert run(tmp_path / "whole").wait(300) == 0
    child, file = run(tmp_path / "cut"), tmp_path / "cut" / "checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not file.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait(60)
    assert file.exists()
    assert run(tmp_path / "cut", "resume").wait(300) == 0
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def others(digits: Path) -> Path:
    """The same digits, white on black."""
    folder = digits.parent / "others"
    for path in sorted(digits.rglob("*.png")):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - np.asarray(Image.open(path).convert("RGB"))).save(folder / path.parent.name / path.name)
    return folder


@pytest.mark.parametrize("method", ["coral", "mcc", "dann", "jan"])
def test_adapting(method: str, digits: Path, others: Path, tmp_path: Path) -> None:
    above = Above(views=1, recipe=Recipe(epochs=2, batch=32))
    told = adapt(digits, target=others, out=tmp_path / "m", method=method, above=above, **SMALL)
    assert np.isfinite(told.probabilities).all() and np.allclose(told.probabilities.sum(1), 1)
    assert evaluate(tmp_path / "m", digits).evaluation.accuracy > 0.5


def test_classifying(digits: Path) -> None:
    assert len(list(classify([str(digits)], backbone="efficientnet-lite0"))) == 300
