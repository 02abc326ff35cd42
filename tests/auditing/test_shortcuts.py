"""What tells a class without looking at the thing: planted, and absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drawn import encode, photo
from greffon.auditing import CUES, cues_of, measure_cues
from greffon.auditing.shortcuts import shortcut_findings
from greffon.datasets import read_dataset, scan
from greffon.progress import Silent


def test_a_cue_that_gives_a_class_away_is_told_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 60)
    cues = {
        "file-size": (np.where(labels == 1, 9.0, 5.0) + rng.normal(size=180))[:, None],
        "border": rng.normal(size=(180, 7)),
        "format": np.ones((180, 1)),
    }
    found = {one.name: one for one in measure_cues(cues, labels, np.arange(180), 3)}
    assert set(found) == {"file-size", "border"}, "what is the same everywhere says nothing"
    assert found["file-size"].telling
    assert found["file-size"].label == 1
    assert found["file-size"].p_value == 0.01
    assert found["file-size"].informedness == found["file-size"].found - found["file-size"].others
    assert not found["border"].telling
    assert np.isnan(found["border"].p_value)
    told = list(shortcut_findings(tuple(found.values()), ("a", "b", "c")))
    assert [(one.kind, one.label, one.path) for one in told] == [("shortcut", "b", None)]
    assert told[0].reason.startswith("the size of the file alone tells b: ")


def test_chance_among_few_photos_is_not_told() -> None:
    """A hundred draws of labels that mean nothing; each cue has the chance to be told of in 1 of 100."""
    told = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.repeat([0, 1], 12))
        cues = {name: rng.normal(size=(24, 2)) for name in ("file-size", "dimensions", "border", "compression")}
        told += sum(one.telling for one in measure_cues(cues, labels, np.arange(24), 2))
    assert told <= 2


def test_too_few_or_one_class_say_nothing() -> None:
    values = {"file-size": np.arange(12.0)[:, None]}
    assert measure_cues(values, np.zeros(12, np.int64), np.arange(12), 1) == ()
    assert measure_cues(values, np.repeat([0, 1], 6), np.arange(12), 2) == ()
    assert measure_cues({}, np.repeat([0, 1], 20), np.arange(40), 2) == ()


def test_cues_of_files(tmp_path: Path) -> None:
    white = np.full((64, 64, 3), 255, np.uint8)
    white[16:48, 16:48] = photo(3, 32, 32)
    grey = np.repeat(photo(2, 48, 80).mean(2, keepdims=True).astype(np.uint8), 3, 2)
    for name, content in {
        "a.png": encode(photo(1, 48, 64)),
        "b.jpg": encode(photo(1, 48, 64), "JPEG"),
        "c.gif": encode(grey),  # a PNG that is called otherwise
        "d.png": encode(white),
    }.items():
        (tmp_path / name).write_bytes(content)
    looked = scan(read_dataset(tmp_path, labelled=False), book=None, progress=Silent())
    cues = cues_of(looked.dataset.paths, looked.facts)
    assert set(cues) == set(CUES)
    assert [int(size) for size in cues["file-size"][:, 0]] == [path.stat().st_size for path in looked.dataset.paths]
    assert cues["format"][0] == cues["format"][2] == cues["format"][3] != cues["format"][1]
    assert cues["colourless"][:, 0].tolist() == [0, 0, 1, 0]
    assert cues["dimensions"][2].tolist() == [48, 80, 80 / 48]
    np.testing.assert_allclose(cues["border"][3], [255, 255, 255, 255, 0, 0, 0], atol=25)
    assert np.abs(cues["border"][3][:5] - [255, 255, 255, 255, 0]).max() < 1e-9
