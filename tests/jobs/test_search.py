"""``index``, ``search``, ``duplicates`` and ``outliers`` as a whole, on drawn photos with VGG16's real weights at 32 pixels."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawn import encode, photo
from greffon import duplicates, index, outliers, search
from greffon.cli import main
from greffon.demo import write_digits
from greffon.errors import DataError, GreffonError, OptionError, PhotoIndexError
from greffon.jobs.index import IndexResult
from greffon.progress import Silent
from greffon.transfer.unsupervised import is_index_folder, load_index

pytestmark = pytest.mark.usefixtures("vgg16_package")

SMALL: dict[str, Any] = {"size": 32, "precision": "float32"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty drawn photos in folders that say nothing, copies of some, a digit, and what else lies in a folder."""
    folder = tmp_path_factory.mktemp("heap") / "photos"
    for number in range(40):
        path = folder / f"roll {number % 3}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(photo(number)))
    shutil.copy(folder / "roll 1" / "01.png", folder / "copy of 01.png")
    (folder / "02 again.jpg").write_bytes(encode(photo(2), "JPEG", 60))
    (folder / "03 mirrored.png").write_bytes(encode(np.ascontiguousarray(photo(3)[:, ::-1])))
    small = Image.fromarray(photo(4)).resize((64, 48), Image.Resampling.BOX)
    (folder / "04 small.png").write_bytes(encode(small))
    (folder / "odd.png").write_bytes(encode(np.full((70, 70, 3), 255, np.uint8)))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (folder / "notes.txt").write_text("not a photo")
    return folder


@pytest.fixture(scope="module")
def made(photos: Path) -> IndexResult:
    listener = Silent()
    result = index(photos, out=photos.parent / "index", progress=listener, **SMALL)
    assert [text for text in listener.warnings if "broken.png" in text]
    return result


def copied(made: IndexResult, to: Path) -> Path:
    return Path(shutil.copytree(made.folder, to / "index"))


def test_every_readable_file_is_in_the_index(made: IndexResult, photos: Path) -> None:
    told = made.to_dict()
    assert (told["photos"], told["features"], told["kind"]) == (45, 512, "exact")
    assert [Path(one["path"]).name for one in told["unreadable"]] == ["broken.png"]
    opened = load_index(made.folder)
    assert sorted(opened.names) == sorted(str(p.relative_to(photos)) for p in photos.rglob("*.*") if p.stem not in ("broken", "notes"))
    assert list(opened.names) == sorted(opened.names, key=os.fsencode)
    assert {path.name for path in made.folder.iterdir()} == {"index.json", "index.safetensors"}
    assert is_index_folder(made.folder) and not is_index_folder(photos)


def test_a_photo_finds_itself_and_its_like_first(made: IndexResult, photos: Path) -> None:
    for asked, first in (("roll 1/01.png", {"roll 1/01.png", "copy of 01.png"}), ("roll 2/02.png", {"roll 2/02.png", "02 again.jpg"})):
        (found,) = search(made.folder, [photos / asked], k=5)
        assert {hit.name for hit in found.hits[:2]} == first
        assert found.hits[0].similarity == pytest.approx(1, abs=1e-4)
        assert [hit.similarity for hit in found.hits] == sorted((hit.similarity for hit in found.hits), reverse=True)
        assert {hit.name for hit in found.hits if hit.same} == (first if "copy of 01.png" in first else {asked})
        assert all(hit.path.is_file() for hit in found.hits)


def test_k_may_be_larger_than_the_index(made: IndexResult, photos: Path) -> None:
    (found,) = search(made.folder, [photos / "odd.png"], k=1000)
    assert len(found.hits) == len({hit.name for hit in found.hits}) == 45
    with pytest.raises(OptionError, match="-k must be at least 1"):
        search(made.folder, [photos / "odd.png"], k=0)


def test_an_unreadable_query_is_named_and_the_others_go_on(made: IndexResult, photos: Path, tmp_path: Path) -> None:
    found = search(made.folder, [photos / "broken.png", photos / "odd.png"], out=tmp_path / "sheet.html")
    assert found[0].fault and not found[0].hits and found[1].hits
    assert "error" in found[0].to_dict()
    with pytest.raises(DataError, match=r"none of the 1 photos could be read.*broken\.png"):
        search(made.folder, [photos / "broken.png"])
    with pytest.raises(DataError, match="no such file"):
        search(made.folder, [photos / "nowhere.png"])


