"""Files by content, copies, sizes, colours and counts, on images that the tests draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drawn import encode, photo, write_classes
from greffon.auditing import Contents, Finding, by_content, copy_findings, find_copies, is_grey, robust_scores
from greffon.auditing.oddities import class_findings, colour_findings, size_findings, unreadable_findings
from greffon.datasets import read_dataset
from greffon.progress import Silent


def looked_at(folder: Path) -> Contents:
    return by_content(read_dataset(folder, labelled=False), book=None, progress=Silent())


def names(findings: list[Finding]) -> list[str]:
    return [f"{one.path.parent.name}/{one.path.name}" if one.path else one.label for one in findings]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Two classes of six; copies within and across them, some unreadable, some without a class."""
    root = write_classes(tmp_path / "photos", {"cat": 6, "dog": 6})
    (root / "cat" / "again.png").write_bytes((root / "cat" / "000.png").read_bytes())
    (root / "dog" / "strange.png").write_bytes((root / "cat" / "001.png").read_bytes())
    (root / "loose.png").write_bytes((root / "dog" / "002.png").read_bytes())
    (root / "dog" / "broken.png").write_bytes(b"\x89PNG and then nothing")
    (root / "dog" / "mirrored.jpg").write_bytes(encode(photo(11, 48, 64)[:, ::-1], "JPEG", quality=60))  # of dog/005
    return root


def test_every_file_has_its_content(copied: Path) -> None:
    contents = looked_at(copied)
    assert len(contents.dataset) == 17
    assert len(contents) == 13
    at = {f"{path.parent.name}/{path.name}": int(of) for path, of in zip(contents.dataset.paths, contents.of, strict=True)}
    assert at["cat/again.png"] == at["cat/000.png"]
    assert at["dog/strange.png"] == at["cat/001.png"]
    assert at["photos/loose.png"] == at["dog/002.png"]
    assert at["dog/broken.png"] == -1
    assert contents.name_of(at["cat/000.png"]) == "cat"
    assert contents.name_of(at["cat/001.png"]) == "", "under two labels"
    assert contents.name_of(at["dog/002.png"]) == "dog", "a copy without a label does not take it away"
    assert sum(len(files) for files in contents.files()) == 16


def test_copies_are_found_and_what_is_left_out_is_chosen(copied: Path) -> None:
    contents = looked_at(copied)
    sets = find_copies(contents, contents.scan.groups)
    assert sorted((one.exact, one.across, len(one.files)) for one in sets) == [
        (False, "", 2), (True, "", 2), (True, "", 2), (True, "classes", 2),
    ]  # fmt: skip
    p = np.full((len(contents), 2), 0.5)
    p[contents.of[list(contents.dataset.paths).index(copied / "cat" / "001.png")]] = [0.2, 0.8]
    found = list(copy_findings(contents, sets, p, copied))
    by_kind = {kind: [one for one in found if one.kind == kind] for kind in {one.kind for one in found}}
    assert set(by_kind) == {"duplicate", "duplicate-across-classes", "near-duplicate"}
    across = by_kind["duplicate-across-classes"]
    assert sorted(names(across)) == ["cat/001.png", "dog/strange.png"]
    assert all(one.exclude and one.suggested == "dog" for one in across)
    assert "the same file as dog/strange.png (dog)" in {one.reason for one in across}
    assert sorted(names([one for one in by_kind["duplicate"] if one.exclude])) == ["cat/again.png", "dog/002.png"]
    assert not any(one.exclude for one in by_kind["near-duplicate"])
    assert sorted(names(by_kind["near-duplicate"])) == ["dog/005.png", "dog/mirrored.jpg"]
    assert all(one.suggested == "" for one in copy_findings(contents, sets, None, copied))


def test_of_copies_in_several_splits_the_test_keeps_its_own(tmp_path: Path) -> None:
    for role in ("train", "test"):
        write_classes(tmp_path / role, {"cat": 3})
    (tmp_path / "test" / "cat" / "001.png").write_bytes(encode(photo(50, 48, 64)))
    (tmp_path / "test" / "cat" / "002.png").write_bytes(encode(photo(2, 48, 64)[:, ::-1]))
    contents = looked_at(tmp_path)
    found = list(copy_findings(contents, find_copies(contents, contents.scan.groups), None, tmp_path))
    assert {one.kind for one in found} == {"duplicate-across-splits", "near-duplicate-across-splits"}
    out = {str(one.path.relative_to(tmp_path)) for one in found if one.exclude and one.path}
    assert out == {"train/cat/000.png", "train/cat/002.png"}
    assert any(one.reason == "the same file as test/cat/000.png (test)" for one in found)


