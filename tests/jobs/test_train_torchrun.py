"""``torchrun -m greffon train``: the model of one process; one that is killed; what makes no sense in several."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tuned import WORDS, command, environment, write_backbone, write_photos

#: The command line in a process that kills itself before it sends its gradients for so many a time.
DYING = """
import os, signal
from greffon.cli import main
from greffon.training import ranks
calls, real = [], ranks.Ranks.add_gradients
def add(self, parameters):
    calls.append(1)
    if len(calls) == int(os.environ["DIES_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, parameters)
ranks.Ranks.add_gradients = add
main()
"""


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    place = tmp_path_factory.mktemp("here")
    return ["train", write_photos(place / "stripes", each=12), "--backbone", write_backbone(place / "base"), "--unfreeze", "layer3",
            *WORDS, "--epochs", 4]  # fmt: skip


@pytest.fixture(scope="module")
def whole(words: list[object], tmp_path_factory: pytest.TempPathFactory, greffon_cache: Path) -> Path:
    out = tmp_path_factory.mktemp("whole") / "model"
    done = command(*words, "--out", out, cache=greffon_cache)
    assert done.returncode == 0, done.stderr
    return out


def begun(words: list[object], cache: Path, count: int = 2, dies: int = 0) -> list[subprocess.CompletedProcess[str]]:
    """The command in so many processes that know of each other, as torchrun starts them; the last one may die."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    runs = []
    for rank in range(count):
        settings = {**environment(cache), "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo", "DIES_AT": str(dies)}  # fmt: skip
        program = ["-c", DYING] if dies and rank == count - 1 else ["-m", "greffon"]
        runs.append(subprocess.Popen([sys.executable, *program, *map(str, words)], env=settings, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True))  # fmt: skip
    ended = [run.communicate(timeout=400) for run in runs]
    return [subprocess.CompletedProcess(run.args, run.returncode, *said) for run, said in zip(runs, ended, strict=True)]


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text())


def assert_alike(one: Path, other: Path) -> None:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert list(first) == list(second)
    for name, tensor in first.items():
        assert float((tensor.double() - second[name].double()).abs().max()) <= 2e-3 * float(tensor.double().abs().max()) + 1e-6, name
    mine, theirs = (told(folder)["training"]["history"] for folder in (one, other))
    for key in ("loss", "val_log_loss"):
        values, wanted = ([row[key] for row in rows if row[key] is not None] for rows in (mine, theirs))
        assert values == pytest.approx(wanted, rel=1e-3)
    assert told(one)["training"]["best_epoch"] == told(other)["training"]["best_epoch"]
    assert told(one)["figures"]["accuracy"] == told(other)["figures"]["accuracy"]
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}


@pytest.mark.slow
def test_torchrun_makes_the_model_of_one_process(words: list[object], whole: Path, tmp_path: Path, greffon_cache: Path) -> None:
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "greffon"]
    done = subprocess.run([*program, *map(str, words), "--out", str(tmp_path / "model")], env=environment(greffon_cache),
                          capture_output=True, text=True, timeout=400, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "training in 2 processes" in done.stderr and "Traceback" not in done.stderr
    assert_alike(tmp_path / "model", whole)


@pytest.mark.slow
def test_a_process_is_killed_and_the_run_goes_on(words: list[object], whole: Path, tmp_path: Path, greffon_cache: Path) -> None:
    model = tmp_path / "model"
    first, second = begun([*words, "--out", model], greffon_cache, dies=7)  # in the third of its epochs of three steps
    assert second.returncode == -signal.SIGKILL
    assert first.returncode == 2 and "have lost each other" in first.stderr and "--resume" in first.stderr
    assert "Traceback" not in first.stderr
    assert (model / "checkpoint.safetensors").is_file() and not (model / "model.json").exists()
    again = begun([*words, "--out", model, "--resume"], greffon_cache)
    assert [run.returncode for run in again] == [0, 0], again[0].stderr
    assert "going on after epoch 2 of 4" in again[0].stderr
    assert_alike(model, whole)


@pytest.mark.slow
def test_what_makes_no_sense_in_several_processes_is_refused(words: list[object], tmp_path: Path, greffon_cache: Path) -> None:
    plain = [word for word in words if word not in ("--unfreeze", "layer3")]
    for run in begun([*plain, "--out", tmp_path / "model"], greffon_cache):
        assert run.returncode == 2 and "torchrun: several processes train the stages above the cut" in run.stderr
    # What the first process refuses ends the others, too.
    first, second = begun([*words, "--out", tmp_path / "model", "--batch-norm", "trained"], greffon_cache)
    assert first.returncode == 2 and "--batch-norm trained: not with 2 processes" in first.stderr
    assert second.returncode == 0 and "Traceback" not in second.stderr
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["plan.json"]
