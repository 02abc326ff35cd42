"""The whole of ``probe``, on handwritten digits with VGG16's real weights at 32 pixels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawn import encode, photo
from greffon import embed, probe
from greffon.datasets import folds, read_dataset, scan
from greffon.demo import write_digits
from greffon.errors import BackboneError, DataError, OptionError
from greffon.jobs.probe import ProbeResult
from greffon.progress import Silent
from greffon.transfer.inductive import suggest_cut

pytestmark = pytest.mark.usefixtures("vgg16_package")

#: Small, and one precision on every machine.
SMALL: dict[str, Any] = {"size": 32, "precision": "float32"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "digits"
    write_digits(folder, images=120)
    (folder / "3" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / "depth"


@pytest.fixture(scope="module")
def result(digits: Path, out: Path) -> ProbeResult:
    return probe(digits, out=out, folds=3, **SMALL)


def test_every_stage_is_measured_on_all_images(result: ProbeResult) -> None:
    figures = result.figures
    assert [one.stage for one in figures.stages] == ["block1", "block2", "block3", "block4", "block5"]
    assert [one.features for one in figures.stages] == [64, 128, 256, 512, 512]
    assert figures.together.features == 1472
    assert {one.n for one in (*figures.stages, figures.together)} == {120}
    assert figures.right.shape == (6, 120)
    assert [path.name for path, _ in result.unreadable] == ["broken.png"]
    # Handwriting is not in ImageNet, yet its edges are easy: far above chance from the second stage on.
    assert min(one.accuracy for one in figures.stages[1:]) > 0.6
    assert 0.1 <= figures.largest_class < 0.2
    assert figures.suggestion == suggest_cut(figures.stages)


def test_it_is_what_the_features_of_embed_give_in_the_same_folds(
    result: ProbeResult, digits: Path, tmp_path: Path
) -> None:
    """Nearest centroid has nothing to choose: a loop over the folds, on features that another command wrote."""
    import pyarrow.parquet as pq

    found = probe(digits, head="centroid", folds=3, **SMALL)
    embed(digits, out=tmp_path / "all.parquet", stages="all", pool="mean", **SMALL)
    table = pq.read_table(tmp_path / "all.parquet")
    x, y = np.array(table["features"].to_pylist()), np.array([int(label) for label in table["label"].to_pylist()])
    looked = scan(read_dataset(digits), book=None, progress=Silent())
    assert [str(path) for path in looked.dataset.paths] == table["path"].to_pylist()
    widths = np.cumsum([0, 64, 128, 256, 512, 512])
    for stage in range(5):
        part = x[:, widths[stage] : widths[stage + 1]]
        right = np.zeros(120, bool)
        for train, test in folds(y, looked.groups, 3, 0):
            mean, spread = part[train].mean(0), part[train].std(0)
            z = (part - mean) / np.where(spread > 1e-6 * part[train].max(), spread, np.inf)
            centres = np.stack([z[train][y[train] == c].mean(0) for c in range(10)])
            right[test] = ((z[test, None] - centres) ** 2).sum(2).argmin(1) == y[test]
        assert found.figures.stages[stage].accuracy == pytest.approx(right.mean(), abs=1.01 / 120)


def test_the_folder_holds_table_and_pictures(result: ProbeResult, out: Path) -> None:
    assert result.files == (out / "depth.json", out / "depth.png", out / "depth.svg")
    kept = json.loads((out / "depth.json").read_text())
    assert kept == json.loads(json.dumps(result.to_dict()))
    assert kept["backbone"] == "vgg16"
    assert [one["accuracy"] for one in kept["stages"]] == [one.accuracy for one in result.figures.stages]
    assert (kept["cut"], kept["n"], kept["folds"], kept["seed"]) == (result.figures.suggestion.cut, 120, 3, 0)
    assert "float32" in kept["engine"]
    with Image.open(out / "depth.png") as picture:
        assert picture.size == (1080, 690)


def test_the_second_run_computes_nothing_and_gives_the_same(result: ProbeResult, digits: Path) -> None:
    again = probe(digits, folds=3, **SMALL)
    assert (again.computed, again.reused) == (0, 120)
    assert again.files == ()
    assert again.to_dict() == result.to_dict()


def test_a_test_split_has_no_part_in_it(digits: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(digits.rglob("0*.png")) + sorted(digits.rglob("1*.png"))):
        role = "test" if number % 4 == 0 else "train"
        target = tmp_path / "split" / role / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    rest = tmp_path / "rest"
    shutil.copytree(tmp_path / "split" / "train", rest)
    for path in (tmp_path / "split" / "test").rglob("*.png"):
        path.write_bytes(encode(photo(int(path.stem))))
    found = probe(tmp_path / "split", head="centroid", folds=2, **SMALL)
    alone = probe(rest, head="centroid", folds=2, **SMALL)
    assert found.figures.n == alone.figures.n == len(list(rest.rglob("*.png")))
    assert found.figures.to_dict() == alone.figures.to_dict()
    assert found.computed == 0, "an image of the test split was run"


def test_what_is_wrong_is_said_before_the_work(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="vgg61"):
        probe(digits, backbone="vgg61", folds=3, **SMALL)
    with pytest.raises(OptionError, match="at least 2, got 1"):
        probe(digits, folds=1, **SMALL)
    with pytest.raises(DataError, match="40 folds need 40 images of every class"):
        probe(digits, folds=40, **SMALL)
    with pytest.raises(OptionError, match="head must be one of"):
        probe(digits, head="forest", **SMALL)
    with pytest.raises(OptionError, match="lies in the data"):
        probe(digits, out=digits / "depth", **SMALL)
    with pytest.raises(OptionError, match="precision"):
        probe(digits, folds=3, size=32, precision="float8")
    one = tmp_path / "one"
    shutil.copytree(digits / "3", one / "3")
    with pytest.raises(DataError, match="at least two classes"):
        probe(one, **SMALL)
