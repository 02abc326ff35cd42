"""What a model does not know, another model beside it, sizes, and tests that say little; on handwritten digits."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greffon import evaluate, predict, train
from greffon.cli import main
from greffon.cli.reading import with_shares
from greffon.demo import write_digits
from greffon.errors import DataError, ModelError, OptionError
from greffon.images import decode, encode_png, enlarge, read_bytes
from greffon.jobs.train import TrainResult
from greffon.model import load_model, save_model
from greffon.progress import Silent

pytestmark = pytest.mark.usefixtures("vgg16_package")

SMALL: dict[str, Any] = {"size": 32, "precision": "float32", "pool": "mean", "stages": "all", "norm": "standard"}


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.warned: list[str] = []

    def begin(self, task: str, total: int) -> None:
        """Nothing is drawn."""

    def advance(self, steps: int = 1) -> None:
        """Nothing is drawn."""

    def end(self) -> None:
        """Nothing is drawn."""

    def say(self, text: str) -> None:
        self.warned.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0, 1, 4 to train and test on, 1 of them smaller; 8 lies elsewhere, and is never learned."""
    folder = tmp_path_factory.mktemp("photos") / "digits"
    write_digits(folder, images=700)
    for name in "235679":
        shutil.rmtree(folder / name)
    (folder / "8").rename(folder.parent / "eights")
    for role, part in (("test", slice(0, 25)), ("train", slice(25, None))):
        for name in "014":
            (folder / role / name).mkdir(parents=True)
            for path in sorted((folder / name).iterdir())[part]:
                shutil.copy(path, folder / role / name)
    for name in "014":
        shutil.rmtree(folder / name)
    for path in (folder / "test" / "1").iterdir():
        path.write_bytes(encode_png(enlarge(decode(read_bytes(path)), 48, 48)))
    return folder


@pytest.fixture(scope="module")
def model(digits: Path) -> Path:
    return digits.parent / "model"


@pytest.fixture(scope="module")
def trained(digits: Path, model: Path) -> TrainResult:
    return train(digits, out=model, **SMALL)


@pytest.fixture(scope="module")
def other(digits: Path, trained: TrainResult) -> Path:
    """A worse model: it has learned from three photos of each class."""
    folder = digits.parent / "few"
    for name in "014":
        (folder / "train" / name).mkdir(parents=True)
        for path in sorted((digits / "train" / name).iterdir())[:3]:
            shutil.copy(path, folder / "train" / name)
        shutil.copytree(digits / "test" / name, folder / "test" / name)
    train(folder, out=digits.parent / "other", thumbnails=True, **SMALL)
    return digits.parent / "other"


# --- examples ----------------------------------------------------------------------------------------------------


def test_a_model_keeps_features_and_not_the_photos(trained: TrainResult, model: Path) -> None:
    one = trained.model
    assert one.examples is not None and one.novelty is not None
    assert len(one.examples) == len(one.novelty) == one.data["splits"]["train"]
    assert set(one.examples.names) == {""} and set(one.examples.thumbnails) == {b""}
    loaded = load_model(model)
    assert loaded.examples is not None and loaded.novelty is not None
    np.testing.assert_array_equal(loaded.examples.features, one.examples.features)
    np.testing.assert_allclose(loaded.novelty, one.novelty, atol=1e-6)
    assert (np.diff(loaded.novelty) >= 0).all()
    assert sorted(np.bincount(loaded.examples.labels).tolist()) == sorted(
        one.data["images_by_class"][name] - 25 for name in one.classes
    )


def test_examples_are_as_the_head_sees_them(trained: TrainResult, model: Path) -> None:
    """The nearest example of a training photo is itself."""
    one = load_model(model)
    assert one.examples is not None
    photo = next(path for path in trained.dataset.paths if path.parent.parent.name == "train")
    told = one.predict([photo], novelty=True)
    assert told.novelty is not None
    from greffon.activations import compute, make_engine

    records = compute([photo], one.backbone, one.tap, make_engine(one.backbone, one.tap, "float32"), store=None, progress=Silent()).all()
    position, distance = one.examples.nearest(one.features(records), 1)
    assert distance[0, 0] < 1e-5
    assert one.classes[int(one.examples.labels[position[0, 0]])] == photo.parent.name


