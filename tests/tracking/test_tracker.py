"""What a store is told of a run, and what happens when it fails. No tool is needed here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from greffon.errors import OptionError
from greffon.progress import Silent
from greffon.tracking import Tracker, Wish, flattened, opening, ready_to_track
from greffon.tracking.tracker import Value
from greffon.training import EpochRow

HISTORY = (
    EpochRow(0, None, 0.25, 1.4, 0.0, 0, 0.1),
    EpochRow(1, 0.9, 0.5, 1.1, 1e-4, 1, 2.0, head_learning_rate=3e-3),
    EpochRow(2, float("nan"), None, None, 5e-5, 1, 2.0, head_learning_rate=1.5e-3),
)


class Heard:
    """A recorder that keeps what it hears; ``broken`` names what fails."""

    def __init__(self, broken: str = "") -> None:
        self.heard: list[tuple[Any, ...]] = []
        self._broken = broken

    def _hear(self, *what: Any) -> None:
        if what[0] == self._broken:
            raise RuntimeError("the disk is full\nand more")
        self.heard.append(what)

    def begin(self) -> None:
        self._hear("begin")

    def configuration(self, values: Mapping[str, Value]) -> None:
        self._hear("configuration", dict(values))

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._hear("numbers", step, dict(values))

    def pictures(self, files: Mapping[str, Path]) -> None:
        self._hear("pictures", dict(files))

    def figures(self, values: Mapping[str, float], configuration: Mapping[str, Value], step: int) -> None:
        self._hear("figures", dict(values), dict(configuration), step)

    def end(self, how: str) -> None:
        self._hear("end", how)


def test_a_run_is_told_in_order() -> None:
    heard = Heard()
    tracker = Tracker(heard, Silent())
    with tracker.running(lambda: {"seed": 1, "recipe": {"batch": 8}, "shares": [0.7, 0.3], "nothing": None}):
        tracker.follow(HISTORY)
    figures = {"accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "n": 40, "top5_accuracy": None, "classes": [{"name": "a"}]}
    tracker.finish(figures, {"cut": "layer3"}, {"pictures/learning": Path("x.png")}, 2)
    flat = {"seed": 1, "recipe.batch": 8, "shares": "0.7, 0.3"}
    rates = {"learning_rate/top_stage": 1e-4, "learning_rate/head": 3e-3, "trained_stages": 1.0, "seconds": 2.0}
    later = {**rates, "learning_rate/top_stage": 5e-5, "learning_rate/head": 1.5e-3}
    told = {"test/accuracy": 0.9, "test/accuracy_low": 0.8, "test/accuracy_high": 0.95, "test/n": 40.0}
    assert heard.heard == [
        ("begin",),
        ("configuration", flat),
        ("numbers", 0, {"val/accuracy": 0.25, "val/log_loss": 1.4}),
        ("numbers", 1, {"train/loss": 0.9, "val/accuracy": 0.5, "val/log_loss": 1.1, **rates}),
        ("numbers", 2, later),
        ("configuration", {"chosen.cut": "layer3"}),
        ("figures", told, {**flat, "chosen.cut": "layer3"}, 2),
        ("pictures", {"pictures/learning": Path("x.png")}),
        ("end", "finished"),
    ]


@pytest.mark.parametrize(("error", "how"), [(ValueError, "failed"), (KeyboardInterrupt, "killed")])
def test_an_error_of_the_run_is_told_and_goes_on_its_way(error: type[BaseException], how: str) -> None:
    heard = Heard()
    with pytest.raises(error), Tracker(heard, Silent()).running(dict):
        raise error
    assert heard.heard[-1] == ("end", how)


def test_a_fault_of_the_store_costs_the_diary_and_not_the_training() -> None:
    heard, said = Heard("numbers"), Silent()
    tracker = Tracker(heard, said)
    with tracker.running(dict):
        tracker.follow(HISTORY)
        tracker.follow(HISTORY)
    tracker.finish({"n": 1}, {}, {}, 2)
    assert said.warnings == ["--track: the run is no longer written down (the disk is full); the training goes on"]
    assert not tracker.active and [what[0] for what in heard.heard] == ["begin", "configuration"]


def test_without_a_wish_nothing_is_asked_for() -> None:
    asked: list[int] = []
    tracker = Tracker(None, Silent())
    with tracker.running(lambda: {"n": asked.append(1)}):
        tracker.follow(HISTORY)
    tracker.finish({}, {}, {}, 0)
    assert not tracker.active and not asked


def test_flattened_is_by_dotted_names() -> None:
    assert flattened({"a": {"b": {"c": True}}, "d": "x" * 300}) == {"a.b.c": True, "d": "x" * 250}


def test_what_cannot_be_tracked_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready_to_track(Wish())
    with pytest.raises(OptionError, match="--track must be one of tensorboard, mlflow, got 'wandb'"):
        ready_to_track(Wish("wandb"))
    with pytest.raises(OptionError, match="--track-dir: means nothing without --track"):
        ready_to_track(Wish("", tmp_path))
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda name: None)
    for kind, name in (("tensorboard", "TensorBoard"), ("mlflow", "MLflow")):
        with pytest.raises(OptionError) as told:
            ready_to_track(Wish(kind))
        assert told.value.what == f"--track {kind}: {name} is not installed"
        assert told.value.hint == f'Install it: pip install "greffon[{kind}]"'
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda name: name)
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot be written"):
        ready_to_track(Wish("mlflow", tmp_path / "file" / "runs"))
    (tmp_path / "photos").mkdir()
    with pytest.raises(OptionError, match="lies in the data"):
        ready_to_track(Wish("mlflow", tmp_path / "photos" / "runs"), tmp_path / "photos")
    assert not (tmp_path / "photos" / "runs").exists()
    ready_to_track(Wish("mlflow", tmp_path / "new" / "runs"), tmp_path / "photos")
    assert list((tmp_path / "new" / "runs").iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "[]", '{"tensorboard": "../x"}', '{"tensorboard": ".."}', '{"tensorboard": 3}', "\x00", '{"other": "a"}']
)
def test_the_name_of_an_earlier_run_is_not_believed(tmp_path: Path, text: str) -> None:
    (tmp_path / opening.RUN_FILE).write_text(text)
    assert opening._known_runs(tmp_path) == {}
    (tmp_path / opening.RUN_FILE).write_text('{"tensorboard": "model-1", "mlflow": "0a"}')
    assert opening._known_runs(tmp_path) == {"tensorboard": "model-1", "mlflow": "0a"}
