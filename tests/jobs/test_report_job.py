"""``greffon report`` and the report of ``train``, on handwritten digits: of which images they speak, and what they repeat."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greffon import evaluate, train
from greffon.cli import main
from greffon.demo import write_digits
from greffon.errors import DataError, ModelError, OptionError
from greffon.jobs.report import report
from greffon.jobs.train import FineTuning, TrainResult
from greffon.jobs.train.command import command_words
from greffon.model import load_model
from greffon.training import Recipe

pytestmark = pytest.mark.usefixtures("vgg16_package")

SMALL: dict[str, Any] = {"size": 32, "precision": "float32", "pool": "mean", "stages": "last", "norm": "l2"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "digits"
    write_digits(folder, images=240)
    for name in "0123467":
        for file in (folder / name).iterdir():
            file.unlink()
        (folder / name).rmdir()
    (folder / "5" / "broken.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def model(digits: Path) -> Path:
    return digits.parent / "model"


@pytest.fixture(scope="module")
def trained(digits: Path, model: Path) -> TrainResult:
    return train(digits, out=model, lang="fr", **SMALL)


def test_training_writes_it_in_the_language_that_was_asked_for(trained: TrainResult, model: Path) -> None:
    page = (model / "report.html").read_text("utf-8")
    assert '<html lang="fr">' in page and "Ce qui est pris pour quoi" in page
    assert "broken.png" in page and "le fichier est vide" in page
    assert "Plus de photos aideraient-elles" in page, "the learning curve"
    assert "--lang fr" in page


def test_of_the_data_of_the_training_the_test_split_is_drawn_again(trained: TrainResult, model: Path, digits: Path) -> None:
    out = digits.parent / "again" / "report.html"
    found = report(model, digits, out=out)
    assert found.held_out and found.images == trained.model.data["splits"]["test"]
    assert trained.evaluation is not None
    assert found.evaluation.to_dict() == trained.evaluation.to_dict()
    page, first = out.read_text("utf-8"), (model / "report.html").read_text("utf-8")
    assert "had no part in the training" in page
    data = [re.findall(r'class="run-data">(.*?)</script>', one, re.S)[0] for one in (page, first)]
    assert [json.loads(one)[key] for one in data[:1] for key in ("true", "said", "sure")] == [
        json.loads(data[1])[key] for key in ("true", "said", "sure")
    ]
    assert page.count("<circle") == first.count("<circle") > 3, "the same learning curve"


def test_of_other_data_it_speaks_of_all(trained: TrainResult, model: Path, digits: Path) -> None:
    table = digits.parent / "some.csv"
    some = sorted(digits.rglob("0*.png"))[::2]
    table.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in some))
    found = report(model, table, out=digits.parent / "some.html", heat=False)
    assert not found.held_out and found.images == len(some)
    assert found.evaluation.accuracy == evaluate(model, table).evaluation.accuracy
    page = (digits.parent / "some.html").read_text("utf-8")
    assert "is not known here" in page and "what spoke for" not in page


def test_the_features_of_a_prediction_are_what_its_head_is_given(trained: TrainResult, model: Path, digits: Path) -> None:
    loaded = load_model(model)
    paths = sorted(digits.rglob("0*.png"))[:5]
    told = loaded.predict([*paths, digits / "5" / "broken.png"], with_features=True)
    assert told.features is not None and told.features.shape == (6, len(loaded.normaliser.mean))
    np.testing.assert_array_equal(loaded.head.probabilities(told.features[:5]), told.probabilities[:5])
    assert not told.features[5].any() and loaded.predict(paths).features is None


def test_what_cannot_be(trained: TrainResult, model: Path, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"expected a file that ends in \.html"):
        report(model, digits, out=tmp_path / "report.pdf")
    with pytest.raises(OptionError, match="--lang must be one of"):
        report(model, digits, out=tmp_path / "report.html", lang="xx")
    with pytest.raises(ModelError, match="not a model folder"):
        report(tmp_path, digits, out=tmp_path / "report.html")
    (tmp_path / "photos" / "a strange class").mkdir(parents=True)
    for path in sorted(digits.rglob("0*.png"))[:3]:
        (tmp_path / "photos" / "a strange class" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="classes that the model does not know: a strange class"):
        report(model, tmp_path / "photos", out=tmp_path / "report.html")
    with pytest.raises(OptionError, match="--lang must be one of"):
        train(digits, out=tmp_path / "model", lang="xx", **SMALL)


def test_the_command_line(trained: TrainResult, model: Path, digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    out = digits.parent / "line.html"
    monkeypatch.setattr(sys, "argv", ["greffon", "report", str(model), str(digits), "--out", str(out), "--no-heat", "--json", "-q"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, None)
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == str(out) and told["held_out"] and out.is_file()


def test_the_command_repeats_the_run(trained: TrainResult, model: Path, digits: Path) -> None:
    words = json.loads((model / "model.json").read_text())["training"]["command"]
    assert words == ["train", str(digits), "--size", "32", "--pool", "mean", "--stages", "last", "--norm", "l2", "--precision", "float32",
                     "--lang", "fr"]  # fmt: skip


def test_what_is_as_usual_is_not_typed() -> None:
    wishes = FineTuning(views=2, minutes=3.0, cache_budget=10**9, find_rate=True,
                        recipe=Recipe(epochs=4, learning_rate=0.0, head_learning_rate=0.0, stage_decay=0.25))  # fmt: skip
    options = (("--unfreeze", "block5", "none"), ("--seed", 0, 0), ("--weights", Path("w.h5"), None))
    flags = (("--slim", False), ("--thumbnails", True))
    words = command_words("my photos", wishes, options=options, fractions=(0.8, 0.1, 0.1), flags=flags)
    assert shlex.join(words) == ("train 'my photos' --unfreeze block5 --weights w.h5 --split 0.8,0.1,0.1 --views 2 --minutes 3"
                                 " --cache-budget 1000000000 --learning-rate find --epochs 4 --stage-decay 0.25 --thumbnails")  # fmt: skip
    assert command_words("x", FineTuning(), options=(), fractions=(0.7, 0.15, 0.15), flags=()) == ["train", "x"]