def test_thumbnails_and_names_are_asked_for(other: Path) -> None:
    one = load_model(other).examples
    assert one is not None
    assert sorted(one.names)[0].startswith("train/0/")
    assert len(set(one.names)) == 9
    for thumbnail in one.thumbnails:
        assert max(decode(thumbnail).shape) <= 96


def test_no_examples_where_none_are_wanted(digits: Path, tmp_path: Path) -> None:
    train(digits, out=tmp_path / "m", examples=0, **SMALL)
    assert not (tmp_path / "m" / "examples.safetensors").exists()
    one = load_model(tmp_path / "m")
    assert one.examples is None and one.novelty is None
    with pytest.raises(ModelError, match="cannot tell what it does not know"):
        list(predict(tmp_path / "m", [digits.parent / "eights"], abstain=0.9))
    some = train(digits, examples=20, **SMALL).model.examples
    assert some is not None and sorted(np.bincount(some.labels).tolist()) == [6, 7, 7]


def test_wishes_that_cannot_be(digits: Path) -> None:
    with pytest.raises(OptionError, match="--examples must be from 0"):
        train(digits, examples=-1, **SMALL)
    with pytest.raises(OptionError, match="--thumbnails"):
        train(digits, examples=0, thumbnails=True, **SMALL)


# --- I don't know ------------------------------------------------------------------------------------------------


def test_known_digits_are_answered_and_another_is_refused_more_often(trained: TrainResult, model: Path, digits: Path) -> None:
    told = evaluate(model, digits, abstain=0.9, unknown=digits.parent / "eights")
    known, unknown = told.abstaining, told.unknown
    assert known is not None and unknown is not None
    assert known.coverage_interval[0] <= known.coverage <= known.coverage_interval[1]
    assert known.asked == 0.9 and known.n == 75
    assert unknown.n == len(list((digits.parent / "eights").iterdir()))
    assert unknown.auroc > 0.8
    assert unknown.rate > 1 - known.coverage
    assert told.to_dict()["abstain"] == known.to_dict()
    assert told.to_dict()["unknown"] == unknown.to_dict()
    strict = evaluate(model, digits, abstain=0.5).abstaining
    assert strict is not None and strict.coverage < known.coverage and strict.limit < known.limit
    assert evaluate(model, digits, unknown=[digits.parent / "eights"]).to_dict()["abstain"]["asked"] == 0.95
    assert "abstain" not in evaluate(model, digits).to_dict()


def test_predictions_abstain_by_the_same_limit(trained: TrainResult, model: Path, digits: Path) -> None:
    limit = load_model(model).known_up_to(0.9)
    guesses = list(predict(model, [digits.parent / "eights", digits / "test" / "0"], abstain=0.9))
    assert len({guess.known for guess in guesses}) == 2, "some of either"
    for guess in guesses:
        assert guess.novelty is not None
        assert guess.known == (guess.novelty <= limit)
        line = guess.to_dict()
        assert line["label"] == (guess.label if guess.known else None)
        assert (line["novelty"], line["known"]) == (guess.novelty, guess.known)
    plain = next(predict(model, [digits / "test" / "0"])).to_dict()
    assert "novelty" not in plain and "known" not in plain and plain["label"] is not None


def test_shares_that_cannot_be(trained: TrainResult, model: Path, digits: Path) -> None:
    for asked in (1.0, -0.5, 3.0):
        with pytest.raises(OptionError, match="share of known photos"):
            list(predict(model, [digits / "test"], abstain=asked))
        with pytest.raises(OptionError, match="share of known photos"):
            evaluate(model, digits, abstain=asked)
    with pytest.raises(ModelError, match=r"too few to keep 0\.9999"):
        evaluate(model, digits, abstain=0.9999)


