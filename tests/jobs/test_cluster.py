"""The whole of ``cluster``, on handwritten digits with VGG16's real weights at 32 pixels."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn import encode, photo
from greffon import cluster, train
from greffon.cli import main
from greffon.datasets import read_dataset
from greffon.demo import write_digits
from greffon.errors import DataError, GreffonError, OptionError
from greffon.images import decode
from greffon.jobs.cluster import ClusterResult
from greffon.progress import Silent
from greffon.transfer.unsupervised import METHODS

pytestmark = pytest.mark.usefixtures("vgg16_package", "one_thread")

#: Small, and one precision on every machine.
SMALL: dict[str, Any] = {"size": 32, "precision": "float32"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four digits, a folder each, with what else lies in a folder."""
    whole, folder = (tmp_path_factory.mktemp("photos") / name for name in ("all", "digits"))
    write_digits(whole, images=300)
    for name in "0147":
        shutil.copytree(whole / name, folder / name)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (folder / "notes.txt").write_text("not a photo")
    (folder / "0" / "copy.png").write_bytes(sorted((folder / "0").iterdir())[0].read_bytes())
    return folder


@pytest.fixture(scope="module")
def result(digits: Path) -> ClusterResult:
    return cluster(digits, k=4, score=True, out=digits.parent / "out", **SMALL)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def by_content(result: ClusterResult) -> dict[bytes, tuple[int, float, str, int]]:
    return {one.path.read_bytes(): (one.cluster, one.confidence, one.part, one.nearest) for one in result.photos}


def test_every_readable_photo_has_a_row(result: ClusterResult, digits: Path) -> None:
    found = rows(result.folder / "assignments.csv")
    assert list(found[0])[:3] == ["path", "cluster", "confidence"]
    assert {Path(row["path"]) for row in found} == {*digits.rglob("*.png")} - {digits / "broken.png"}
    assert {int(row["cluster"]) for row in found} == {0, 1, 2, 3}
    assert all(0 <= float(row["confidence"]) <= 1 and row["name"] == "" for row in found)
    assert all(int(row["nearest"]) != int(row["cluster"]) for row in found)
    assert len({one[0] for one in by_content(result).values()}) == 4


def test_the_figures(result: ClusterResult, digits: Path) -> None:
    told = json.loads((result.folder / "metrics.json").read_text())
    assert told["k"] == 4
    assert told["n"] == sum(told["sizes"]) == len(result.photos) == told["different"] + 1
    assert told["unreadable"][0][0] == str(digits / "broken.png")
    assert 0 < told["silhouette"] < 1
    assert told["count"] is None
    assert told["accuracy"] > 0.8 and told["nmi"] > 0.6 and told["ari"] > 0.5
    truth = np.array([one.path.parent.name for one in result.photos])
    mine = np.array([one.cluster for one in result.photos])
    best = sum(max(int(((mine == c) & (truth == name)).sum()) for name in "0147") for c in range(4)) / len(mine)
    assert told["accuracy"] == pytest.approx(best)  # here every cluster's own digit is another
    assert told["scored"] == told["n"]


def test_pictures_and_the_page(result: ClusterResult) -> None:
    assert sorted(one.name for one in (result.folder / "sheets").iterdir()) == [f"cluster-0{c}.png" for c in range(4)]
    sheet = decode((result.folder / "sheets" / "cluster-00.png").read_bytes())
    assert sheet.shape[1] > 800 and (sheet < 128).mean() > 0.005
    page = (result.folder / "clusters.html").read_text()
    assert "http-equiv" in page
    assert "http:" not in page and "https:" not in page and "src=\"data:image/jpeg;base64," in page
    assert page.count('class="photo"') == len(result.photos)
    assert result.figures["clustering"] in page
    assert not (result.folder / "k.png").exists()


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_labels_and_folders_are_not_looked_at(method: str, digits: Path, tmp_path: Path) -> None:
    """The contract: under other folders, other names and other labels, the same clusters; and ``--score`` changes nothing."""
    plain = cluster(digits, k=4, method=method, out=tmp_path / "plain", **SMALL)
    files = [path for path in sorted(digits.rglob("*.png")) if path.name not in ("broken.png", "copy.png")]
    rng = np.random.default_rng(0)
    names = rng.permutation([path.parent.name for path in files])
    mixed, table = tmp_path / "mixed", tmp_path / "table.csv"
    lines = ["path,label,split"]
    for number, (i, name) in enumerate(zip(rng.permutation(len(files)), names, strict=True)):
        moved = mixed / name / "deeper" / f"{number}.png"
        moved.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(files[i], moved)
        lines.append(f"{moved},{names[number - 1]},{('train', 'test')[number % 2]}")
    table.write_text("\n".join(lines) + "\n")
    for where in (mixed, table) if method == "auto" else (table,):
        found = cluster(where, k=4, method=method, score=True, out=tmp_path / f"out-{where.name}", **SMALL)
        assert by_content(plain) == by_content(found)
        assert found.computed == 0 or plain.computed
        assert found.figures["accuracy"] < 0.6
    assert "accuracy" not in plain.figures