def test_sheets_are_written(made: IndexResult, photos: Path, tmp_path: Path) -> None:
    queries = [photos / "roll 0" / "00.png", photos / "odd.png"]
    search(made.folder, queries, k=9, out=tmp_path / "new" / "sheet.html")
    page = (tmp_path / "new" / "sheet.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * (1 + 9) and "://" not in page
    search(made.folder, queries, k=9, out=tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OptionError, match=r"\.html or \.png"):
        search(made.folder, queries, out=tmp_path / "sheet.pdf")


def test_a_photo_that_went_away_leaves_a_gap(made: IndexResult, photos: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(photos, moved)
    index(moved, out=tmp_path / "index", **SMALL)
    (moved / "roll 0" / "00.png").unlink()
    search(tmp_path / "index", [photos / "roll 0" / "00.png"], k=3, out=tmp_path / "sheet.html")
    assert "no picture" in (tmp_path / "sheet.html").read_text()
    search(tmp_path / "index", [photos / "roll 0" / "00.png"], k=3, out=tmp_path / "sheet.png")


def test_folders_names_and_labels_change_nothing(made: IndexResult, photos: Path, tmp_path: Path) -> None:
    """The contract: whatever the folders are called, each file has the same vector."""
    other = tmp_path / "other"
    for number, path in enumerate(sorted(photos.rglob("*.*"))):
        (other / f"class {number % 5}").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other / f"class {number % 5}" / path.name)
    again = index(other, out=tmp_path / "index", **SMALL)
    assert again.computed == 0
    mine, theirs = ({Path(name).name: vector.tobytes() for name, vector in zip(one.names, one.vectors.vectors, strict=True)}
                    for one in (made.index, again.index))  # fmt: skip
    assert mine == theirs
    same = [{tuple(sorted(Path(one.index.names[i]).name for i in rows)) for rows in one.groups}
            for one in (duplicates(made.folder), duplicates(tmp_path / "index"))]  # fmt: skip
    assert same[0] == same[1]


def test_the_second_run_writes_the_same(made: IndexResult, photos: Path, tmp_path: Path) -> None:
    again = index(photos, out=tmp_path / "index", **SMALL)
    # Another test's photo may be this one's to the pixel, and its features then lie in the store already.
    assert again.computed == 0 and again.reused == made.computed + made.reused > 0
    index(photos, out=tmp_path / "index", **SMALL)  # over itself
    for name in ("index.json", "index.safetensors"):
        assert (tmp_path / "index" / name).read_bytes() == (made.folder / name).read_bytes()


def test_near_duplicates_are_found_in_groups(made: IndexResult, tmp_path: Path) -> None:
    found = duplicates(made.folder, out=tmp_path / "same.csv")
    named = {tuple(sorted(found.index.names[row] for row in rows)) for rows in found.groups}
    assert named == {("copy of 01.png", "roll 1/01.png"), ("02 again.jpg", "roll 2/02.png"), ("03 mirrored.png", "roll 0/03.png"),
                     ("04 small.png", "roll 1/04.png")}  # fmt: skip
    told = {Path(one["path"]).name: one for group in found.to_dict()["groups"] for one in group}
    assert told["copy of 01.png"]["exact"] and told["01.png"]["exact"] and not told["02.png"]["exact"]
    assert sum(one["mirrored"] for one in told.values()) == 1
    assert told["03 mirrored.png"]["mirrored"] != told["03.png"]["mirrored"]
    assert Path(found.to_dict()["groups"][3][0]["path"]).name != "04 small.png", "the largest stands first"
    with (tmp_path / "same.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["group", "path", "exact", "mirrored"] and len(rows) == 8
    for name in ("same.html", "same.png"):
        duplicates(made.folder, out=tmp_path / name)
    assert "identical file" in (tmp_path / "same.html").read_text()


def test_the_odd_one_is_the_first_outlier(made: IndexResult, tmp_path: Path) -> None:
    found = outliers(made.folder, out=tmp_path / "strange.csv")
    assert found.index.names[found.found.order[0]] == "odd.png"
    assert len(found.to_dict(7)["outliers"]) == 7
    with (tmp_path / "strange.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 45 and Path(rows[0]["path"]).name == "odd.png"
    for name in ("strange.html", "strange.png"):
        outliers(made.folder, count=9, out=tmp_path / name)
    wrong: list[dict[str, Any]] = [{"count": 0}, {"neighbours": 0}]
    for options in wrong:
        with pytest.raises(OptionError, match="at least 1"):
            outliers(made.folder, **options)


def test_one_photo_and_identical_photos(photos: Path, tmp_path: Path) -> None:
    one, same = tmp_path / "one", tmp_path / "same"
    for folder, count in ((one, 1), (same, 25)):
        folder.mkdir()
        for number in range(count):
            shutil.copy(photos / "odd.png", folder / f"{number:02}.png")
        index(folder, out=tmp_path / f"index-{count}", **SMALL)
    (alone,) = search(tmp_path / "index-1", [photos / "roll 0" / "00.png"])
    assert [hit.name for hit in alone.hits] == ["00.png"]
    assert duplicates(tmp_path / "index-1").groups == ()
    assert outliers(tmp_path / "index-1").found.distance.tolist() == [0.0]
    (many,) = search(tmp_path / "index-25", [photos / "odd.png"])
    assert len(many.hits) == 20 and all(hit.same for hit in many.hits)
    assert [len(rows) for rows in duplicates(tmp_path / "index-25").groups] == [25]
    assert len(outliers(tmp_path / "index-25").found.suspects()) == 0


def test_an_index_of_another_network_is_refused(made: IndexResult, photos: Path, tmp_path: Path) -> None:
    folder = copied(made, tmp_path)
    about = json.loads((folder / "index.json").read_text())
    about["backbone"]["fingerprint"] = "0" * 64
    (folder / "index.json").write_text(json.dumps(about))
    with pytest.raises(PhotoIndexError, match=r"000000000000.*features cannot be compared") as caught:
        search(folder, [photos / "odd.png"])
    assert "--backbone" in caught.value.hint
    about["backbone"] |= {"fingerprint": made.index.origin.fingerprint, "size": 64}
    (folder / "index.json").write_text(json.dumps(about))
    with pytest.raises(PhotoIndexError, match=r"prepared for the network in another way.*height"):
        search(folder, [photos / "odd.png"])


def edited(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        about = json.loads((folder / "index.json").read_text())
        for key, value in changes.items():
            about.pop(key) if value is ... else about.update({key: value})
        (folder / "index.json").write_text(json.dumps(about))

    return edit


def arrays(**changes: Any) -> Callable[[Path], None]:
    """A safetensors file that is whole, with its right checksum, and holds something else."""

    def edit(folder: Path) -> None:
        from hashlib import sha256

        from safetensors.numpy import load_file, save_file

        held = load_file(folder / "index.safetensors")
        for key, change in changes.items():
            held[key] = np.ascontiguousarray(change(held[key]))
        save_file(held, folder / "index.safetensors")
        edited(sha256=sha256((folder / "index.safetensors").read_bytes()).hexdigest())(folder)

    return edit


def written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def spoilt(values: np.ndarray, at: int, value: float) -> np.ndarray:
    values = values.copy()
    values.reshape(-1)[at] = value
    return values


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "index.json").unlink(), "not an index of greffon"),
        (lambda folder: (folder / "index.safetensors").unlink(), r"index\.safetensors"),
        (written("index.json", b"{"), "not JSON"),
        (written("index.json", b"[" * 100_000), "not JSON"),
        (written("index.json", b"[]"), "no schema version"),
        (written("index.json", b" " * (2**20 + 1)), "larger than 1 MiB"),
        (written("index.safetensors", b""), "damaged"),
        (written("index.safetensors", b"\xff" * 8 + b"{}"), "damaged"),
        (written("index.safetensors", (99_999_999).to_bytes(8, "little") + b"{"), "damaged"),
        (edited(schema=2), "has schema 2"),
        (edited(photos=46), "not of the type and shape"),
        (edited(photos=10**12), "are not those of an index"),
        (edited(photos="45"), "photos must be of type int, got str"),
        (edited(features=513), "not of the type and shape"),
        (edited(cells=3, probes=1), "not of the type and shape"),
        (edited(cells=3, probes=9), "are not those of an index"),
        (edited(recall=float("nan")), "recall must be from 0 to 1"),
        (edited(representation="max"), "this greffon compares"),
        (edited(backbone={}), "backbone: asked must be of type str, got nothing"),
        (edited(sha256=...), "sha256 must be of type str, got nothing"),
        (edited(sha256="0" * 64), "checksum"),
        (arrays(vectors=lambda v: v[:-1]), "vectors are not of the type and shape"),
        (arrays(vectors=lambda v: v.astype(np.float64)), "vectors are not of the type and shape"),
        (arrays(vectors=lambda v: spoilt(v, 700, np.nan)), "not of length one"),
        (arrays(vectors=lambda v: spoilt(v, 700, np.inf)), "not of length one"),
        (arrays(vectors=lambda v: v * 2), "not of length one"),
        (arrays(grey=lambda v: v[:, :8]), "grey are not of the type and shape"),
        (arrays(name_ends=lambda v: v[::-1]), "names of the photos are damaged"),
        (arrays(name_ends=lambda v: v + 2**40), "names of the photos are damaged"),
        (arrays(name_ends=lambda v: spoilt(v, 0, -5)), "names of the photos are damaged"),
        (arrays(names=lambda v: v[:-1]), "names of the photos are damaged"),
        (arrays(names=lambda v: np.zeros(4096 * 45 + 1, np.uint8)), "not of the type and shape"),
        (arrays(names=lambda v: v.reshape(1, -1)), "not of the type and shape"),
    ],
)
def test_damaged_and_hostile_folders_are_one_clear_error(made: IndexResult, photos: Path, tmp_path: Path, damage: Any, said: str) -> None:
    folder = copied(made, tmp_path)
    damage(folder)
    with pytest.raises(PhotoIndexError, match=said) as caught:
        search(folder, [photos / "odd.png"])
    assert str(folder) in caught.value.what


