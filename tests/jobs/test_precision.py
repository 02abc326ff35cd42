"""int8 from training to evaluation: real digits, real weights (VGG16's, at 32 pixels)."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from greffon import ImageFeatures, TransferClassifier, embed, evaluate, load_model, train
from greffon.activations import Choice, Store
from greffon.cli import main
from greffon.demo import write_digits
from greffon.errors import OptionError
from greffon.jobs.train import TrainResult
from greffon.progress import Silent
from greffon.silence import can_quantise

pytestmark = pytest.mark.skipif(not can_quantise(), reason="NNCF is not installed")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "digits"
    write_digits(folder, images=150)
    return folder


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Path]:
    out = tmp_path_factory.mktemp("models") / "int8"
    # A low bar: blank paper at 32 pixels is not what VGG16 was made for, and the figure is not what is tested here.
    return train(digits, out=out, size=32, precision="int8", min_fidelity=0.9, pool="mean", stages="last", norm="l2"), out


def test_training_in_int8_leaves_the_graph_and_the_plan(trained: tuple[TrainResult, Path]) -> None:
    result, out = trained
    about = json.loads((out / "model.json").read_text())
    assert about["precision"] == result.model.precision == "int8"
    assert result.model.quantised is not None
    assert about["quantised"]["fingerprint"] == result.model.quantised.fingerprint
    assert Choice.from_dict(about["training"]["plan"]) == result.plan
    (one,) = about["training"]["plan"]["candidates"]
    assert one["precision"] == "int8"
    assert one["fidelity"] == about["training"]["fidelity"]
    assert one["fidelity"]["cosine_mean"] > 0.99
    assert one["accuracy"] > 0.3
    assert result.evaluation is not None
    assert result.evaluation.accuracy > 0.7
    assert "int8" in (out / "report.html").read_text()


def test_the_same_seed_gives_the_same_model(trained: tuple[TrainResult, Path], digits: Path, tmp_path: Path) -> None:
    again = train(digits, out=tmp_path / "again", size=32, precision="int8", min_fidelity=0.9, pool="mean", stages="last",
                  norm="l2", store=Store(tmp_path / "store"))  # fmt: skip
    assert again.computed == 150
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (trained[1] / "model.safetensors").read_bytes()


def test_evaluating_exactly_tells_the_difference(
    trained: tuple[TrainResult, Path], digits: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = trained
    model = load_model(out)
    result = evaluate(out, digits, precision="exact")
    usual = evaluate(out, digits)
    assert usual.difference is None
    assert result.difference is not None
    paths = result.dataset.paths
    cheap, exact = model.predict(paths), model.predict(paths, precision="float32")
    changed, largest = 0, 0.0
    for a, b in zip(cheap.probabilities.tolist(), exact.probabilities.tolist(), strict=True):
        changed += a.index(max(a)) != b.index(max(b))
        largest = max(largest, *(abs(x - y) for x, y in zip(a, b, strict=True)))
    assert result.difference.to_dict() == {
        "precision": "int8",
        "n": 150,
        "predictions_that_differ": changed,
        "largest_probability_difference": pytest.approx(largest, abs=1e-12),
        "accuracy": usual.evaluation.accuracy,
    }
    assert 0 < largest < 0.5
    np.testing.assert_array_equal(result.probabilities, exact.probabilities)
    np.testing.assert_array_equal(usual.probabilities, cheap.probabilities)
    for words in (["--json"], []):
        monkeypatch.setattr(sys, "argv", ["greffon", "evaluate", str(out), str(digits), "--precision", "exact", "--quiet", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr().out
        assert not stop.value.code
        if words:
            assert json.loads(said)["difference"] == result.difference.to_dict()
        else:
            assert f"{changed} of 150 predictions differ from float32" in said


def test_evaluating_where_openvino_is_absent(
    trained: tuple[TrainResult, Path], digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    listener = Silent()
    result = evaluate(trained[1], digits, precision="exact", progress=listener)
    assert result.difference is None, "there is nothing to compare"
    assert any("needs OpenVINO" in warning for warning in listener.warnings)
    usual = evaluate(trained[1], digits)
    np.testing.assert_array_equal(usual.probabilities, result.probabilities)
    with pytest.raises(OptionError, match=r"greffon\[cpu\]"):
        train(digits, size=32, precision="int8")


def test_a_bar_that_int8_misses(digits: Path) -> None:
    listener = Silent()
    result = train(digits, size=32, precision="int8", min_fidelity=1.0, pool="mean", stages="last", norm="l2", progress=listener)
    assert result.model.precision == result.plan.precision != "int8"
    assert result.model.quantised is None
    assert any("int8 is not used: its mean cosine to float32 is 0.99" in warning for warning in listener.warnings)


@pytest.mark.slow
def test_embed_and_the_estimators(digits: Path, tmp_path: Path) -> None:
    paths = sorted(digits.glob("*/*.png"))
    embed(digits, out=tmp_path / "int8.parquet", size=32, precision="int8")
    table = pq.read_table(tmp_path / "int8.parquet").to_pydict()
    features = ImageFeatures(size=32, precision="int8").fit(paths)
    found = features.transform(paths)
    by_path = dict(zip(table["path"], table["features"], strict=True))
    wanted = np.array([by_path[str(path)] for path in paths], np.float32)
    exact = ImageFeatures(size=32, precision="float32").fit_transform(paths)
    for values in (found, wanted):
        cosines = (values * exact).sum(1) / np.linalg.norm(values, axis=1) / np.linalg.norm(exact, axis=1)
        assert (values != exact).any()
        assert cosines.mean() > 0.99
    np.testing.assert_array_equal(copy.deepcopy(features).transform(paths[:20]), found[:20])
    labels = [path.parent.name for path in paths]
    classifier = TransferClassifier(size=32, precision="int8", pool="mean", stages="last", norm="l2").fit(paths, labels)
    assert classifier.model_.quantised is not None or classifier.model_.precision != "int8"
    assert (classifier.predict(paths) == np.array(labels)).mean() > 0.8
