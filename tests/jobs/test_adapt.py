"""The whole of ``adapt``: handwritten digits, and others of them in black on white, VGG16's real weights at 32 pixels."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from greffon import adapt, evaluate, predict, train
from greffon.cli import main
from greffon.demo import write_digits
from greffon.errors import GreffonError
from greffon.jobs.adapt import Above, AdaptResult
from greffon.progress import Silent
from greffon.training import Recipe
from greffon.transfer.transductive import ABOVE, METHODS, suggested_rates

pytestmark = pytest.mark.usefixtures("vgg16_package")

#: Small, and one precision on every machine.
SMALL: dict[str, Any] = {"size": 32, "precision": "float32"}
QUICK = Above(views=1, recipe=Recipe(epochs=2, batch=32))


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Five digits, white on black; and others of them, black on white."""
    root = tmp_path_factory.mktemp("domains")
    write_digits(root / "all", images=500)
    source, target = root / "source", root / "target"
    for name in "01467":
        for number, path in enumerate(sorted((root / "all" / name).iterdir())):
            if number % 2:
                (source / name).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, source / name / path.name)
            else:
                picture = 255 - np.asarray(Image.open(path).convert("RGB"))
                (target / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(target / name / path.name)
    return source, target


@pytest.fixture(scope="module")
def unlabelled(domains: tuple[Path, Path]) -> Path:
    """The target as a person has it: in one folder, with a copy, a broken file and something that is no photo."""
    folder = domains[1].parent / "there"
    folder.mkdir()
    for path in sorted(domains[1].rglob("*.png")):
        shutil.copy(path, folder / f"{path.stem}_{path.parent.name}.png")
    first = min(folder.iterdir())
    shutil.copy(first, folder / "copy.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (folder / "notes.txt").write_text("not a photo")
    return folder


@pytest.fixture(scope="module")
def listener() -> Silent:
    return Silent()


@pytest.fixture(scope="module")
def result(domains: tuple[Path, Path], unlabelled: Path, listener: Silent) -> AdaptResult:
    return adapt(domains[0], target=unlabelled, out=unlabelled.parent / "out", progress=listener, **SMALL)


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the report, which takes half of such a small run and has its own tests."""
    monkeypatch.setattr("greffon.jobs.adapt.job.adaptation_report", lambda *_, **__: None)


def right(result: AdaptResult, probabilities: np.ndarray) -> float:
    """The share of photos that are named rightly, by the last letter of their names."""
    truth = [path.stem[-1] for path in (result.target.dataset.paths[i] for i in result.positions.tolist())]
    return float(
        np.mean([result.model.classes[i] == name for i, name in zip(probabilities.argmax(1), truth, strict=True)])
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_it_adapts_and_it_helps(result: AdaptResult) -> None:
    assert result.adapted and result.why
    assert right(result, result.probabilities) > right(result, result.source_only) + 0.1
    assert result.changed == int((result.probabilities.argmax(1) != result.source_only.argmax(1)).sum()) > 0


def test_the_evidence_is_complete(result: AdaptResult) -> None:
    names = [row.name for row in result.evidence]
    assert {"source-only", "coral", "mixture", "self-training", "meda", "spl", "consensus"} <= set(names)
    for row in result.evidence:
        assert (
            0 <= row.reverse <= 1 and 0 <= row.weighted <= 1 and -0.01 <= row.information <= 1.01 and row.density >= 0
        )
    told = json.loads((result.folder / "adapt.json").read_text())
    assert told["method"] == result.method and told["changed"] == result.changed
    assert sum(told["predicted_by_class"].values()) == told["target_photos"] == len(result.positions)
    assert len(told["evidence"]) == len(names)
    assert [one["path"].endswith("broken.png") for one in told["unreadable"]] == [True]


def test_every_photo_has_a_row(result: AdaptResult, unlabelled: Path, listener: Silent) -> None:
    found = {Path(row["path"]).name: row for row in rows(result.folder / "predictions.csv")}
    assert set(found) == {path.name for path in unlabelled.glob("*.png")} - {"broken.png"}
    twin = min(path.name for path in unlabelled.iterdir() if path.name not in ("copy.png", "broken.png", "notes.txt"))
    assert found["copy.png"]["label"] == found[twin]["label"]
    assert any("broken.png" in warning for warning in listener.warnings)


def test_the_result_is_an_ordinary_model(result: AdaptResult, domains: tuple[Path, Path]) -> None:
    told = evaluate(result.folder, domains[1])
    assert told.evaluation.accuracy == pytest.approx(right(result, result.probabilities), abs=0.01)
    guesses = list(predict(result.folder, [str(domains[1] / "0")]))
    assert {guess.label for guess in guesses} <= set("01467") and len(guesses) > 10


@pytest.mark.usefixtures("no_page")
def test_names_of_the_targets_folders_change_nothing(
    result: AdaptResult, domains: tuple[Path, Path], tmp_path: Path
) -> None:
    """The same photos under their own labels, and under labels dealt out anew: the identical model."""
    wrong = tmp_path / "wrong"
    rng = np.random.default_rng(1)
    for path in sorted(domains[1].rglob("*.png")):
        folder = wrong / str(rng.choice(list("01467")))
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{path.stem}_{path.parent.name}.png")
    models = []
    for name, target in (("a", domains[1]), ("b", wrong)):
        # In the order of their contents, so that the order of names says nothing either.
        table = tmp_path / f"{name}.csv"
        paths = sorted(target.rglob("*.png"), key=lambda path: path.read_bytes())
        table.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in paths))
        adapt(domains[0], target=table, out=tmp_path / name, **SMALL)
        models.append(load_file(tmp_path / name / "model.safetensors"))
    assert set(models[0]) == set(models[1])
    assert all(np.array_equal(models[0][name], models[1][name]) for name in models[0])
    listener = Silent()
    again = adapt(domains[0], target=wrong, out=tmp_path / "c", method="coral", progress=listener, **SMALL)
    assert any("no label is taken from them" in warning for warning in listener.warnings)
    assert right(again, again.probabilities) > 0.5


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("method", [name for name in METHODS if name != "source-only"])
def test_every_method_on_features_gives_a_model(
    method: str, domains: tuple[Path, Path], unlabelled: Path, tmp_path: Path
) -> None:
    told = adapt(domains[0], target=unlabelled, out=tmp_path / "m", method=method, **SMALL)
    assert told.method == method and told.adapted
    assert next(iter(predict(tmp_path / "m", [str(unlabelled / "copy.png")]))).label in "01467"
    # The mixture is for domains whose classes keep their shape, and is no part of this.
    assert method == "mixture" or right(told, told.probabilities) > right(told, told.source_only) - 0.05


@pytest.mark.usefixtures("no_page")
def test_source_only_adapts_nothing(domains: tuple[Path, Path], unlabelled: Path, tmp_path: Path) -> None:
    told = adapt(domains[0], target=unlabelled, out=tmp_path / "m", method="source-only", **SMALL)
    assert not told.adapted and told.changed == 0
    assert np.array_equal(told.probabilities, told.source_only)


#: The contract of all of them is tested on small networks; here it is their way through the job.
QUICKLY = ("cdan+e",)


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=() if name in QUICKLY else pytest.mark.slow) for name in ABOVE if name != "shot"],
)
def test_every_method_above_the_cut_gives_a_model(
    method: str, domains: tuple[Path, Path], unlabelled: Path, tmp_path: Path
) -> None:
    told = adapt(domains[0], target=unlabelled, out=tmp_path / "m", method=method, above=QUICK, **SMALL)
    assert told.model.cut == "block5" and told.model.training["method"] == method
    assert sorted(path.name for path in (tmp_path / "m").iterdir() if path.suffix not in (".html", ".png")) == [
        "README.md", "adapt.json", "model.json", "model.safetensors", "predictions.csv"]  # fmt: skip
    again = {guess.path.name: guess.label for guess in predict(tmp_path / "m", [str(unlabelled)]) if not guess.fault}
    for place, row in zip(told.positions.tolist(), told.probabilities, strict=True):
        assert again[told.target.dataset.paths[place].name] == told.model.classes[int(row.argmax())]
    assert len(told.history) == 3 and all(row.target is not None for row in told.history)
    assert told.model.representation.norm == "l2"
    agreement = told.model.training["agreement_on_features"]
    kept = (told.probabilities.argmax(1) == told.source_only.argmax(1)).mean()
    assert 0.5 < agreement <= 1 and agreement != pytest.approx(kept, abs=1e-9)
    assert told.probabilities.max(1).mean() == pytest.approx(agreement, abs=0.02)  # of what the temperature can reach


def test_rates_are_as_wished_or_what_suits_the_method() -> None:
    labels, wished = np.arange(6) % 2, Recipe(learning_rate=2e-5, head_learning_rate=0.0)
    for method in ("dann", "mcc"):
        found = Above().settled(method, labels, 3)
        assert (found.learning_rate, found.head_learning_rate, found.seed) == (*suggested_rates(method), 3)
        found = Above(recipe=wished).settled(method, labels, 3)
        assert (found.learning_rate, found.head_learning_rate) == (2e-5, suggested_rates(method)[1])


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
def test_shot_needs_the_model_alone(domains: tuple[Path, Path], unlabelled: Path, tmp_path: Path) -> None:
    train(domains[0], out=tmp_path / "model", norm="standard", pool="mean", stages="last", **SMALL)
    told = adapt(
        tmp_path / "model", target=unlabelled, out=tmp_path / "m", method="shot", above=QUICK, precision="float32"
    )
    assert told.source is None and len(told.source_labels) == 0
    assert right(told, told.probabilities) > right(told, told.source_only) - 0.05
    assert evaluate(tmp_path / "m", domains[1]).evaluation.n > 100


CHILD = """
import sys
from pathlib import Path
from greffon import adapt
from greffon.jobs.adapt import Above
from greffon.training import Recipe

source, target, out = sys.argv[1:4]
adapt(source, target=target, out=out, method="dann", size=32, precision="float32", resume="resume" in sys.argv,
      above=Above(views=1, recipe=Recipe(epochs=4, batch=32)))
"""


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_model(domains: tuple[Path, Path], tmp_path: Path) -> None:
    def run(out: Path, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, str(domains[0]), str(domains[1]), str(out), *more], env=dict(os.environ)
        )

    assert run(tmp_path / "whole").wait(300) == 0
    child, file = run(tmp_path / "cut"), tmp_path / "cut" / "checkpoint.safetensors"
    deadline = time.monotonic() + 200
    while not file.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait(60)
    assert file.exists()
    assert run(tmp_path / "cut", "resume").wait(300) == 0
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("no_page")
def test_a_domain_that_is_the_same_is_kept_as_it_is(domains: tuple[Path, Path], tmp_path: Path) -> None:
    """Two halves of one domain: no gain is expected, and the source-only model is kept."""
    here, there = tmp_path / "here", tmp_path / "there"
    for number, path in enumerate(sorted(domains[0].rglob("*.png"))):
        folder = (here if number % 2 else there) / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.name)
    told = adapt(here, target=there, out=tmp_path / "m", **SMALL)
    assert not told.adapted and "no gain expected" in told.why
    assert np.array_equal(told.probabilities, told.source_only)


@pytest.mark.usefixtures("no_page")
def test_the_same_photos_in_both_domains_are_told(domains: tuple[Path, Path], tmp_path: Path) -> None:
    both, listener = tmp_path / "both", Silent()
    shutil.copytree(domains[0], both)
    told = adapt(domains[0], target=both, out=tmp_path / "m", progress=listener, **SMALL)
    assert told.shared == len(told.positions) and not told.adapted
    assert any("stand in both domains" in warning for warning in listener.warnings)
    assert any("nothing to adapt to" in warning for warning in told.warnings)


def test_a_target_of_five_photos(domains: tuple[Path, Path], tmp_path: Path) -> None:
    few, listener = tmp_path / "few", Silent()
    few.mkdir()
    for path in sorted(domains[1].rglob("*.png"))[::30][:5]:
        shutil.copy(path, few / path.name)
    told = adapt(domains[0], target=few, out=tmp_path / "m", progress=listener, **SMALL)
    assert len(told.positions) == 5 and told.probabilities.shape == (5, 5)
    assert not told.adapted and "say too little" in told.why
    assert any("the target has 5 photos" in warning for warning in listener.warnings)


@pytest.mark.usefixtures("no_page")
def test_missing_classes_are_suspected(domains: tuple[Path, Path], tmp_path: Path) -> None:
    part, listener = tmp_path / "part", Silent()
    for name in "01":
        shutil.copytree(domains[0] / name, part / name)
    told = adapt(domains[0], target=part, out=tmp_path / "m", progress=listener, **SMALL)
    assert any("proportions seem to differ" in warning for warning in told.warnings)
    assert any("seem to be missing" in warning and "4" in warning for warning in told.warnings)


def bad(case: str, domains: tuple[Path, Path], tmp_path: Path) -> dict[str, Any]:
    source, target = domains
    base: dict[str, Any] = {"source": source, "target": target, "out": tmp_path / "m", **SMALL}
    if case == "unknown method":
        return {**base, "method": "magic"}
    if case == "same folder":
        return {**base, "target": source}
    if case == "target within":
        return {**base, "target": source / "0"}
    if case == "empty target":
        (tmp_path / "empty").mkdir()
        return {**base, "target": tmp_path / "empty"}
    if case == "no target":
        return {**base, "target": tmp_path / "nothing"}
    if case == "one class":
        shutil.copytree(source / "0", tmp_path / "one" / "0")
        return {**base, "source": tmp_path / "one"}
    if case == "out in data":
        return {**base, "out": target / "m"}
    if case == "out taken":
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "letter.txt").write_text("mine")
        return base
    if case == "shot of photos":
        return {**base, "method": "shot"}
    if case == "resume of features":
        return {**base, "resume": True}
    if case == "unreadable target":
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "a.png").write_bytes(b"nothing")
        return {**base, "target": tmp_path / "bad"}
    assert case == "no such stage"
    return {**base, "method": "mcc", "above": Above(unfreeze="block9")}


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("unknown method", "--method must be auto or one of source-only"),
        ("same folder", "is the source itself"),
        ("target within", "lies in"),
        ("empty target", "holds no image files"),
        ("no target", "nothing"),
        ("one class", "at least two"),
        ("out in data", "lies in the data"),
        ("out taken", "something else already"),
        ("shot of photos", "no model folder"),
        ("resume of features", "works on features"),
        ("unreadable target", "none of its 1 files is a readable image"),
        ("no such stage", "block9"),
    ],
)
def test_bad_input_is_one_error(case: str, words: str, domains: tuple[Path, Path], tmp_path: Path) -> None:
    given = bad(case, domains, tmp_path)
    with pytest.raises(GreffonError) as caught:
        adapt(given.pop("source"), **given)
    assert words in str(caught.value)


def test_the_command(domains: tuple[Path, Path], unlabelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    options = ["--out", str(tmp_path / "m"), "--size", "32", "--precision", "float32", "--method", "coral", "--quiet"]
    monkeypatch.setattr(
        sys,
        "argv",
        ["greffon", "adapt", str(domains[0]), "--target", str(unlabelled), *options],
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert "adapted (coral)" in printed and "no label of the target was looked at" in printed
    monkeypatch.setattr(
        sys,
        "argv",
        ["greffon", "adapt", str(domains[0]), "--target", str(tmp_path / "x"), "--out", str(tmp_path / "n")],
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
