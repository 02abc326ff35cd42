"""Clusters of the parts that ``embed --ray`` writes, against the same in memory. Ray has no part in it."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

from greffon.cli import main
from greffon.distributed import grouping, learning
from greffon.distributed.grouping import cluster_features
from greffon.distributed.writing import MANIFEST, SCHEMA
from greffon.errors import DataError, OptionError
from greffon.jobs.cluster.scoring import score_of
from greffon.transfer.unsupervised import SphericalKMeans, Unlabelled, unit_rows

PIXELS, DIGITS = (np.asarray(part) for part in load_digits(return_X_y=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pixels of scikit-learn's digits as features, in parts of unequal sizes; every ninth has no label."""
    x, y = PIXELS.astype(np.float32), DIGITS
    out = tmp_path / "features"
    out.mkdir()
    files = []
    for number, rows in enumerate(np.split(np.arange(len(x)), [1, 700, 1500])):
        labels = [None if i % 9 == 0 else str(y[i]) for i in rows]
        table = pa.table([[f"{i:04}.png" for i in rows], labels, x[rows].tolist()], schema=SCHEMA)
        files.append({"file": f"part-{number:06}-{'0' * 12}.parquet", "rows": len(rows)})
        pq.write_table(table, out / files[-1]["file"])
    about = {"version": 1, "backbone": "b", "weights": "w", "preprocess": {}, "precision": "float32", "stages": "last", "pool": "mean",
             "files": files, "fingerprint": "f"}  # fmt: skip
    (out / MANIFEST).write_text(json.dumps(about))
    return out


@pytest.mark.parametrize("sample", [20_000, 400])
def test_clusters_are_those_in_memory(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: int) -> None:
    monkeypatch.setattr(grouping, "_SAMPLE", sample)
    monkeypatch.setattr(learning, "_ROWS", 256)
    figures = cluster_features(folder, out=tmp_path / "out", k=10, score=True)
    rows = unit_rows(np.sqrt(PIXELS.astype(np.float32)))
    whole = SphericalKMeans().cluster(Unlabelled(unit_rows(rows - rows.mean(0))), 10, 0).labels
    with (tmp_path / "out" / "assignments.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["path"] for row in found] == [f"{i:04}.png" for i in range(len(rows))]
    mine = np.array([int(row["cluster"]) for row in found])
    assert figures["sizes"] == np.bincount(mine).tolist() == sorted(np.bincount(mine).tolist(), reverse=True)
    assert all(0 <= float(row["confidence"]) <= 1 and row["nearest"] != row["cluster"] for row in found)
    # Within 0.3 points of the accuracy in memory, against the labels that the features know.
    known = np.array([-1 if i % 9 == 0 else int(y) for i, y in enumerate(DIGITS)])
    best = score_of(known, whole)
    assert figures["accuracy"] == pytest.approx(best.accuracy, abs=0.003)
    assert (figures["scored"], figures["classes"], figures["k"], figures["n"]) == (best.n, 10, 10, len(rows))
    assert score_of(whole, mine).accuracy > 0.98
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == figures


def test_the_command_takes_the_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["greffon", "cluster", str(folder), "-k", "1", "--out", str(tmp_path / "out"), "--json", "-q"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["k"], figures["sizes"], figures["silhouette"]) == (1, [len(DIGITS)], 1.0) and "accuracy" not in figures


def test_bad_input_is_one_error(folder: Path, tmp_path: Path) -> None:
    for k in (None, 0):
        with pytest.raises(OptionError, match="-k must be given"):
            cluster_features(folder, out=tmp_path / "out", k=k)
    with pytest.raises(OptionError, match="there are only 1797 rows"):
        cluster_features(folder, out=tmp_path / "out", k=1798)
    last = sorted(folder.glob("*.parquet"))[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        cluster_features(folder, out=tmp_path / "out", k=3)
    last.write_bytes(whole)
    for part in sorted(folder.glob("*.parquet")):
        table = pq.read_table(part)
        pq.write_table(table.set_column(1, "label", pa.nulls(len(table), pa.string())), part)
    with pytest.raises(DataError, match="no labels to score by"):
        cluster_features(folder, out=tmp_path / "out", k=3, score=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("")
    with pytest.raises(OptionError, match="something else"):
        cluster_features(folder, out=tmp_path / "other", k=3)
