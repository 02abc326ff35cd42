"""Interrupted fine-tuning: killed processes, full disks, other configurations."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tuned import WORDS, environment, write_backbone, write_photos

from greffon.activations import Store
from greffon.cli import main

#: The command line in a process that kills itself (SIGKILL, no way to tidy up) in the middle of its second epoch, while
#: it writes its first checkpoint, or right after that.
DYING = """
import os, signal, sys
from greffon.cli import main
from greffon.training import loop, source
where = sys.argv.pop(1)
saves, calls = [], []
real_save, real_batch = loop.save_checkpoint, source.StoredViews.batch
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def save(*args):
    if where == "writing":
        os.fsync = die
    real_save(*args)
    saves.append(1)
    if where == "between":
        die()
def batch(self, positions, views):
    if where == "middle" and saves:
        calls.append(1)
        if len(calls) == 3:
            die()
    return real_batch(self, positions, views)
loop.save_checkpoint, source.StoredViews.batch = save, batch
main()
"""
RICH = ("--epochs", 4, "--ema", 0.6, "--mix", "mixup", "--dropout", 0.2, "--gradual", 1, "--batch-norm", "trained")


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos") / "stripes")


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["greffon", "train", *map(str, words)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text())


def assert_same(one: Path, other: Path) -> None:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    # The command may be another: one with --plan.
    assert {**told(one)["training"], "command": []} == {**told(other)["training"], "command": []}
    assert len(told(one)["training"]["history"]) > 1


def test_killed_runs_end_as_one_that_nobody_killed(
    base: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, greffon_cache: Path
) -> None:
    words = [photos, "--backbone", base, "--unfreeze", "layer3", *WORDS, *RICH]
    killed = tmp_path / "killed"
    for number, where in enumerate(("middle", "writing", "between")):
        again = ["--resume"] if number else []
        program = [sys.executable, "-c", DYING, where, "train", *map(str, words), "--out", str(killed), *again]
        done = subprocess.run(
            program, env=environment(greffon_cache), capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert (killed / "checkpoint.safetensors").is_file()
        assert not (killed / "model.json").exists()
        assert len(list(killed.glob(".checkpoint*"))) == (where == "writing")
        if number:
            assert "going on after epoch 1 of 4" in done.stderr
    assert call(monkeypatch, *words, "--out", killed, "--resume") == 0
    assert call(monkeypatch, *words, "--out", tmp_path / "whole") == 0
    assert_same(killed, tmp_path / "whole")
    assert [row["stages"] for row in told(killed)["training"]["history"]] == [0, 0, 1, 2, 2]
    # Nothing of the interruption is left.
    assert {path.name for path in killed.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}
    assert "checkpoint.safetensors" not in {path.name for path in killed.iterdir()}


def stopped(words: list[object], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of which the first checkpoint is there, as an interruption leaves it."""
    from greffon.training import loop

    real = loop.save_checkpoint

    def save(*args: Any) -> None:
        real(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", save)
        assert call(patch, *words, "--out", out) == 130


def test_another_configuration_is_refused_in_one_message(
    base: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[object] = [photos, "--backbone", base, "--unfreeze", "layer3", *WORDS]
    out = tmp_path / "out"
    stopped(words, out, monkeypatch)
    checkpoint = (out / "checkpoint.safetensors").read_bytes()
    other = write_backbone(tmp_path / "other", seed=1)
    for more, expected in (
        (["--batch", 9, "--mix", "cutmix"], ("recipe.batch was 8, is 9", "recipe.mix")),
        (["--epochs", 7], ("recipe.epochs was 3, is 7",)),
        (["--seed", 3], ("recipe.seed", "views", "images")),
        (["--policy", "strong"], ("views was",)),
        (["--backbone", other], ("backbone was",)),
        (["--pool", "max"], ("representation was",)),
        (["--split", "0.5,0.25,0.25"], ("images was",)),
        (["--views", 3], ("--views is 3, and was 2",)),
        (["--unfreeze", "layer4"], ("--unfreeze is layer4, and was layer3",)),
        (["--keep", "float16"], ("--keep is float16, and was float32",)),
    ):
        capsys.readouterr()
        assert call(monkeypatch, *words, *more, "--out", out, "--resume") == 2, more
        said = capsys.readouterr().err
        assert said.count("error:") == 1
        assert "Traceback" not in said
        for word in expected:
            assert word in said, (more, said)
        assert (out / "checkpoint.safetensors").read_bytes() == checkpoint
    for damaged in (checkpoint[:-5], b"", b"rubbish" * 99):
        (out / "checkpoint.safetensors").write_bytes(damaged)
        assert call(monkeypatch, *words, "--out", out, "--resume") == 2
        assert "the checkpoint cannot be read" in capsys.readouterr().err


def test_images_in_another_order_are_other_images(
    base: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "photos"))
    words: list[object] = [moved, "--backbone", base, "--unfreeze", "layer3", *WORDS]
    stopped(words, tmp_path / "out", monkeypatch)
    first = min(path for path in moved.rglob("*") if path.is_file())
    last = first.rename(first.with_name(f"zzz{first.suffix}"))
    capsys.readouterr()
    assert call(monkeypatch, *words, "--out", tmp_path / "out", "--resume") == 2
    assert "images was" in capsys.readouterr().err
    last.rename(first)
    assert call(monkeypatch, *words, "--out", tmp_path / "out", "--resume") == 0


def test_hostile_plans_are_refused(
    base: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[object] = [photos, "--backbone", base, "--unfreeze", "layer3", *WORDS]
    stopped(words, tmp_path / "out", monkeypatch)
    whole = json.loads((tmp_path / "out" / "plan.json").read_text())
    changes: list[Any] = [[], 5, {}, {**whole, "layout": None}, {**whole, "wanted": [1]}, {**whole, "costs": {}}]
    changes += [{**whole, "layout": {**whole["layout"], key: value}} for key, value in
                (("views", "2"), ("views", 10**9), ("views", -1), ("keep", "int4"), ("recompute", "no"), ("x", 1), ("cut", 3))]  # fmt: skip
    changes += [{**whole, "costs": {**whole["costs"], "disk_bytes": value}} for value in ("many", None, 1e400)]
    changes += [{**whole, "recipe": {**whole["recipe"], "epochs": value}} for value in (0, "x", 10**400)]
    changes += [{**whole, "engine": {}}, {**whole, "engine": {**whole["engine"], "precision": "int2"}}]
    for number, plan in enumerate(changes):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(plan))
        capsys.readouterr()
        assert call(monkeypatch, *words, "--out", tmp_path / "new", "--plan", file) == 2, plan
        said = capsys.readouterr().err
        assert said.count("error: --plan") == 1, said
        assert not (tmp_path / "new").exists()
    # The plan as it is gives the run again.
    assert call(monkeypatch, *words, "--out", tmp_path / "new", "--plan", tmp_path / "out") == 0
    assert call(monkeypatch, *words, "--out", tmp_path / "out", "--resume") == 0
    assert_same(tmp_path / "out", tmp_path / "new")


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_run_can_go_on(
    base: Path, photos: Path, tmp_path: Path, greffon_cache: Path
) -> None:
    """A process may write files of so many bytes at most, which looks to it as a disk that is full."""
    words = ["train", str(photos), "--backbone", str(base), "--unfreeze", "layer3", *WORDS, "--out"]
    for name, most, cache, expected in (
        ("checkpoint", 800_000, greffon_cache, "the checkpoint cannot be written"),
        ("store", 30_000, tmp_path / "cache", "cannot"),
    ):
        out = tmp_path / name
        done = subprocess.run([sys.executable, "-m", "greffon", *words, str(out)], env=environment(cache), capture_output=True,
                              text=True, check=False, timeout=300,
                              preexec_fn=lambda most=most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))  # fmt: skip
        assert done.returncode == 2, (name, done.stderr)
        assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1, done.stderr
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
    with pytest.MonkeyPatch.context() as patch:
        assert call(patch, *words[1:], tmp_path / "checkpoint", "--resume") == 0
        assert call(patch, *words[1:], tmp_path / "whole") == 0
    assert_same(tmp_path / "checkpoint", tmp_path / "whole")
    assert Store().shelves()
