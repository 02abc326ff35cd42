"""The whole of fine-tuning as a command: the model in use, the budget, the automatic choice, bad input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tuned import write_backbone, write_photos

from greffon.cli import main
from greffon.jobs.evaluate import evaluate
from greffon.jobs.train import FineTuning, TrainResult, train
from greffon.model import load_model
from greffon.training import Recipe

RECIPE = Recipe(epochs=3, batch=8, learning_rate=3e-3)
WISHES = FineTuning(views=2, policy="light", keep="float32", training_precision="float32", recipe=RECIPE)


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos") / "stripes")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models") / "tuned"


@pytest.fixture(scope="module")
def result(base: Path, photos: Path, out: Path) -> TrainResult:
    return train(photos, out=out, backbone=str(base), unfreeze="layer3", precision="float32", tuning=WISHES)


def test_a_tuned_model_predicts_and_is_evaluated_as_in_memory(result: TrainResult, out: Path, photos: Path) -> None:
    back = load_model(out)
    files = sorted(photos.rglob("*.png"))[:12]
    before = result.model.predict(files).probabilities
    assert np.array_equal(back.predict(files).probabilities, before)
    assert not np.array_equal(back.predict(files, views=3).probabilities, before)
    assert result.evaluation is not None
    kept = json.loads((out / "metrics.json").read_text())
    assert kept["accuracy"] == result.evaluation.accuracy
    tested = [result.dataset.paths[i] for i in result.dataset.where("test").tolist()]
    table = out.parent / "test.csv"
    table.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in tested))
    again = evaluate(out, table)
    assert again.evaluation.accuracy == result.evaluation.accuracy
    assert again.evaluation.n == len(tested)


def test_it_is_a_backbone_whose_frozen_part_is_known_already(result: TrainResult, out: Path, photos: Path) -> None:
    assert result.computed + result.reused == 42 * 2 + 18
    again = train(photos, backbone=str(out), unfreeze="layer3", precision="float32", tuning=WISHES)
    assert again.computed == 0
    assert again.model.backbone.fingerprint != result.model.backbone.fingerprint
    assert again.model.training["pretrained"]["fingerprint"] == result.model.backbone.fingerprint


def test_a_run_without_room_computes_again_and_ends_with_the_same_model(
    result: TrainResult, base: Path, photos: Path
) -> None:
    from dataclasses import replace

    tight = replace(WISHES, cache_budget=8 * 3072)
    found = train(photos, backbone=str(base), unfreeze="layer3", precision="float32", tuning=tight)
    assert (found.computed, found.reused) == (0, 0)
    one, other = result.model.backbone.tensors(), found.model.backbone.tensors()
    assert all(torch.allclose(one[name], other[name], rtol=1e-5, atol=1e-7) for name in one)
    assert found.model.training["history"] == result.model.training["history"]


def test_no_time_is_feature_extraction_and_says_why(base: Path, photos: Path) -> None:
    from dataclasses import replace

    found = train(
        photos, backbone=str(base), unfreeze="auto", precision="float32", tuning=replace(WISHES, minutes=1e-6)
    )
    assert found.model.cut == "none"
    reasons = found.model.training["automatic"]
    assert any("does not fit into the time that is left" in reason for reason in reasons)
    assert reasons[-1] == "feature extraction is kept"


def test_bad_input_is_one_error(
    base: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    cases: list[tuple[list[object], str]] = [
        (["--unfreeze", "layer9"], "stem, layer1, layer2, layer3, layer4"),
        (["--views", 0], "--views must be from 1 to 1000, got 0"),
        (["--keep", "int4"], "--keep must be one of"),
        (["--cache-budget", "plenty"], "--cache-budget must be a size such as 500MB"),
        (["--cache-budget", "10"], "must hold one batch of activations"),
        (["--epochs", 0], "epochs must be a whole number from 1"),
        (["--learning-rate", "fast"], "--learning-rate must be a positive number"),
        (["--policy", "wild"], "--policy must be one of"),
        (["--mix", "salad"], "mix must be one of"),
        (["--resume"], "there is no interrupted fine-tuning"),
        (["--plan", tmp_path / "none.json"], "cannot be read"),
        (["--head", "knn"], "logistic head"),
        (["--pool", "flatten"], "pooled features"),
        (["--slim"], "slim"),
        (["--slim", "--unfreeze", "none"], "nothing would lead to those of --backbone"),
    ]
    for more, expected in cases:
        words = [
            "train",
            photos,
            "--out",
            new,
            "--backbone",
            base,
            "--precision",
            "float32",
            "--unfreeze",
            "layer3",
            *more,
        ]
        monkeypatch.setattr(sys, "argv", ["greffon", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr().err
        assert stop.value.code == 2, (more, said)
        assert expected in said, (more, said)
        assert "Traceback" not in said
        assert len([line for line in said.splitlines() if line.startswith("error:")]) == 1
        assert not new.exists(), more
