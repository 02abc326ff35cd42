"""A classifier from the parts that ``embed --ray`` writes. Ray has no part in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shards import write_backbone, write_shard

from drawn import encode, photo
from greffon.activations import LocalExecutor, Tap, make_engine
from greffon.cli import main
from greffon.distributed.embedding import embedded
from greffon.distributed.learning import _Rows, is_feature_folder, train_on_features
from greffon.distributed.sources import find_source
from greffon.distributed.writing import MANIFEST, block_digest, part_name, write_manifest, written
from greffon.errors import DataError, OptionError
from greffon.heads import Normaliser, Representation, fit_head
from greffon.jobs.predict import predict
from greffon.model import load_any_backbone, load_model

pytestmark = pytest.mark.usefixtures("one_thread")


def coloured(label: str, seed: int) -> bytes:
    """A drawn photo with more red, or more blue in it: mostly told apart."""
    picture = photo(seed, 36, 36).astype(np.int64)
    picture[:, :, 0 if label == "red" else 2] += 45
    return encode(np.clip(picture, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def embedded_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Three parts of 80 rows, 8 of them copies; and the backbone."""
    where = tmp_path_factory.mktemp("features")
    backbone = str(write_backbone(where / "net"))
    network = load_any_backbone(backbone)
    engine = make_engine(network, Tap("pooled"), "float32")
    labels = ["red" if i % 3 else "blue" for i in range(240)]
    files = [(label, coloured(label, i if i % 30 else 0)) for i, label in enumerate(labels)]
    for k in range(3):
        write_shard(where / "shards" / f"{k}.tar", files[80 * k : 80 * k + 80])
    out = where / "out"
    written(str(out))
    parts = []
    for k, block in enumerate(find_source(where / "shards").blocks):
        digest = block_digest(block, "f")
        parts.append(embedded(block, digest, part_name(k, digest), engine, LocalExecutor(1), Representation(), str(out)))  # type: ignore[arg-type]  # it is a TorchEngine
    about = {"version": 1, "rows": 240, "fingerprint": "f", "backbone": network.name, "weights": network.fingerprint,
             "preprocess": network.preprocess.to_dict(), "engine": engine.fingerprint, "precision": "float32", "stages": "last",
             "pool": "mean", "files": [{"file": part.file, "rows": part.rows} for part in parts]}  # fmt: skip
    write_manifest(str(out), about)
    return out, backbone


def test_the_head_is_that_of_all_rows_in_memory(embedded_folder: tuple[Path, str], tmp_path: Path) -> None:
    folder, backbone = embedded_folder
    assert is_feature_folder(folder) and not is_feature_folder(folder.parent)
    done = train_on_features(folder, out=tmp_path / "model", backbone=backbone)
    assert done.rows == 240 and done.model.training["balanced"] is True
    files = tuple(sorted(str(file) for file in folder.glob("*.parquet")))
    parts = {roles: [np.concatenate(some) for some in zip(*_Rows(files, {"blue": 0, "red": 1}, 0, roles)(), strict=True)]
             for roles in (("train", "val"), ("test",))}  # fmt: skip
    (x, y), (test, truth) = parts["train", "val"], parts[("test",)]
    assert len(x) + len(test) == 240 and 15 < len(test) < 60
    normaliser = Normaliser.fit(x, "standard")
    head = fit_head("logistic", normaliser.apply(x), y, 2, done.model.training["strength"], balanced=True)
    mine, theirs = (one.probabilities(n.apply(test)) for one, n in ((done.model.head, done.model.normaliser), (head, normaliser)))
    assert np.abs(mine - theirs).max() < 5e-3
    assert done.evaluation.accuracy == pytest.approx((theirs.argmax(1) == truth).mean(), abs=0.003)
    assert done.evaluation.accuracy > 0.8

    # An ordinary model: it predicts photos.
    (tmp_path / "new.png").write_bytes(coloured("red", 999))
    assert [guess.fault for guess in predict(tmp_path / "model", [tmp_path / "new.png"])] == [""]
    assert load_model(tmp_path / "model").classes == ("blue", "red")
    assert json.loads((tmp_path / "model" / "metrics.json").read_text())["n"] == len(test)


def test_copies_have_one_role(embedded_folder: tuple[Path, str]) -> None:
    files = tuple(sorted(str(file) for file in embedded_folder[0].glob("*.parquet")))
    for seed in range(4):
        seen = [{row.tobytes() for x, _ in _Rows(files, {}, seed, (role,))() for row in x} for role in ("train", "val", "test")]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_the_command_takes_the_folder(
    embedded_folder: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, backbone = embedded_folder
    words = ["greffon", "train", str(folder), "--out", str(tmp_path / "m"), "--backbone", backbone]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert "accuracy" in capsys.readouterr().out
    assert (tmp_path / "m" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("change", "told", "kind"),
    [
        ({"weights": "0" * 64}, "are of other weights or preprocessing", OptionError),
        ({"precision": "int8"}, "were computed in int8", OptionError),
        ({"version": 2}, "not a manifest", DataError),
        ({"files": 3}, "not a manifest", DataError),
    ],
)
def test_a_folder_that_cannot_be_used(
    embedded_folder: tuple[Path, str], tmp_path: Path, change: dict[str, Any], told: str, kind: type[Exception]
) -> None:
    folder, backbone = embedded_folder
    about = json.loads((folder / MANIFEST).read_text())
    write_manifest(str(tmp_path), about | change)
    with pytest.raises(kind, match=told):
        train_on_features(tmp_path, out=tmp_path / "model", backbone=backbone)
    assert not (tmp_path / "model").exists()


def test_a_part_that_is_gone_is_named(embedded_folder: tuple[Path, str], tmp_path: Path) -> None:
    folder, backbone = embedded_folder
    write_manifest(str(tmp_path), json.loads((folder / MANIFEST).read_text()))
    with pytest.raises(DataError, match=r"part-000000-.*cannot be read"):
        train_on_features(tmp_path, out=tmp_path / "model", backbone=backbone)
