"""The whole of ``audit``, on handwritten digits with VGG16's real weights at 32 pixels, with faults that were planted."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn import encode, photo
from greffon import audit, embed, evaluate, train
from greffon.cli import main
from greffon.datasets import path_in_table, read_dataset, without_excluded
from greffon.demo import write_digits
from greffon.errors import DataError, GreffonError, OptionError
from greffon.images import decode
from greffon.jobs.audit import AuditResult
from greffon.progress import Silent

pytestmark = pytest.mark.usefixtures("vgg16_package")

#: Small, and one precision on every machine.
SMALL: dict[str, Any] = {"size": 32, "precision": "float32"}


def move(folder: Path, name: str, other: str, count: int, start: int) -> list[Path]:
    """Put so many photos of one class into another, by the order of their names."""
    moved = []
    for path in sorted((folder / name).glob("*.png"))[start : start + count]:
        moved.append(folder / other / f"moved-{name}-{path.name}")
        shutil.move(path, moved[-1])
    return moved


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "digits"
    write_digits(folder, images=400)
    for name in "235689":
        shutil.rmtree(folder / name)
    return folder


@pytest.fixture(scope="module")
def planted(digits: Path) -> dict[str, list[Path]]:
    """Faults of every kind, by kind."""
    wrong = [*move(digits, "0", "1", 2, 3), *move(digits, "4", "7", 2, 3), *move(digits, "7", "0", 2, 3)]
    twins = sorted((digits / "1").glob("0*.png"))[:2]
    across = [digits / "4" / "same.png", twins[0]]
    shutil.copy(twins[0], across[0])
    copies = [digits / "1" / "copy.png", twins[1]]
    shutil.copy(twins[1], copies[0])
    broken = digits / "7" / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    odd = digits / "0" / "holiday.jpg"
    odd.write_bytes(encode(photo(5, 300, 500), "JPEG"))
    source = sorted((digits / "7").glob("0*.png"))[4]
    pixels = decode(source.read_bytes())
    near = [digits / "7" / "near.jpg", source]
    near[0].write_bytes(encode(pixels, "JPEG", quality=70))
    return {"label-error": wrong, "duplicate-across-classes": across, "duplicate": copies, "unreadable": [broken], "odd": [odd],
            "near-duplicate": near}  # fmt: skip


@pytest.fixture(scope="module")
def listener() -> Silent:
    return Silent()


@pytest.fixture(scope="module")
def result(digits: Path, planted: dict[str, list[Path]], listener: Silent) -> AuditResult:
    return audit(digits, out=digits.parent / "out", fix="quarantine", progress=listener, **SMALL)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def folder_of(result: AuditResult) -> Path:
    assert result.folder is not None
    return result.folder


def test_what_was_planted_is_found(result: AuditResult, planted: dict[str, list[Path]], listener: Silent) -> None:
    found = rows(folder_of(result) / "audit.csv")
    assert list(found[0]) == ["path", "finding", "class", "suggested", "score", "reason"]
    by_kind: dict[str, dict[str, dict[str, str]]] = {}
    for row in found:
        by_kind.setdefault(row["finding"], {})[row["path"]] = row
    for kind in ("duplicate-across-classes", "duplicate", "unreadable"):
        assert set(by_kind[kind]) == {path_in_table(path) for path in planted[kind]}, kind
    assert {path_in_table(path) for path in planted["near-duplicate"]} <= set(by_kind["near-duplicate"])
    assert {path_in_table(path) for path in planted["odd"]} <= set(by_kind["odd-size"])
    assert {path_in_table(path) for path in planted["odd"]} <= set(by_kind["outlier"])
    wrong = [path_in_table(path) for path in planted["label-error"]]
    suspects = by_kind["label-error"]
    assert sum(path in suspects for path in wrong) >= 5
    first = list(suspects)[: len(result.audit.contents) // 10]
    assert sum(path in first for path in wrong) >= 5
    for path in wrong:
        if path in suspects:
            assert suspects[path]["suggested"] == Path(path).name.split("-")[1]
    scores = [float(row["score"]) for row in suspects.values()]
    assert scores == sorted(scores, reverse=True)
    assert any("broken.png" in text for text in listener.warnings)


def test_the_json_says_the_same(result: AuditResult, digits: Path) -> None:
    told = json.loads((folder_of(result) / "audit.json").read_text())
    assert told["files"] == sum(1 for _ in digits.rglob("*.*"))
    assert told["counts"] == dict(Counter(one["finding"] for one in told["findings"]))
    in_table = [(row["path"], row["finding"]) for row in rows(folder_of(result) / "audit.csv")]
    assert [(one["path"], one["finding"]) for one in told["findings"] if one["path"]] == in_table
    labels = told["labels"]
    assert labels["agree"] / labels["judged"] == labels["agreement"]
    low, high = labels["agreement_interval"]
    assert low <= labels["agreement"] <= high
    assert np.sum(labels["confident_joint"]) <= labels["judged"]
    assert len(told["confused"]) == 6
    assert {one["cue"] for one in told["shortcuts"]} <= {"file-size", "compression", "format", "dimensions", "colourless", "border"}
    assert any("few" in note for note in told["notes"]) == (told["contents"] < 100)


def test_the_page_needs_nothing_else(result: AuditResult) -> None:
    page = (folder_of(result) / "audit.html").read_text()
    assert "http" not in page.split("</style>")[1], "the page must not reach for a network"
    assert "<script" not in page
    assert page.count("data:image/jpeg;base64,") >= 8
    for kind in result.audit.counts():
        assert f'id="{kind}"' in page


def test_the_list_is_what_training_leaves_out(
    result: AuditResult, digits: Path, planted: dict[str, list[Path]], tmp_path: Path
) -> None:
    file = folder_of(result) / "exclude.csv"
    listed = {row["path"] for row in rows(file)}
    assert listed == {path_in_table(path) for path in result.audit.excluded()}
    for kind in ("unreadable", "duplicate-across-classes"):
        assert {path_in_table(path) for path in planted[kind]} <= listed
    assert len(listed & {path_in_table(path) for path in planted["duplicate"]}) == 1
    assert not listed & {path_in_table(path) for path in planted["near-duplicate"]}
    assert (digits / "7" / "broken.png").exists(), "nothing is moved"
    left = {path_in_table(path) for path in without_excluded(read_dataset(digits), file).paths}
    assert not left & listed
    warned = Silent()
    trained = train(digits, exclude=file, out=tmp_path / "model", progress=warned, **SMALL)
    assert not {path_in_table(path) for path in trained.dataset.paths} & listed
    assert trained.unreadable == ()
    assert any(f"{len(listed)} files are left out" in text for text in warned.warnings)
    measured = evaluate(tmp_path / "model", digits, exclude=file)
    assert not {path_in_table(path) for path in measured.dataset.paths} & listed
    assert embed(digits, out=tmp_path / "features.parquet", exclude=file, **SMALL).images == len(left)
    again = audit(digits, exclude=file, **SMALL)
    assert "unreadable" not in again.audit.counts()
    assert len(again.audit.contents.dataset) == len(left)


@pytest.mark.slow
def test_the_second_run_computes_nothing_and_finds_the_same(result: AuditResult, digits: Path, tmp_path: Path) -> None:
    again = audit(digits, out=tmp_path / "again", **SMALL)
    assert again.computed == 0
    assert (tmp_path / "again" / "audit.csv").read_bytes() == (folder_of(result) / "audit.csv").read_bytes()
    assert not (tmp_path / "again" / "exclude.csv").exists()
    audit(digits, out=tmp_path / "again", fix="quarantine", **SMALL)
    assert (tmp_path / "again" / "exclude.csv").read_bytes() == (folder_of(result) / "exclude.csv").read_bytes()


def few_of(digits: Path, folder: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for path in sorted((digits / name).glob("0*.png"))[:count]:
            shutil.copy(path, folder / name)
    return folder


def test_ten_photos_in_all(digits: Path, planted: dict[str, list[Path]], tmp_path: Path) -> None:
    found = audit(few_of(digits, tmp_path / "ten", {"0": 5, "4": 5}), out=tmp_path / "out", **SMALL)
    notes = " ".join(found.audit.notes)
    assert "10 photos are few: intervals are wide" in notes
    assert found.audit.labelling is not None
    assert found.audit.counts()["few-images"] == 2
    assert "shortcut" not in found.audit.counts()
    assert "confused-classes" not in found.audit.counts()


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"0": 6}, "there is one class"),
        ({"0": 6, "4": 1}, "no two classes have two different photos each"),
        ({"0": 1, "4": 1}, "no two classes"),
        ({"0": 12, "4": 1, "7": 12}, "1 labels cannot be judged"),
        ({"0": 5, "4": 0}, "there is one class"),
    ],
)
def test_odd_classes(digits: Path, planted: dict[str, list[Path]], tmp_path: Path, counts: dict[str, int], said: str) -> None:
    found = audit(few_of(digits, tmp_path / "few", counts), out=tmp_path / "out", **SMALL)
    assert any(said in note for note in found.audit.notes), found.audit.notes
    assert json.loads((folder_of(found) / "audit.json").read_text())["files"] == sum(counts.values())
    if 0 in counts.values():
        assert any("'4' is empty" in note for note in found.audit.notes)
    own = [one for one in found.audit.findings if one.kind == "label-error" and one.label == "4"]
    assert not own, "the only photo of a class is never suspected"


def test_all_the_same_and_no_classes(digits: Path, tmp_path: Path) -> None:
    source = sorted((digits / "0").glob("0*.png"))[0]
    for name in ("a", "b"):
        (tmp_path / "same" / name).mkdir(parents=True)
        for number in range(3):
            shutil.copy(source, tmp_path / "same" / name / f"{number}.png")
    found = audit(tmp_path / "same", out=tmp_path / "out", fix="quarantine", **SMALL)
    assert found.audit.counts() == {"duplicate-across-classes": 6, "few-images": 2}
    assert len(rows(tmp_path / "out" / "exclude.csv")) == 6
    loose = tmp_path / "loose"
    loose.mkdir()
    for number, path in enumerate(sorted((digits / "4").glob("0*.png"))[:8]):
        shutil.copy(path, loose / f"{number}.png")
    shutil.copy(source, loose / "x.png")
    shutil.copy(source, loose / "y.png")
    found = audit(loose, out=tmp_path / "loose-out", **SMALL)
    assert found.audit.counts()["duplicate"] == 2
    assert any("there are no labels" in note for note in found.audit.notes)
    assert found.to_dict()["labels"] is None


def test_copies_in_the_test_split_are_found(digits: Path, planted: dict[str, list[Path]], tmp_path: Path) -> None:
    for role, start in (("train", 0), ("test", 8)):
        for name in ("0", "4"):
            (tmp_path / "data" / role / name).mkdir(parents=True)
            for path in sorted((digits / name).glob("0*.png"))[start : start + 8]:
                shutil.copy(path, tmp_path / "data" / role / name)
    leaked = sorted((tmp_path / "data" / "train" / "0").iterdir())[0]
    shutil.copy(leaked, tmp_path / "data" / "test" / "0" / "leaked.png")
    found = audit(tmp_path / "data", out=tmp_path / "out", fix="quarantine", **SMALL)
    assert found.audit.counts()["duplicate-across-splits"] == 2
    assert path_in_table(leaked) in {row["path"] for row in rows(tmp_path / "out" / "exclude.csv")}


def test_a_folder_that_cannot_be_read_is_named(digits: Path, planted: dict[str, list[Path]], tmp_path: Path) -> None:
    data = few_of(digits, tmp_path / "data", {"0": 4, "4": 4, "7": 4})
    (data / "7").chmod(0)
    try:
        if os.access(data / "7", os.R_OK):
            pytest.skip("nothing is refused to this user")
        found = audit(data, out=tmp_path / "out", **SMALL)
        assert [one.path for one in found.audit.findings if one.kind == "unreadable"] == [data / "7"]
    finally:
        (data / "7").chmod(0o755)


def test_bad_input_is_one_clear_error(digits: Path, tmp_path: Path) -> None:
    empty, rubbish, full = (tmp_path / name for name in ("empty", "rubbish", "full"))
    for folder in (empty, rubbish, full):
        folder.mkdir()
    (rubbish / "a.png").write_bytes(b"nothing")
    (full / "thesis.txt").write_text("years of work")
    out = tmp_path / "out"
    cases: list[tuple[Path, dict[str, Any], type[GreffonError], str]] = [
        (tmp_path / "nowhere", {}, DataError, "there is no such file or folder"),
        (empty, {}, DataError, "holds no image files"),
        (rubbish, {}, DataError, "none of its 1 files is a readable image"),
        (digits, {"out": digits / "out"}, OptionError, "lies in the data"),
        (digits, {"out": full}, OptionError, "something else already"),
        (digits, {"fix": "delete"}, OptionError, "--fix must be quarantine"),
        (digits, {"fix": "quarantine", "out": None}, OptionError, "needs a folder"),
        (digits, {"exclude": tmp_path / "nowhere.csv"}, DataError, "cannot be read"),
        (digits, {"precision": "float8"}, OptionError, "precision"),
        (digits, {"backbone": "vgg61"}, GreffonError, "vgg61"),
    ]
    for data, options, kind, said in cases:
        with pytest.raises(GreffonError) as caught:
            audit(data, **{"out": out, **SMALL, **options})
        assert isinstance(caught.value, kind), (options, caught.value)
        assert said in caught.value.what, caught.value
        assert not out.exists(), said


def test_the_command(
    result: AuditResult, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["greffon", "audit", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    options = ["--size", 32, "--precision", "float32", "--out", tmp_path / "out"]
    code, said, _ = call(digits, *options, "--fix", "quarantine")
    assert code == 0
    for words in ("possible label errors", "the same file in several classes", str(tmp_path / "out" / "audit.html"), "exclude.csv"):
        assert words in said
    code, said, _ = call(digits, *options, "--json", "--quiet")
    assert code == 0
    assert json.loads(said)["counts"] == result.audit.counts()
    code, _, said = call(digits, *options, "--fix", "delete")
    assert (code, said.count("error:")) == (2, 1)