def test_unknown_photos_that_are_not_there(trained: TrainResult, model: Path, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        evaluate(model, digits, unknown=tmp_path / "nothing")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the 1 files is a readable image"):
        evaluate(model, digits, unknown=tmp_path / "broken.png")


DAMAGES: list[Callable[[dict[str, Any]], Any]] = [
    lambda novelty: novelty.update(scores=[0.5, 0.1]),
    lambda novelty: novelty.update(scores=["a"]),
    lambda novelty: novelty.update(scores=[2.5]),
    lambda novelty: novelty.update(scores={}),
    lambda novelty: novelty.update(neighbours=0),
    lambda novelty: novelty.update(neighbours=True),
    lambda novelty: novelty.pop("neighbours"),
    lambda novelty: novelty.pop("scores"),
]


@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_damaged_scores_are_refused(trained: TrainResult, model: Path, tmp_path: Path, number: int) -> None:
    shutil.copytree(model, tmp_path / "m")
    file = tmp_path / "m" / "model.json"
    about = json.loads(file.read_text())
    DAMAGES[number](about["novelty"])
    file.write_text(json.dumps(about))
    with pytest.raises(ModelError, match="novelty"):
        load_model(tmp_path / "m")


def test_scores_of_another_count_of_neighbours_say_nothing(trained: TrainResult, model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "m")
    file = tmp_path / "m" / "model.json"
    about = json.loads(file.read_text())
    about["novelty"]["neighbours"] += 1
    file.write_text(json.dumps(about))
    assert load_model(tmp_path / "m").novelty is None


# --- another model -----------------------------------------------------------------------------------------------


def test_two_models_are_compared_on_the_same_photos(trained: TrainResult, model: Path, other: Path, digits: Path) -> None:
    told = evaluate(model, digits, against=other)
    assert told.rival is not None
    figures = told.rival.figures
    assert figures.first == told.evaluation.accuracy
    assert figures.second == evaluate(other, digits).evaluation.accuracy
    assert figures.n == told.evaluation.n == figures.both + figures.only_first + figures.only_second + figures.neither
    assert figures.difference > 0
    assert len(told.rival.apart) == len(figures.apart) >= figures.only_first
    for one in told.rival.apart:
        assert one.first != one.second
        assert one.label == one.path.parent.name
    written = told.to_dict()["against"]
    assert written["mcnemar_p"] == figures.p_value
    assert len(written["images"]) == len(told.rival.apart)
    turned = evaluate(other, digits, against=model).rival
    assert turned is not None and turned.figures.difference == pytest.approx(-figures.difference)


def test_the_order_of_the_classes_does_not_matter(trained: TrainResult, model: Path, digits: Path, tmp_path: Path) -> None:
    """The same model with its classes in another order says the same of every photo."""
    one = load_model(model)
    turn = [2, 0, 1]
    head = replace(one.head, weight=one.head.arrays()["weight"][turn], bias=one.head.arrays()["bias"][turn])
    save_model(replace(one, head=head, classes=tuple(one.classes[i] for i in turn), examples=None, novelty=None), tmp_path / "turned")
    rival = evaluate(model, digits, against=tmp_path / "turned").rival
    assert rival is not None
    assert (rival.figures.p_value, len(rival.apart)) == (1.0, 0)
    assert rival.figures.second == rival.figures.first


def test_a_rival_that_does_not_know_a_class(trained: TrainResult, model: Path, digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "train" / "4")
    shutil.rmtree(tmp_path / "two" / "test" / "4")
    train(tmp_path / "two", out=tmp_path / "m2", **SMALL)
    with pytest.raises(DataError, match=r"has classes that the model .*m2 does not know: 4"):
        evaluate(model, digits, against=tmp_path / "m2")
    with pytest.raises(DataError, match="has classes that the model does not know: 4"):
        evaluate(tmp_path / "m2", digits, against=model)
    rival = evaluate(tmp_path / "m2", tmp_path / "two", against=model).rival
    assert rival is not None and rival.figures.n == 50, "one that knows more classes can be compared"


# --- sizes, and tests that say little ----------------------------------------------------------------------------


def test_accuracy_by_size(trained: TrainResult, model: Path, digits: Path) -> None:
    told = evaluate(model, digits)
    assert [(one.smallest, one.count) for one in told.sizes] == [(48 * 48, 25), (64 * 64, 50)]
    assert sum(one.accuracy * one.count for one in told.sizes) == pytest.approx(told.evaluation.accuracy * 75)
    assert told.to_dict()["sizes"] == [one.to_dict() for one in told.sizes]


def test_a_test_of_one_class(trained: TrainResult, model: Path, digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits / "test" / "1", tmp_path / "some" / "1")
    listener = Listener()
    told = evaluate(model, tmp_path / "some", abstain=0.9, out=tmp_path / "out", progress=listener)
    assert told.evaluation.n == 25
    assert any("are of one class, '1'" in text for text in listener.warned)
    assert any("25 images are few" in text for text in listener.warned)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["n"] == 25


def test_ten_photos_in_all(digits: Path, tmp_path: Path) -> None:
    for name in "01":
        (tmp_path / "ten" / name).mkdir(parents=True)
        for path in sorted((digits / "train" / name).iterdir())[:5]:
            shutil.copy(path, tmp_path / "ten" / name)
    listener = Listener()
    result = train(tmp_path / "ten", out=tmp_path / "m", progress=listener, **SMALL)
    assert result.evaluation is not None
    low, high = result.evaluation.accuracy_interval
    assert high - low > 0.5
    told = evaluate(tmp_path / "m", tmp_path / "ten", abstain=0.5, unknown=digits.parent / "eights", against=tmp_path / "m",
                    progress=listener)  # fmt: skip
    assert any("10 images are few: an accuracy of 80 % has an interval from 49 to 94 %" in text for text in listener.warned)
    assert told.evaluation.n == 10
    with pytest.raises(ModelError, match=r"too few to keep 0\.95"):
        evaluate(tmp_path / "m", tmp_path / "ten", abstain=0.95)


# --- the commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("predict m a.jpg --abstain", "predict m a.jpg --abstain=0.95"),
        ("predict m --abstain a.jpg", "predict m --abstain=0.95 a.jpg"),
        ("predict m --abstain 0.9 a.jpg", "predict m --abstain 0.9 a.jpg"),
        ("predict m --abstain=0.8 a.jpg", "predict m --abstain=0.8 a.jpg"),
        ("predict m --abstain --json", "predict m --abstain=0.95 --json"),
        ("predict m -- --abstain", "predict m -- --abstain"),
    ],
)
def test_the_share_may_be_left_out(words: str, found: str) -> None:
    assert with_shares(words.split()) == found.split()


