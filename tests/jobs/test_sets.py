"""What a training run tells of its data, and the sets of classes that its model gives; on handwritten digits."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greffon import evaluate, predict, train
from greffon.cli import main
from greffon.datasets import path_in_table
from greffon.demo import write_digits
from greffon.errors import ModelError, OptionError
from greffon.jobs.train import TrainResult
from greffon.model import load_model, save_model

pytestmark = pytest.mark.usefixtures("vgg16_package")

SMALL: dict[str, Any] = {"size": 32, "precision": "float32", "pool": "mean", "stages": "last", "norm": "l2"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos stand in a wrong class, and one of the test in the training, too."""
    folder = tmp_path_factory.mktemp("photos") / "digits"
    write_digits(folder, images=360)
    for name in "0123467":
        shutil.rmtree(folder / name)
    for role, part in (("test", slice(0, 12)), ("train", slice(12, None))):
        for name in "589":
            (folder / role / name).mkdir(parents=True)
            for path in sorted((folder / name).iterdir())[part]:
                shutil.copy(path, folder / role / name)
    for name in "589":
        shutil.rmtree(folder / name)
    wrong = sorted((folder / "train" / "5").iterdir())[0]
    shutil.move(wrong, folder / "train" / "9" / "wrong-train.png")
    wrong = sorted((folder / "test" / "8").iterdir())[0]
    shutil.move(wrong, folder / "test" / "5" / "wrong-test.png")
    shutil.copy(sorted((folder / "test" / "9").iterdir())[3], folder / "train" / "9" / "leaked.png")
    return folder


@pytest.fixture(scope="module")
def model(digits: Path) -> Path:
    return digits.parent / "model"


@pytest.fixture(scope="module")
def trained(digits: Path, model: Path) -> TrainResult:
    return train(digits, out=model, **SMALL)


def test_training_tells_of_faults_of_its_data(trained: TrainResult, model: Path, digits: Path) -> None:
    told = json.loads((model / "metrics.json").read_text())["audit"]
    assert told == [one.to_dict() for one in trained.findings]
    suspects = {one["path"]: one for one in told if one["finding"] == "label-error"}
    assert suspects[path_in_table(digits / "train" / "9" / "wrong-train.png")]["suggested"] == "5"
    assert suspects[path_in_table(digits / "test" / "5" / "wrong-test.png")]["suggested"] == "8"
    leaks = [one for one in told if one["finding"] == "duplicate-across-splits"]
    assert {Path(one["path"]).name for one in leaks if one["exclude"]} == {"leaked.png"}
    assert len(leaks) == 2
    page = (model / "report.html").read_text()
    assert "Faults of the data" in page
    assert "wrong-train.png" in page
    assert "9 → 5?" in page


def test_a_model_keeps_what_was_held_out(trained: TrainResult, model: Path) -> None:
    scores = trained.model.conformal
    assert scores is not None
    assert len(scores) == trained.model.data["splits"]["train"]
    assert (np.diff(scores) >= 0).all()
    loaded = load_model(model).conformal
    assert loaded is not None
    np.testing.assert_allclose(loaded, scores, atol=1e-6)


def test_sets_hold_the_true_class_as_often_as_asked_for(trained: TrainResult, model: Path, digits: Path) -> None:
    table = digits.parent / "all.csv"
    paths = sorted((digits / "test").rglob("0*.png"))
    table.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in paths))
    sizes = []
    for asked in (0.5, 0.8, 0.95):
        told = evaluate(model, table, sets=asked).sets
        assert told is not None
        low, high = told.interval
        assert low <= told.coverage <= high
        assert high >= asked - 0.05
        assert 0 <= told.empty <= 1 - told.single
        sizes.append(told.mean_size)
    assert sizes == sorted(sizes)
    guesses = list(predict(model, paths[:4], sets=0.95))
    for guess in guesses:
        assert guess.classes is not None
        chances = [guess.probabilities[name] for name in guess.classes]
        assert chances == sorted(chances, reverse=True)
        assert guess.to_dict()["set"] == list(guess.classes)
    assert all(guess.classes is None and "set" not in guess.to_dict() for guess in predict(model, paths[:1]))


def test_the_reliability_diagram(trained: TrainResult, model: Path, digits: Path, tmp_path: Path) -> None:
    assert not (model / "reliability.png").exists(), "it stands in the page"
    page = (model / "report.html").read_text()
    assert "as often right as it says" in page
    assert "before the temperature of" in page
    told = evaluate(model, digits, out=tmp_path / "out")
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert written == told.to_dict()
    assert written["expected_calibration_error_uncalibrated"] == told.evaluation.uncalibrated_error is not None
    assert sum(one["count"] for one in written["reliability"]) == written["n"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"evaluation.json", "evaluation.png", "evaluation.svg"}
    assert evaluate(model, digits, views=2).evaluation.uncalibrated_error is None
    with pytest.raises(OptionError, match="lies in the data"):
        evaluate(model, digits, out=digits / "out")


def test_sets_that_cannot_be(trained: TrainResult, model: Path, digits: Path, tmp_path: Path) -> None:
    photo = sorted((digits / "test" / "9").iterdir())[0]
    for asked in (1.0, -0.5, 2.0):
        with pytest.raises(OptionError, match="coverage of sets"):
            list(predict(model, [photo], sets=asked))
        with pytest.raises(OptionError, match="coverage of sets"):
            evaluate(model, digits, sets=asked)
    with pytest.raises(ModelError, match=r"too few for sets with a coverage of 0\.9999"):
        list(predict(model, [photo], sets=0.9999))
    save_model(replace(load_model(model), conformal=None), tmp_path / "older")
    assert load_model(tmp_path / "older").conformal is None
    with pytest.raises(ModelError, match="does not know how large sets must be"):
        list(predict(tmp_path / "older", [photo], sets=0.9))
    about = json.loads((tmp_path / "older" / "model.json").read_text())
    for damaged in (["a"], [0.5, 0.1], [1.5], {}, 3, [True]):
        (tmp_path / "older" / "model.json").write_text(json.dumps({**about, "conformal": damaged}))
        with pytest.raises(ModelError, match="conformal"):
            load_model(tmp_path / "older")


def test_the_commands(
    trained: TrainResult, model: Path, digits: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["greffon", *map(str, words)])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0), "".join(capsys.readouterr())
        return 0, "".join(capsys.readouterr())

    photo = sorted((digits / "test" / "9").iterdir())[0]
    code, said = call("predict", model, photo, "--sets", 0.9)
    assert (code, "set: " in said) == (0, True)
    code, said = call("predict", model, photo, "--sets", 0.9, "--csv")
    assert said.splitlines()[0].endswith(",set")
    code, said = call("evaluate", model, digits, "--sets", 0.9)
    assert "where 90 % was asked for" in said
    code, said = call("evaluate", model, digits, "--sets", 0.9, "--json", "--quiet")
    assert json.loads(said)["sets"]["asked"] == 0.9
    code, said = call("predict", model, photo, "--sets", 7)
    assert (code, said.count("error:")) == (2, 1)