def test_unreadable_files_and_folders(copied: Path) -> None:
    contents = looked_at(copied)
    found = list(unreadable_findings(contents, [(copied / "cat" / "000.png", "the network could not")]))
    assert names(found) == ["dog/broken.png", "cat/000.png"]
    assert all(one.exclude for one in found)
    assert found[0].label == "dog"


def test_odd_sizes(tmp_path: Path) -> None:
    root = write_classes(tmp_path, {"a": 12, "b": 12}, size=(100, 120))
    (root / "a" / "tiny.png").write_bytes(encode(photo(90, 20, 24)))
    (root / "a" / "wide.png").write_bytes(encode(photo(91, 60, 220)))
    (root / "b" / "near.png").write_bytes(encode(photo(92, 110, 110)))
    found = list(size_findings(looked_at(root)))
    assert sorted(names(found)) == ["a/tiny.png", "a/wide.png"]
    reasons = {one.path.name: one.reason for one in found if one.path}
    assert reasons["tiny.png"] == "24 × 20 pixels, an unusual size; in the middle they have 120 × 100"
    assert "220 × 60 pixels, an unusual shape" in reasons["wide.png"]
    small = list(size_findings(looked_at(write_classes(tmp_path / "small", {"c": 4}, size=(32, 32)))))
    assert [(one.kind, one.path) for one in small] == [("small-images", None)]


def test_the_robust_score_is_that_of_iglewicz_and_hoaglin() -> None:
    values = np.array([2.1, 2.6, 2.4, 2.5, 2.3, 2.1, 2.3, 2.6, 8.2, 8.3])
    # M = 0.6745 (x - median) / MAD, as they define it.
    median = np.median(values)
    expected = 0.6745 * (values - median) / np.median(np.abs(values - median))
    np.testing.assert_allclose(robust_scores(values, 0.0), expected, rtol=1e-4)
    assert (np.abs(expected) > 3.5).sum() == 2
    np.testing.assert_array_equal(robust_scores(np.array([1.0, 1.0, 1.0, 2.0]), 0.5), [0, 0, 0, 2])
    assert len(robust_scores(np.zeros(0), 1.0)) == 0


def test_grey_among_colour_and_the_other_way_round(tmp_path: Path) -> None:
    def grey(seed: int) -> bytes:
        return encode(np.repeat(photo(seed, 48, 64).mean(2, keepdims=True).astype(np.uint8), 3, 2), "JPEG")

    root = write_classes(tmp_path / "colour", {"a": 10})
    (root / "a" / "grey.jpg").write_bytes(grey(70))
    contents = looked_at(root)
    assert sum(map(is_grey, contents.scan.facts)) == 1
    assert [(one.kind, *names([one])) for one in colour_findings(contents)] == [("greyscale", "a/grey.jpg")]
    other = tmp_path / "grey" / "a"
    other.mkdir(parents=True)
    for seed in range(10):
        (other / f"{seed}.jpg").write_bytes(grey(seed))
    assert list(colour_findings(looked_at(other.parent))) == []
    (other / "colour.png").write_bytes(encode(photo(71, 48, 64)))
    assert [(one.kind, *names([one])) for one in colour_findings(looked_at(other.parent))] == [("colour", "a/colour.png")]
    for seed in range(20, 26):
        (other / f"colour{seed}.png").write_bytes(encode(photo(seed, 48, 64)))
    assert list(colour_findings(looked_at(other.parent))) == [], "both are common"


def test_few_and_unequal(tmp_path: Path) -> None:
    contents = looked_at(write_classes(tmp_path, {"many": 24, "few": 7, "one": 1}))
    found = list(class_findings(contents.dataset.classes, contents.labels, np.arange(len(contents))))
    assert [(one.kind, one.label) for one in found] == [("few-images", "few"), ("few-images", "one"), ("imbalance", "one")]
    assert found[1].reason.startswith("1 different photo;")
    assert "many has 24 different photos, one has 1: 24.0 times as many" in found[2].reason
    together = np.where(contents.labels == contents.dataset.classes.index("many"), 0, np.arange(len(contents)))
    assert "few has 7" in list(class_findings(contents.dataset.classes, contents.labels, together))[-1].reason, "near-duplicates count once"
