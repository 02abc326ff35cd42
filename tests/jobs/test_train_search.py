"""``train --tune``: what is written down, shown and repeated; on handwritten digits with VGG16's real weights at 32 pixels."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import greffon.jobs.train.searching as searching
from greffon.cli.terminal import train_summary
from greffon.demo import write_digits
from greffon.errors import OptionError
from greffon.jobs.train import FineTuning, TrainResult, train
from greffon.jobs.train.plan import Found, read_plan
from greffon.training import Recipe

#: Long enough for some trials of two epochs.
WISHES = FineTuning(
    views=2, keep="float32", tune_minutes=0.05, recipe=Recipe(epochs=2, batch=16, learning_rate=0.0, head_learning_rate=0.0)
)
SMALL: dict[str, Any] = {"size": 32, "precision": "float32", "unfreeze": "block5"}


@pytest.fixture(scope="module", autouse=True)
def _needs(vgg16_package: None) -> None:
    pytest.importorskip("optuna")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "digits"
    write_digits(folder, images=80)
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models") / "searched"


@pytest.fixture(scope="module")
def result(digits: Path, out: Path) -> TrainResult:
    return train(digits, out=out, tuning=WISHES, **SMALL)


def test_the_result_stands_in_the_plan_and_every_trial_in_its_file(result: TrainResult, out: Path) -> None:
    search = result.search
    assert search is not None
    plan = read_plan(out)
    assert (plan.recipe, plan.layout) == (search.recipe, search.layout)
    assert plan.found == Found.of(search)
    assert Found.from_dict(json.loads(json.dumps(Found.of(search).to_dict()))) == Found.of(search)
    trials = json.loads((out / "tuning.json").read_text())
    assert [one["trial"] for one in trials["trials"]] == list(range(len(search.trials)))
    assert trials["best"] == search.best.number
    # The default stands first, with the rates that suit AdamW.
    first = search.trials[0]
    assert (first.recipe.learning_rate, first.recipe.head_learning_rate, first.cut, first.views) == (1e-4, 3e-3, "block5", 2)
    model = json.loads((out / "model.json").read_text())["training"]
    assert model["recipe"]["learning_rate"] == search.recipe.learning_rate
    assert len(model["views"]) == search.layout.views
    assert model["stages"][0] == search.layout.cut


def test_the_training_is_no_worse_on_validation_than_what_was_found(result: TrainResult) -> None:
    search = result.search
    assert search is not None
    best = min(row.log_loss for row in result.history if row.log_loss is not None)
    assert best <= search.best.log_loss <= search.trials[0].log_loss
    if search.best.ended == "finished":
        assert best == search.best.log_loss


def test_it_is_shown(result: TrainResult, out: Path) -> None:
    from rich.console import Console

    console = Console(width=200, file=io.StringIO())
    for line in train_summary(result):
        console.print(line)
    assert isinstance(console.file, io.StringIO)
    text = " ".join(console.file.getvalue().split())  # the title of a narrow table is wrapped
    assert "trials, by validation log-loss" in text
    assert "search: " in text or "what mattered: " in text
    page = (out / "report.html").read_text("utf-8")
    assert "What the search found" in page
    assert page.count("data:image/png") == 1 and page.count('class="chart"') >= 3
    with Image.open(out / "tuning.png") as image:
        assert image.size[1] == 630


@pytest.mark.slow
def test_a_plan_with_a_result_is_not_searched_again(
    result: TrainResult, digits: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without Optuna: nothing of it is needed to repeat. --resume reads the folder's own plan, --plan another's.
    monkeypatch.setitem(sys.modules, "optuna", None)
    repeated = train(digits, out=tmp_path / "again", tuning=WISHES, plan=out / "plan.json", **SMALL)
    assert repeated.search is None
    assert repeated.model.training["recipe"] == result.model.training["recipe"]
    assert repeated.model.training["search"] == result.model.training["search"]
    theirs, ours = repeated.model.backbone.tensors(), result.model.backbone.tensors()
    assert all((theirs[name] == ours[name]).all() for name in ours)
    assert (repeated.model.head.weight == result.model.head.weight).all()  # type: ignore[union-attr]  # logistic
    (tmp_path / "resumed").mkdir()
    (tmp_path / "resumed" / "plan.json").write_bytes((out / "plan.json").read_bytes())
    resumed = train(digits, out=tmp_path / "resumed", tuning=WISHES, resume=True, **SMALL)
    assert resumed.search is None
    assert resumed.model.training["recipe"] == result.model.training["recipe"]
    assert (resumed.model.head.weight == result.model.head.weight).all()  # type: ignore[union-attr]  # as above


@pytest.mark.slow
def test_an_interrupted_search_begins_again_and_nothing_of_it_is_taken_for_a_result(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = searching.search

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        real(*args, **{**kwargs, "most_trials": 1})
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(searching, "search", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(digits, out=tmp_path / "model", tuning=WISHES, **SMALL)
    assert read_plan(tmp_path / "model").found is None
    assert not (tmp_path / "model" / "tuning.json").exists()
    again = train(digits, out=tmp_path / "model", tuning=WISHES, resume=True, **SMALL)
    assert again.search is not None
    assert read_plan(tmp_path / "model").found == Found.of(again.search)
    # A run without a search into the same folder leaves nothing of it behind.
    plain = train(digits, out=tmp_path / "model", tuning=replace(WISHES, tune_minutes=0.0), **SMALL)
    assert plain.model.training["search"] is None
    assert read_plan(tmp_path / "model").found is None
    assert not [name for name in ("tuning.json", "tuning.png") if (tmp_path / "model" / name).exists()]
    assert "What the search found" not in (tmp_path / "model" / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_other_cuts_are_tried_where_time_and_disk_allow(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[str]] = []

    class EnoughError(Exception):
        """What was to be seen has been seen."""

    def noted(network: Any, grounds: Any, *args: Any, **kwargs: Any) -> Any:
        tried.append([ground.layout.cut for ground in grounds])
        raise EnoughError

    monkeypatch.setattr(searching, "search", noted)
    # 80 images: 56 to train in two views, 24 others; 256 x 4 x 4 float32 below block4, 512 x 2 x 2 below block5.
    records = 56 * 2 + 24
    for minutes, budget in ((100.0, 0), (100.0, records * (16384 + 8192)), (100.0, records * 16384), (1e-4, 0)):
        with pytest.raises(EnoughError):
            wishes = replace(WISHES, tune_minutes=minutes, cache_budget=budget)
            train(digits, tuning=wishes, **{**SMALL, "unfreeze": "block4"})
    assert tried == [["block4", "block5", "block3"], ["block4", "block5"], ["block4"], ["block4"]]


def test_faults_are_told_before_anything_is_run(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="--tune searches the hyperparameters of fine-tuning, got --unfreeze none"):
        train(digits, tuning=WISHES, size=32)
    with pytest.raises(OptionError, match="searches the learning rate itself"):
        replace(WISHES, find_rate=True)
    with pytest.raises(OptionError, match="--tune must be less than --minutes, 5, of which it is a part, got 5"):
        replace(WISHES, minutes=5.0, tune_minutes=5.0)
    with pytest.raises(OptionError, match="chooses on validation images"):
        train(digits, tuning=WISHES, fractions=(0.8, 0.0, 0.2), **SMALL)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(OptionError, match=r'(?s)needs Optuna.*pip install "greffon\[tune\]"'):
        train(digits, out=tmp_path / "none", tuning=WISHES, **SMALL)
    damaged = {**Found({}, 1, 0, 1.0, 1.0, {}, "", 0.0).to_dict(), "trials": "many"}
    with pytest.raises(ValueError, match="many"):
        Found.from_dict(damaged)