def test_a_flipped_byte_is_found(made: IndexResult, photos: Path, tmp_path: Path) -> None:
    folder = copied(made, tmp_path)
    file = folder / "index.safetensors"
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(PhotoIndexError, match="checksum"):
        duplicates(folder)


def test_bad_input_is_one_clear_error(made: IndexResult, photos: Path, tmp_path: Path) -> None:
    empty, rubbish, full = (tmp_path / name for name in ("empty", "rubbish", "full"))
    for folder in (empty, rubbish, full):
        folder.mkdir()
    (rubbish / "a.png").write_bytes(b"nothing")
    (full / "thesis.txt").write_text("years of work")
    out = tmp_path / "out"
    cases: list[tuple[Path, dict[str, Any], type[GreffonError], str]] = [
        (tmp_path / "nowhere", {}, DataError, "no such file or folder"),
        (empty, {}, DataError, "holds no image files"),
        (rubbish, {}, DataError, "none of its 1 files is a readable image"),
        (photos, {"out": photos / "index"}, OptionError, "lies in the data"),
        (photos, {"out": full}, OptionError, "something else already"),
        (photos, {"kind": "hnsw"}, OptionError, "kind must be one of"),
        (photos, {"precision": "float8"}, OptionError, "precision"),
        (photos, {"backbone": "vgg61"}, GreffonError, "vgg61"),
    ]
    for data, options, kind, said in cases:
        with pytest.raises(GreffonError) as caught:
            index(data, **{"out": out, **SMALL, **options})
        assert isinstance(caught.value, kind) and said in caught.value.what, (options, caught.value)
        assert not out.exists()
    for job in (duplicates, outliers):
        with pytest.raises(PhotoIndexError, match="not an index"):
            job(photos)
        with pytest.raises(OptionError, match="expected a file that ends in"):
            job(made.folder, out=tmp_path / "x.txt")


