"""The whole of ``pretrain``: tiny photos and a tiny network, killed processes, lying folders, and the commands that go on from it."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tuned import environment, write_backbone, write_photos

from greffon import describe, evaluate, load_model, predict, pretrain
from greffon.cli import main
from greffon.errors import BackboneError, DataError, GreffonError, ModelError, OptionError
from greffon.jobs.pretrain import Pretraining, PretrainResult
from greffon.model import load_any_backbone, load_network
from greffon.progress import Silent
from greffon.training import Recipe
from greffon.transfer.unsupervised import SELF_SUPERVISED

#: One precision on every machine.
WISHES = Pretraining(method="simclr", views=4, policy="light", keep="float32",
                     recipe=Recipe(epochs=3, batch=16, learning_rate=1e-3))  # fmt: skip
OPTIONS = ("--method", "simclr", "--views", 4, "--policy", "light", "--keep", "float32", "--epochs", 3, "--batch", 16,
           "--learning-rate", 0.001, "--precision", "float32")  # fmt: skip

#: As of ``test_train_resuming``: a process that kills itself in the middle of its second epoch.
DYING = """
import os, signal
from greffon.cli import main
from greffon.training import loop, source
saves, calls = [], []
real_save, real_batch = loop.save_checkpoint, source.StoredViews.batch
def save(*args):
    real_save(*args)
    saves.append(1)
def batch(self, positions, views):
    if saves:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    return real_batch(self, positions, views)
loop.save_checkpoint, source.StoredViews.batch = save, batch
main()
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes in a folder a class, with a copy, a broken file and something that is no photo."""
    root = write_photos(tmp_path_factory.mktemp("photos") / "stripes", each=14)
    shutil.copy(root / "class0" / "000.png", root / "copy.png")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (root / "notes.txt").write_text("not a photo")
    return root


@pytest.fixture(scope="module")
def listener() -> Silent:
    return Silent()


class Heard:
    """A listener that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self, task: str, total: int) -> None:
        pass

    def advance(self, steps: int = 1) -> None:
        pass

    def end(self) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(text)


def run(photos: Path, out: Path, base: Path, wishes: Pretraining = WISHES, **more: Any) -> PretrainResult:
    return pretrain(photos, out=out, backbone=str(base), wishes=wishes, precision="float32", **more)