def test_the_second_run_is_the_same(result: ClusterResult, digits: Path, tmp_path: Path) -> None:
    again = cluster(digits, k=4, score=True, out=tmp_path / "again", **SMALL)
    assert again.computed == 0
    for name in ("assignments.csv", "clusters.html", "sheets/cluster-00.png"):
        assert (again.folder / name).read_bytes() == (result.folder / name).read_bytes()
    cluster(digits, k=2, out=tmp_path / "again", **SMALL)  # over it
    assert sorted(one.name for one in (again.folder / "sheets").iterdir()) == ["cluster-00.png", "cluster-01.png"]


def test_the_number_is_estimated(digits: Path, tmp_path: Path) -> None:
    found = cluster(digits, most_k=8, out=tmp_path / "out", **SMALL)
    told = found.figures["count"]
    assert 2 <= found.k <= 8 and found.k == told["taken"]
    assert told["k"] == list(range(2, 9))
    assert decode((tmp_path / "out" / "k.png").read_bytes()).shape[2] == 3
    assert "How the number of clusters was estimated" in (tmp_path / "out" / "clusters.html").read_text()
    cluster(digits, k=2, out=tmp_path / "out", **SMALL)
    assert not (tmp_path / "out" / "k.png").exists()


def test_names_make_a_data_set_to_train_on(result: ClusterResult, digits: Path, tmp_path: Path) -> None:
    out, names = tmp_path / "out", tmp_path / "names.json"
    shutil.copytree(result.folder, out)
    before = (out / "clusters.html").read_bytes()
    first = result.photos[0]
    halves = {one.part[:1] for one in result.photos if one.cluster == 0}
    assert halves == {"1", "2"}
    clustering = result.figures["clustering"]
    names.write_text(json.dumps({
        "clustering": clustering, "names": {"0": "big", "0.2": "half", "1": "same", "2": "same", "3": ""},
        "photos": {str(first.path): "odd one"},
    }))  # fmt: skip
    listener = Silent()
    found = cluster(digits, out=out, names=names, to_dataset=tmp_path / "links", progress=listener, **SMALL)
    wanted = {}
    for one in result.photos:
        name = {0: "half" if one.part[:1] == "2" else "big", 1: "same", 2: "same", 3: ""}[one.cluster]
        wanted[one.path] = "odd one" if one.path == first.path else name
    assert {one.path: one.name for one in found.photos} == wanted
    assert {Path(row["path"]): row["name"] for row in rows(out / "assignments.csv")} == wanted
    dataset = read_dataset(tmp_path / "links")
    assert {(path.resolve(), dataset.classes[i]) for path, i in zip(dataset.paths, dataset.labels, strict=True)} == {
        (path, name) for path, name in wanted.items() if name
    }
    assert found.in_dataset == len(dataset)
    assert (out / "clusters.html").read_bytes() == before
    # Named a second time, and as a table.
    again = cluster(digits, out=out, names=names, to_dataset=tmp_path / "data.csv", threshold=0.999, score=True, **SMALL)
    assert again.in_dataset < found.in_dataset
    assert again.figures["accuracy"] == result.figures["accuracy"]
    names.write_text("cluster,name\n0,zero\n1,one\n2,two\n3,three\n")
    cluster(digits, out=out, names=names, to_dataset=tmp_path / "four.csv", **SMALL)
    trained = train(tmp_path / "four.csv", out=tmp_path / "model", size=32, precision="float32")
    assert set(trained.model.classes) == {"zero", "one", "two", "three"}


def test_without_names_clusters_have_numbers(digits: Path, tmp_path: Path) -> None:
    cluster(digits, k=2, out=tmp_path / "out", to_dataset=tmp_path / "links", **SMALL)
    assert sorted(one.name for one in (tmp_path / "links").iterdir()) == ["cluster-00", "cluster-01"]


def test_names_that_do_not_fit(result: ClusterResult, digits: Path, tmp_path: Path) -> None:
    out, names = tmp_path / "out", tmp_path / "names.json"
    shutil.copytree(result.folder, out)
    other, unknown = tmp_path / "other.json", tmp_path / "unknown.csv"
    names.write_text(json.dumps({"names": {"0": "a"}}))
    other.write_text(json.dumps({"clustering": "another", "names": {"0": "a"}}))
    unknown.write_text("cluster,name\n0,a\n17,b\n")
    cases: list[tuple[Path, Path, str]] = [
        (tmp_path / "nowhere", names, "holds no clusters to name"),
        (out, other, "for other clusters than those in"),
        (out, unknown, "there is no cluster 17"),
    ]
    for folder, file, said in cases:
        with pytest.raises(GreffonError) as caught:
            cluster(digits, out=folder, names=file, **SMALL)
        assert said in caught.value.what
    text = (out / "assignments.csv").read_text()
    for changed, said in ((text.replace(",0,", ",1,", 1), "was changed since"), (text.replace(",0,", ",x,", 1), "row")):
        (out / "assignments.csv").write_text(changed)
        with pytest.raises(DataError, match=said):
            cluster(digits, out=out, names=names, **SMALL)