def test_what_the_commands_print(
    trained: TrainResult, model: Path, other: Path, digits: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["greffon", *map(str, words)])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0), "".join(capsys.readouterr())
        return 0, "".join(capsys.readouterr())

    eights = digits.parent / "eights"
    code, said = call("evaluate", model, digits, "--abstain", "--unknown", eights, "--against", other)
    assert code == 0
    assert '"I don\'t know": ' in said and "where 95 % was asked for" in said
    assert "photos of other classes: " in said and "AUROC" in said
    assert "McNemar's exact p" in said and "; this one says" in said
    assert "By size, from the smallest" in said
    assert "95 % interval" in said
    code, said = call("evaluate", model, digits, "--abstain", 0.9, "--json", "--quiet")
    assert json.loads(said)["abstain"]["asked"] == 0.9
    code, said = call("predict", model, eights, "--abstain", 0.5)
    assert code == 0 and "\tI don't know\tnovelty " in said
    code, said = call("predict", model, eights, "--abstain", 0.5, "--json", "--quiet")
    assert all((told["label"] is None) == (not told["known"]) for told in map(json.loads, said.splitlines()))
    assert not all(json.loads(line)["known"] for line in said.splitlines())
    code, said = call("predict", model, eights, "--abstain", 0.5, "--csv", "--quiet")
    assert said.splitlines()[0].endswith(",novelty,known")
    assert any(line.endswith(",false") for line in said.splitlines())
    assert call("predict", model, eights, "--abstain", 7)[0] == 2