@pytest.fixture(scope="module")
def result(photos: Path, base: Path, listener: Silent, tmp_path_factory: pytest.TempPathFactory) -> PretrainResult:
    return run(photos, tmp_path_factory.mktemp("out") / "network", base, progress=listener)


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["greffon", *map(str, words)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def tensors_of(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_what_is_written(result: PretrainResult, listener: Silent) -> None:
    assert {path.name for path in result.folder.iterdir()} == {
        "model.json", "model.safetensors", "pretrain.json", "report.html", "learning.png"
    }  # fmt: skip
    told = json.loads((result.folder / "pretrain.json").read_text())
    assert told["photos"] == len(result.paths) == 42
    assert [row["epoch"] for row in told["evidence"]] == [0, 1, 2, 3]
    assert {"loss", "score", "found", "agreement", "steadiness", "rank", "decay", "collapsed"} <= set(told["evidence"][1])
    assert told["gained"] == (told["best_epoch"] > 0)
    assert told["copies"] == 1
    assert [Path(one["path"]).name for one in told["unreadable"]] == ["broken.png"]
    said = "\n".join(listener.warnings)
    assert "broken.png" in said
    assert "no label is taken from them" in said
    page = (result.folder / "report.html").read_text()
    assert "http" not in page.split("</style>")[1], "the page must not reach for a network"


@pytest.mark.parametrize("method", SELF_SUPERVISED)
def test_folders_and_names_change_nothing(method: str, photos: Path, base: Path, tmp_path: Path) -> None:
    """The same photos in one heap, and in class folders that lie: the identical network."""
    wishes = replace(WISHES, method=method, recipe=replace(WISHES.recipe, epochs=2, learning_rate=3e-3))
    rng = np.random.default_rng(0)
    every = sorted(photos.rglob("*.png"))
    for number, place in enumerate(rng.permutation(len(every)).tolist()):
        (tmp_path / "heap").mkdir(exist_ok=True)
        shutil.copy(every[place], tmp_path / "heap" / f"{number:03}.png")
        lie = tmp_path / "lies" / "ab"[int(rng.integers(2))]
        lie.mkdir(parents=True, exist_ok=True)
        shutil.copy(every[place], lie / f"x{number}.png")
    places = (photos, tmp_path / "heap", tmp_path / "lies")
    found = [run(place, tmp_path / f"out-{place.name}", base, wishes) for place in places]
    assert len({tensors_of(one.folder) for one in found}) == 1
    assert len({json.dumps(_timeless(one.to_dict()["evidence"])) for one in found}) == 1
    table = tmp_path / "table.csv"
    table.write_text("path,label\n" + "".join(f"{path},{'ab'[i % 2]}\n" for i, path in enumerate(every)))
    assert tensors_of(run(table, tmp_path / "out-table", base, wishes).folder) == tensors_of(tmp_path / "out-lies")


def _timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_no_gain_keeps_the_pretrained_network(photos: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import greffon.transfer.unsupervised.above.pretraining as module

    real = module.judge_epoch
    monkeypatch.setattr(module, "judge_epoch", lambda looked, loss, before: replace(real(looked, loss, before), score=-float(len(before))))
    found = run(photos, tmp_path / "kept", base)
    assert not found.gained
    assert found.best_epoch == 0
    assert "kept" in found.why
    assert found.network.fingerprint == load_any_backbone(str(base)).fingerprint == load_network(found.folder).fingerprint
    assert "No gain: the pretrained network is kept" in (found.folder / "report.html").read_text()


def forced(photos: Path, base: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> PretrainResult:
    """A run whose last epoch is kept."""
    import greffon.transfer.unsupervised.above.pretraining as module

    real = module.judge_epoch

    def rising(looked: Any, loss: Any, before: Any) -> Any:
        return replace(real(looked, loss, before), score=float(len(before)), collapsed=False)

    with monkeypatch.context() as patch:
        patch.setattr(module, "judge_epoch", rising)
        return run(photos, out, base)


def test_the_network_stands_for_a_backbone(photos: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = forced(photos, base, tmp_path / "network", monkeypatch)
    assert found.gained
    network = load_any_backbone(str(found.folder))
    assert network.fingerprint == found.network.fingerprint != load_any_backbone(str(base)).fingerprint
    before, after = load_any_backbone(str(base)).tensors(), network.tensors()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"layer4"}, "the last stage alone was trained"
    assert network.plan.entry.weights_of.endswith("layer4 trained without labels with greffon")
    words = ("--backbone", found.folder, "--precision", "float32")
    data = tmp_path / "labelled"
    for folder in sorted(photos.glob("class*")):
        shutil.copytree(folder, data / folder.name)
    assert call(monkeypatch, "embed", data, "--out", tmp_path / "features.parquet", *words) == 0
    assert call(monkeypatch, "train", data, "--out", tmp_path / "model", *words) == 0
    assert load_model(tmp_path / "model").backbone.fingerprint == network.fingerprint
    assert evaluate(tmp_path / "model", data).evaluation.n == 42
    assert call(monkeypatch, "describe", found.folder) == 0
    assert describe(str(found.folder)).name == network.name
    assert call(monkeypatch, "views", data / "class0" / "001.png", "--out", tmp_path / "v.png", "--backbone", found.folder) == 0
    # Once more from where it ended; and fine-tuned afterwards, each says so.
    again = forced(photos, found.folder, tmp_path / "again", monkeypatch)
    assert again.network.plan.entry.weights_of == network.plan.entry.weights_of
    assert call(monkeypatch, "train", data, "--out", tmp_path / "tuned", *words, "--unfreeze", "layer4", "--epochs", 1, "--views", 1) == 0
    whose = load_model(tmp_path / "tuned").backbone.plan.entry.weights_of
    assert "trained without labels" in whose
    assert whose.endswith("layer4 fine-tuned with greffon")


def test_it_predicts_nothing_by_itself(result: PretrainResult, photos: Path, capsys: pytest.CaptureFixture[str],
                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    with pytest.raises(ModelError, match=r"holds a network without a head, expected a model that predicts"):
        list(predict(result.folder, [str(photos)]))
    assert call(monkeypatch, "evaluate", result.folder, photos) == 2
    said = capsys.readouterr().err
    assert said.count("error:") == 1
    assert "--backbone" in said


def test_damaged_folders_are_told(result: PretrainResult, tmp_path: Path) -> None:
    for number, damage in enumerate((
        lambda f: (f / "model.safetensors").unlink(),
        lambda f: (f / "model.safetensors").write_bytes(b"rubbish"),
        lambda f: (f / "model.json").write_text("{}"),
        lambda f: (f / "model.json").write_text(json.dumps({**json.loads((f / "model.json").read_text()), "backbone": {"name": 3}})),
        lambda f: (f / "model.json").write_text(json.dumps({**json.loads((f / "model.json").read_text()), "preprocess": {"x": 3}})),
        lambda f: (f / "model.json").write_text((f / "model.json").read_text().replace('"fingerprint": "', '"fingerprint": "0')),
    )):  # fmt: skip
        folder = tmp_path / str(number)
        shutil.copytree(result.folder, folder)
        damage(folder)
        with pytest.raises(ModelError, match=str(folder)):
            load_any_backbone(str(folder))


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_a_killed_run_ends_as_one_that_nobody_killed(base: Path, photos: Path, tmp_path: Path, greffon_cache: Path) -> None:
    words = [photos, "--backbone", base, *OPTIONS]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    program = [sys.executable, "-c", DYING, "pretrain", *map(str, words), "--out", str(killed)]
    done = subprocess.run(program, env=environment(greffon_cache), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (killed / "checkpoint.safetensors").is_file()
    assert not (killed / "model.json").exists()
    shutil.copytree(killed, tmp_path / "again")
    for wrong, fault in (
        (replace(WISHES, recipe=replace(WISHES.recipe, epochs=5)), "recipe.epochs was 3, is 5"),
        (replace(WISHES, method="barlow"), "method.name was "),
        (replace(WISHES, views=5), "laid out"),
        (replace(WISHES, policy="standard"), "views was"),
    ):
        with pytest.raises(GreffonError, match=fault):
            run(photos, tmp_path / "again", base, wrong, resume=True)
    listener = Heard()
    run(photos, killed, base, resume=True, progress=listener)
    assert "going on after epoch 1 of 3" in listener.said
    run(photos, whole, base)
    one, other = load_file(killed / "model.safetensors"), load_file(whole / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert {path.name for path in killed.iterdir()} == {path.name for path in whole.iterdir()}
    first, second = (json.loads((folder / "pretrain.json").read_text()) for folder in (killed, whole))
    assert _timeless(first["evidence"]) == _timeless(second["evidence"])


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_input_is_one_message(base: Path, photos: Path, tmp_path: Path) -> None:
    few, same, broken = tmp_path / "few", tmp_path / "same", tmp_path / "broken"
    for folder in (few, same, broken):
        folder.mkdir()
    for path in sorted((photos / "class0").iterdir())[:7]:
        shutil.copy(path, few)
    for number in range(12):
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(same / f"{number}.png", compress_level=number % 10)
        (broken / f"{number}.png").write_bytes(b"no image")
    cases: list[tuple[Path, type[GreffonError], str, dict[str, Any]]] = [
        (few, DataError, "7 readable photos", {}),
        (same, DataError, "images look the same to the network", {}),
        (broken, DataError, "none of its 12 files is a readable image", {}),
        (tmp_path / "nowhere", DataError, "nowhere", {}),
        (photos, BackboneError, "above the last stage there is nothing to train", {"wishes": Pretraining(unfreeze="none")}),
        (photos, BackboneError, "no stage 'layer9'", {"wishes": Pretraining(unfreeze="layer9")}),
    ]
    for number, (data, kind, words, more) in enumerate(cases):
        with pytest.raises(kind, match=words):
            run(data, tmp_path / f"out{number}", base, **more)
        assert not (tmp_path / f"out{number}" / "model.json").exists()
    wishes: list[tuple[dict[str, Any], str]] = [
        ({"method": "swav"}, "--method must be auto or one of simclr"),
        ({"views": 1}, "--views must be from 2"),
        ({"policy": "wild"}, "--policy"),
        ({"keep": "int4"}, "--keep"),
        ({"minutes": -1.0}, "--minutes"),
    ]
    for wrong, words in wishes:
        with pytest.raises(OptionError, match=words):
            Pretraining(**wrong)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("keep me")
    with pytest.raises(OptionError, match="something else already"):
        run(photos, tmp_path / "taken", base)
    with pytest.raises(OptionError, match="lies in the data"):
        run(photos, photos / "out", base)


def test_a_loss_that_is_no_number_keeps_the_best_so_far(base: Path, photos: Path, tmp_path: Path) -> None:
    listener = Silent()
    wild = replace(WISHES, recipe=replace(WISHES.recipe, learning_rate=1e3, clip=0.0, optimizer="sgd", epochs=4))
    found = run(photos, tmp_path / "wild", base, wild, progress=listener)
    assert "--learning-rate" in found.stopped
    assert all(torch.isfinite(tensor).all() for tensor in found.network.tensors().values())
    assert any("--learning-rate" in one for one in listener.warnings)


def test_minutes_bound_the_epochs_and_a_plan_remembers(base: Path, photos: Path, tmp_path: Path) -> None:
    found = run(photos, tmp_path / "short", base, replace(WISHES, minutes=0.001, recipe=replace(WISHES.recipe, epochs=50)))
    assert len(found.history) == 2, "one epoch at the least"
