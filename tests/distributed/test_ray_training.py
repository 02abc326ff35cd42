"""Fine-tuning by workers of a cluster of this machine's: the model of one process, whatever happens to them."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from clusters import free_address, head, machine
from safetensors.torch import load_file
from shards import write_backbone

from drawn import encode, photo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]

WORDS = ("--unfreeze", "layer3", "--precision", "float32", "--views", "2", "--policy", "light", "--batch", "8", "--learning-rate", "0.003",
         "--training-precision", "float32", "--keep", "float32")  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two classes that can be told apart, and a backbone."""
    folder = tmp_path_factory.mktemp("ray")
    write_backbone(folder / "net")
    for i in range(60):
        picture = photo(i, 36, 36).astype(np.int64)
        picture[:, :, 0 if i % 2 else 2] += 40
        target = folder / "photos" / ("red" if i % 2 else "blue") / f"{i:03}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(encode(np.clip(picture, 0, 255).astype(np.uint8)))
    return folder


def begin(place: Path, out: Path, *more: object, first: str = "") -> subprocess.Popen[str]:
    """``greffon train``, in a process that does something else before it."""
    words = ["train", str(place / "photos"), "--out", str(out), "--backbone", str(place / "net"), *WORDS, *map(str, more)]
    settings = {**os.environ, "GREFFON_CACHE": str(place / "cache"), "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    settings.pop("RAY_ADDRESS", None)
    settings["RAY_worker_niceness"] = "0"  # else busy machines leave its workers nothing
    program = [sys.executable, "-c", f"{first}\nfrom greffon.cli import main\nmain()", *words]
    return subprocess.Popen(program, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_a_checkpoint(out: Path, run: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while not (out / "checkpoint.safetensors").exists():
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < end, "no checkpoint"
        time.sleep(0.05)


def ended(run: subprocess.Popen[str]) -> str:
    _, said = run.communicate(timeout=600)
    assert run.returncode == 0, said
    assert "Traceback" not in said
    return said


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text())


def assert_alike(one: Path, other: Path) -> None:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    for name, tensor in first.items():
        assert float((tensor.double() - second[name].double()).abs().max()) <= 2e-3 * float(tensor.double().abs().max()) + 1e-6, name
    mine, theirs = (told(folder)["training"]["history"] for folder in (one, other))
    assert [row["loss"] for row in mine[1:]] == pytest.approx([row["loss"] for row in theirs[1:]], rel=1e-3)
    assert told(one)["figures"]["accuracy"] == told(other)["figures"]["accuracy"]
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}


def test_two_workers_make_the_model_of_one_process(place: Path, tmp_path: Path) -> None:
    there = tmp_path / "là-bas #1, 50%20"
    ended(begin(place, tmp_path / "here", "--epochs", 3))
    said = ended(begin(place, there, "--epochs", 3, "--ray", "local", "--ray-workers", 2))
    assert "training on 2 workers" in said
    assert_alike(there, tmp_path / "here")


def test_a_killed_worker_costs_time_alone(place: Path, tmp_path: Path) -> None:
    # Beside as many workers: over thirty epochs the last bits of another order of sums grow, and may choose another epoch.
    ended(begin(place, tmp_path / "here", "--epochs", 30, "--ray", "local", "--ray-workers", 2))
    run = begin(place, tmp_path / "there", "--epochs", 30, "--ray", "local", "--ray-workers", 2)
    wait_for_a_checkpoint(tmp_path / "there", run)
    workers = [one for one in psutil.Process(run.pid).children(recursive=True) if "RayTrainWorker" in " ".join(one.cmdline())]
    assert workers, [one.cmdline() for one in psutil.Process(run.pid).children(recursive=True)]
    workers[-1].send_signal(signal.SIGKILL)
    assert "a worker was lost" in ended(run)
    assert_alike(tmp_path / "there", tmp_path / "here")


def test_a_killed_driver_goes_on_with_resume(place: Path, tmp_path: Path) -> None:
    ended(begin(place, tmp_path / "here", "--epochs", 30, "--ray", "local", "--ray-workers", 2))
    run = begin(place, tmp_path / "there", "--epochs", 30, "--ray", "local", "--ray-workers", 2)
    wait_for_a_checkpoint(tmp_path / "there", run)
    for one in (*psutil.Process(run.pid).children(recursive=True), run):
        one.kill()
    run.communicate(timeout=60)
    ended(begin(place, tmp_path / "there", "--epochs", 30, "--ray", "local", "--ray-workers", 2, "--resume"))
    assert_alike(tmp_path / "there", tmp_path / "here")


def test_a_machine_that_comes_helps(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    address = free_address()
    with head(address, 1):
        run = begin(place, tmp_path / "out", "--epochs", 150, "--patience", 150, "--ray", address, "--ray-workers", 2,
                    first="from greffon.distributed import fitting; fitting._LOOK_FOR_MACHINES = 2.0")  # fmt: skip
        wait_for_a_checkpoint(tmp_path / "out", run)
        with machine(address):
            said = ended(run)
    assert "training on 1 worker of the cluster" in said
    assert "on 2 workers of the cluster" in said


def test_what_a_worker_refuses_is_told_at_once(place: Path, tmp_path: Path) -> None:
    run = begin(place, tmp_path / "out", "--epochs", 3, "--ray", "local", "--ray-workers", 2,
                first="from greffon.distributed import fitting; fitting.software = lambda: 'greffon of old'")  # fmt: skip
    _, said = run.communicate(timeout=300)
    assert run.returncode == 2, said
    assert "the run was started by greffon of old" in said and "Install the same greffon" in said
    assert "Traceback" not in said and "a worker was lost" not in said
    assert not (tmp_path / "out" / ".ray-train").exists()


def test_a_fault_that_comes_again_is_given_up_with_its_reason(place: Path, tmp_path: Path) -> None:
    run = begin(place, tmp_path / "out", "--epochs", 3, "--ray", "local", "--ray-workers", 2,
                first="from greffon.distributed import fitting\nfitting._LOSSES = 1\n"
                      "def broken(given): raise ValueError('no such thing')\nfitting.train_together = broken")  # fmt: skip
    _, said = run.communicate(timeout=300)
    assert run.returncode == 2, said
    assert "training on the cluster was given up (worker 1: ValueError: no such thing)" in said
    assert "--resume" in said and "Traceback" not in said