def test_few_and_same_photos(digits: Path, tmp_path: Path) -> None:
    one, same, alike = tmp_path / "one", tmp_path / "same", tmp_path / "alike"
    picture = photo(1)
    for folder, count in ((one, 1), (same, 6), (alike, 6)):
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.png").write_bytes(encode(picture))
    for number in range(6):  # the same pixels under other bytes
        data = (alike / f"{number}.png").read_bytes()
        (alike / f"{number}.png").write_bytes(data + bytes(number))
    for folder, count in ((one, 1), (same, 6), (alike, 6)):
        found = cluster(folder, out=tmp_path / "out" / folder.name, **SMALL)
        assert [row.cluster for row in found.photos] == [0] * count
        assert (found.k, found.figures["silhouette"]) == (1, None)
        assert (tmp_path / "out" / folder.name / "clusters.html").is_file()
        for method in ("auto", "hdbscan"):
            with pytest.raises(OptionError, match=r"-k 3: (there are only 1|of the 6 photos only 1)"):
                cluster(folder, k=3, method=method, out=tmp_path / "no", **SMALL)
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((digits / "7").iterdir())[:3]:
        shutil.copy(path, few)
    assert cluster(few, out=tmp_path / "out" / "few", **SMALL).k == 1
    assert cluster(few, k=3, out=tmp_path / "out" / "few3", **SMALL).k == 3
    with pytest.raises(OptionError, match="-k 4: there are only 3 different photos"):
        cluster(few, k=4, out=tmp_path / "no", **SMALL)
    assert not (tmp_path / "no").exists()


def test_bad_input_is_one_clear_error(digits: Path, tmp_path: Path) -> None:
    empty, rubbish, full, plain = (tmp_path / name for name in ("empty", "rubbish", "full", "plain"))
    for folder in (empty, rubbish, full, plain):
        folder.mkdir()
    (rubbish / "a.png").write_bytes(b"nothing")
    (full / "thesis.txt").write_text("years of work")
    (plain / "a.png").write_bytes(encode(photo(1)))
    cases: list[tuple[Path, dict[str, Any], type[GreffonError], str]] = [
        (tmp_path / "nowhere", {}, DataError, "there is no such file or folder"),
        (empty, {}, DataError, "holds no image files"),
        (rubbish, {}, DataError, "none of its 1 files is a readable image"),
        (plain, {"score": True}, DataError, "has no labels to score by"),
        (digits, {"out": digits / "out"}, OptionError, "lies in the data"),
        (digits, {"out": full}, OptionError, "something else already"),
        (digits, {"to_dataset": full}, OptionError, "something else already"),
        (digits, {"k": 0}, OptionError, "-k must be 1 or more"),
        (digits, {"k": 10**6}, OptionError, "different photos"),
        (digits, {"most_k": 1}, OptionError, "--most-k"),
        (digits, {"method": "dbscan"}, OptionError, "--method must be auto or one of kmeans"),
        (digits, {"threshold": 2.0}, OptionError, "--threshold"),
        (digits, {"names": tmp_path / "no.json"}, DataError, "cannot be read"),
        (digits, {"backbone": "vgg61"}, GreffonError, "vgg61"),
    ]
    for photos, options, kind, said in cases:
        with pytest.raises(GreffonError) as caught:
            cluster(photos, **{"out": tmp_path / "out", **SMALL, **options})
        assert isinstance(caught.value, kind), (options, caught.value)
        assert said in caught.value.what, caught.value
        assert not (tmp_path / "out").exists(), said


def test_the_command(
    result: ClusterResult, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["greffon", "cluster", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    options = ["--size", 32, "--precision", "float32", "--out", tmp_path / "out"]
    code, said, _ = call(digits, "-k", 4, "--score", *options)
    assert code == 0
    assert f"{len(result.photos)} photos in 4 clusters, 1 unreadable" in said
    assert "accuracy" in said and "clusters.html" in said
    names = tmp_path / "names.csv"
    names.write_text("cluster,name\n0,zero\n")
    code, said, _ = call(digits, "--names", names, "--to-dataset", tmp_path / "links", *options)
    assert code == 0
    assert "zero" in said and "for greffon train" in said
    code, said, _ = call(digits, "--quiet", "--json", "--most-k", 4, *options)
    assert code == 0
    assert json.loads(said)["count"]["k"] == [2, 3, 4]
    for words, expected in [(["-k", "100000"], "different photos"), (["--method", "x"], "--method")]:
        code, said, told = call(digits, *words, *options)
        assert code == 2
        assert expected in said + told
