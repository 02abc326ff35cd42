"""What the driver tells of a Ray Train job, by the files that its workers leave. Nothing here needs Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from greffon.distributed import fitting
from greffon.distributed.fitting import _fault, _reason, _Watch, _write
from greffon.errors import OptionError, WeightsError


class Said:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def begin(self, task: str, total: int) -> None:
        raise AssertionError(f"{task} has begun already")

    def advance(self, steps: int = 1) -> None:
        self.words.append(f"{steps} more")

    def end(self) -> None:
        raise AssertionError("it goes on")

    def say(self, text: str) -> None:
        self.words.append(text)

    def warn(self, text: str) -> None:
        self.words.append(f"warning: {text}")


def test_each_start_is_told_once(tmp_path: Path) -> None:
    said = Said()
    watch = _Watch(tmp_path / "checkpoint.safetensors", tmp_path, said, None)
    watch()
    assert said.words == []
    _write(tmp_path, "start-", 2)
    watch()
    watch()
    assert said.words == ["training on 2 workers of the cluster"]
    _write(tmp_path, "start-", 1)
    watch()
    watch()
    (warning,) = said.words[1:]
    assert warning.startswith("warning: --ray: a worker was lost") and warning.endswith("on 1 worker of the cluster")
    assert not list(tmp_path.glob(".*"))


def test_a_cluster_without_room_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_SLOW", 0.0)
    said = Said()
    watch = _Watch(tmp_path / "checkpoint.safetensors", tmp_path, said, None)
    watch()
    watch()
    assert len(said.words) == 1 and "has the cluster room" in said.words[0]


def test_a_refusal_keeps_its_kind(tmp_path: Path) -> None:
    assert _fault(tmp_path) is None and _fault(tmp_path / "nowhere") is None
    _write(tmp_path, "fault-", ["WeightsError", "they differ", "take others"])
    fault = _fault(tmp_path)
    assert type(fault) is WeightsError and (fault.what, fault.hint) == ("they differ", "take others")


def test_the_reason_is_the_workers(tmp_path: Path) -> None:
    error = ValueError("Training failed due to worker errors")
    assert _reason(error) == "ValueError: Training failed due to worker errors"
    error.worker_failures = {1: OSError("gone"), 0: OptionError("first\n\nlast\n")}  # type: ignore[attr-defined]  # as Ray's has it
    assert _reason(error) == "worker 1: OptionError: last"
    assert _reason(ValueError()) == "ValueError: ?"