def test_names_that_are_not_utf8(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd names"
    folder.mkdir()
    for name in (b"caf\xe9.png", "été.png".encode(), b"<b>&.png"):
        shutil.copy(photos / "odd.png", os.fsdecode(bytes(folder) + b"/" + name))
    index(folder, out=tmp_path / "index", **SMALL)
    (found,) = search(tmp_path / "index", [photos / "odd.png"], out=tmp_path / "sheet.html")
    assert all(hit.path.is_file() for hit in found.hits) and len(found.hits) == 3
    search(tmp_path / "index", [photos / "odd.png"], out=tmp_path / "sheet.png")
    assert "<b>&.png" not in (tmp_path / "sheet.html").read_text()


def test_the_commands(
    made: IndexResult, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["greffon", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    code, said, err = call("index", photos, "--out", tmp_path / "index", "--size", 32, "--precision", "float32")
    assert code == 0, err
    assert "45 photos, 1 set aside, 512 numbers each by vgg16" in said
    code, said, _ = call("search", made.folder, photos / "odd.png", photos / "broken.png", "-k", 3, "--json")
    assert code == 0
    first, second = map(json.loads, said.splitlines())
    assert [len(first.get("hits", ())), "error" in second] == [3, True]
    assert call("search", made.folder, photos / "odd.png", "-k", 2)[1].count("1.000") == 1
    assert "8 of 45 photos are in 4 groups" in call("duplicates", made.folder)[1]
    assert len(json.loads(call("duplicates", made.folder, "--json")[1])["groups"]) == 4
    assert "odd.png" in call("outliers", made.folder, "-n", 1)[1]
    code, _, err = call("search", photos, photos / "odd.png")
    assert code == 2 and "not an index of greffon" in err and "Traceback" not in err


@pytest.mark.slow
def test_digits_find_their_like(tmp_path: Path) -> None:
    write_digits(tmp_path / "digits", images=300)
    index(tmp_path / "digits", out=tmp_path / "index", **SMALL)
    found = search(tmp_path / "index", sorted((tmp_path / "new").iterdir()), k=5)
    assert np.mean([hit.path.parent.name == one.path.stem[-1] for one in found for hit in one.hits]) > 0.6
