# pyright: reportMissingImports=false
"""The turns, the ratios, and the PyTorch peers run for real on small drawn photos."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from contestants import ContestantError, Run, run_script, run_train, train_answer, turns
from drawn import encode, photo, write_classes
from greffon.activations import Tap, TorchEngine, pixels_of
from greffon.backbones import Backbone, load_backbone
from greffon.errors import OptionError
from job_folder import make_job
from peers.job import Answer, Job, Stopwatch, read_answer, read_job, read_weights
from side_by_side import agreement, ratios, summary

SIZE = 32
PYTHON = Path(sys.executable)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("vgg16", size=SIZE)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, backbone: Backbone) -> Job:
    data = write_classes(tmp_path_factory.mktemp("photos"), {"b": 12, "a": 12}, (40, 56))
    return make_job(tmp_path_factory.mktemp("job"), data, 0, 0, backbone)


def run(seconds: float, *, images: int = 4, epochs: tuple[float, ...] = ()) -> Run:
    answer = Answer(tool="x", settings={}, images={"all": images}, seconds={"pass": seconds}, epochs=list(epochs))
    return Run(answer, seconds, 0.0)


# --- jobs ---------------------------------------------------------------------------------------------------------


def test_a_job_holds_the_photos_and_the_tensors(job: Job, backbone: Backbone) -> None:
    assert job.classes == ("a", "b")
    assert sum(job.counts().values()) == 24
    assert all(job.counts().values())
    for part in (job.train, job.val, job.test):
        assert [job.classes[label] for label in part.labels] == [Path(path).parent.name for path in part.paths]
    tensors = backbone.tensors()
    given = read_weights(job.folder)
    assert set(given) == set(tensors)
    assert all(np.array_equal(given[name], tensor.numpy()) for name, tensor in tensors.items())


def test_a_smaller_job_takes_of_every_class_and_keeps_near_duplicates_together(tmp_path: Path, backbone: Backbone) -> None:
    data = write_classes(tmp_path / "photos", {"a": 8, "b": 8})
    for number in range(6):  # the same photo six times, each with other bytes
        (data / "a" / f"same{number}.jpg").write_bytes(encode(photo(99), "JPEG", quality=80 + 3 * number))
    (data / "b" / "copy.png").write_bytes((data / "b" / "000.png").read_bytes())
    (tmp_path / "job").mkdir()
    whole = make_job(tmp_path / "job", data, 0, 0, backbone)
    assert sum(whole.counts().values()) == 22  # the exact copy is there once
    homes = [{path for path in part.paths if "same" in path} for part in (whole.train, whole.val, whole.test)]
    assert sorted(len(home) for home in homes) == [0, 0, 6]
    few = make_job(tmp_path / "job", data, 12, 0, backbone)
    assert sum(few.counts().values()) == 12
    assert set(few.train.labels.tolist()) == {0, 1}
    with pytest.raises(OptionError, match=r"--images must be at most 22 for photos, got 23"):
        make_job(tmp_path / "job", data, 23, 0, backbone)


# --- answers and turns --------------------------------------------------------------------------------------------


def test_the_answer_is_the_last_line() -> None:
    text = json.dumps({"tool": "x", "settings": {}, "images": {"all": 3}, "seconds": {}, "right": 3, "tested": 4})
    told = read_answer(f"loading\nEpoch 1/2\n{text}\n")
    assert (told.images, told.accuracy) == ({"all": 3}, 0.75)
    for wrong in ("", "Traceback", "{}", "[1]", text[:-1]):
        with pytest.raises(ValueError, match="expected a JSON object as the last line"):
            read_answer(wrong)


def test_the_parts_of_a_stopwatch_add_up() -> None:
    watch = Stopwatch()
    watch.add("pass", 1.0)
    with watch.part("pass"):
        pass
    assert 1.0 < watch.seconds["pass"] < 1.5


def test_everyone_has_a_turn_in_every_round_and_the_order_turns_round() -> None:
    order: list[str] = []

    def contestant(name: str) -> Run:
        order.append(name)
        return run(1.0)

    runs = turns(3, {name: lambda name=name: contestant(name) for name in ("greffon", "x", "y")})
    assert order == ["greffon", "x", "y", "y", "x", "greffon", "greffon", "x", "y"]
    assert [len(own) for own in runs.values()] == [3, 3, 3]


def test_other_numbers_of_photos_are_no_comparison() -> None:
    with pytest.raises(ContestantError, match=r"different numbers of photos: greffon \[\{'all': 4\}\], x \[\{'all': 5\}\]"):
        turns(1, {"greffon": lambda: run(1.0), "x": lambda: run(1.0, images=5)})
    numbers = iter((4, 3))
    with pytest.raises(ContestantError, match="different numbers"):  # from one round to the next
        turns(2, {"greffon": lambda: run(1.0, images=next(numbers))})


def test_ratios_are_round_by_round() -> None:
    runs = {"greffon": [run(1.0), run(2.0), run(4.0)], "x": [run(10.0), run(30.0), run(12.0)]}
    told = ratios(runs, lambda one: one.wall)
    assert told["seconds"] == {"greffon": 2.0, "x": 12.0}
    # 10, 15 and 3; not 12 / 2, which is of no round.
    assert told["ratio_x"] == {"median": 10.0, "lowest": 3.0, "rounds": [10.0, 15.0, 3.0]}
    assert summary(runs)["x"]["wall_seconds"] == [10.0, 30.0, 12.0]


def test_agreement_is_the_mean_cosine_of_the_first_photos() -> None:
    ours = np.array([[1.0, 0.0], [1.0, 1.0], [5.0, 5.0]], np.float32)
    theirs = np.array([[3.0, 0.0], [0.0, 2.0]], np.float32)
    assert agreement(ours, theirs) == pytest.approx((1 + np.sqrt(0.5)) / 2)


def test_a_missing_environment_says_how_to_make_it() -> None:
    from contestants import HERE

    with pytest.raises(ContestantError) as error:
        run_script(HERE / ".venv-none/bin/python", "peers/torch_frozen.py", [])
    assert error.value.hint == "Try: make benchmarks/.venv-none/.installed"


def test_a_contestant_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ContestantError, match=r"(?s)keras_head.py .*ended with 1.*No module named 'keras'"):
        run_script(PYTHON, "peers/keras_head.py", [str(tmp_path)])  # in an environment that has no Keras


# --- for real -----------------------------------------------------------------------------------------------------


def test_the_peer_computes_the_same_features(job: Job, backbone: Backbone) -> None:
    told = run_script(PYTHON, "peers/torch_frozen.py", [str(job.folder), "--size", str(SIZE), "--batch", "5", "--workers", "0"])
    assert told.answer.images == {"all": 24}
    assert told.answer.rates["pass"] == pytest.approx(24 / told.answer.seconds["pass"])
    theirs = np.load(job.folder / "features_torch.npy")
    engine = TorchEngine(backbone, Tap("pooled"), "float32")
    pixels = np.stack([pixels_of(Path(path), backbone.preprocess) for path in job.all()])
    ours = engine.run(pixels)[:, -1024:-512]
    # torchvision's pipeline scales to [0, 1] and back: the last bits differ, and BGR for RGB would be another picture.
    assert np.abs(theirs - ours).max() / np.abs(ours).max() < 1e-4
    assert agreement(ours, theirs) > 0.999999


@pytest.mark.slow
def test_the_plain_loop_learns_and_tells_its_epochs(tmp_path: Path, backbone: Backbone) -> None:
    # Two classes that differ in brightness.
    rng = np.random.default_rng(0)
    for name, low in (("dark", 20), ("light", 170)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(14):
            pixels = rng.integers(low, low + 60, (36, 36, 3)).astype(np.uint8)
            (tmp_path / "photos" / name / f"{number}.png").write_bytes(encode(pixels))
    (tmp_path / "job").mkdir()
    made = make_job(tmp_path / "job", tmp_path / "photos", 0, 0, backbone)
    given = [str(made.folder), "--size", str(SIZE), "--batch", "4", "--epochs", "3", "--workers", "0"]
    for way in (["--inputs", "tensors"], ["--inputs", "files", "--layout", "channels_last"]):
        told = run_script(PYTHON, "peers/torch_finetune.py", [*given, *way]).answer
        assert told.images == read_job(made.folder).counts()
        assert len(told.epochs) == 3
        assert sum(told.epochs) == pytest.approx(told.seconds["training"] + told.seconds["validation"], rel=0.05)
        assert told.tested == len(made.test)
        assert told.right == told.tested


@pytest.mark.slow
def test_greffon_trains_on_the_same_job(job: Job) -> None:
    told = run_train(job, ["--size", str(SIZE), "--unfreeze", "block5", "--views", "2", "--epochs", "2"])
    assert told.answer.images == job.counts()
    assert told.answer.tested == len(job.test)
    assert len(told.answer.epochs) == 2
    assert 0 < sum(told.answer.epochs) < told.answer.seconds["total"] < told.wall


def test_an_answer_without_timing_has_no_epochs() -> None:
    told = train_answer({"n": 8, "accuracy": 0.875}, {"data": {"splits": {"train": 9, "val": 3, "test": 8}}}, [])
    assert (told.right, told.tested, told.epochs, told.rates) == (7, 8, [], {})
