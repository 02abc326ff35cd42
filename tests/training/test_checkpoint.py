"""Checkpoints: there and back, hostile bytes, other configurations, and a full disk."""

from __future__ import annotations

import errno
import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from greffon.errors import ModelError, StoreError
from greffon.training import Checkpoint, load_checkpoint, save_checkpoint
from greffon.training.checkpoint import flat_optimizer, load_optimizer

ABOUT: dict[str, Any] = {"cut": "block5", "views": [{"name": "plain"}], "recipe": {"batch": 32, "seed": 0, "epochs": 4}}


def drawn() -> Checkpoint:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "now.a": torch.randn(3, 4, 2, 2, generator=generator).to(memory_format=torch.channels_last),
        "best.a": torch.randn(3, 4, generator=generator),
        "best.b.c": torch.arange(5),
        "optimizer.0.step": torch.tensor(3.0),
    }
    return Checkpoint(
        ABOUT, {"history": [{"epoch": 0, "loss": None}, {"epoch": 1, "loss": 0.1}], "best_epoch": 1}, tensors
    )


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "checkpoint.safetensors"
    one = drawn()
    assert load_checkpoint(path, ABOUT) is None
    save_checkpoint(path, one)
    back = load_checkpoint(path, ABOUT)
    assert back is not None
    assert (back.configuration, back.progress) == (one.configuration, one.progress)
    assert set(back.tensors) == set(one.tensors)
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in one.tensors.items())
    assert set(back.part("best")) == {"a", "b.c"}
    assert back.part("be") == {}
    save_checkpoint(path, back)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_it_is_no_pickle_and_anybody_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, drawn())
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(drawn().tensors)
        assert set(file.metadata()) == {"greffon"}


@pytest.mark.parametrize("kind", ["empty", "text", "folder", "truncated", "plain tensors", "another layout"])
def test_what_is_no_checkpoint_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, drawn())
    data = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "plain tensors":
        save_file({"a": torch.zeros(2)}, path)
    elif kind == "another layout":
        save_file({"a": torch.zeros(2)}, path, metadata={"greffon": '{"layout": 99}'})
    else:
        path.write_bytes(
            {"empty": b"", "text": b"not a checkpoint, but long enough to be one", "truncated": data[:-9]}[kind]
        )
    with pytest.raises(ModelError, match=r"c\.safetensors: the checkpoint cannot be read") as caught:
        load_checkpoint(path, ABOUT)
    assert "--resume" in caught.value.hint


def test_no_changed_byte_goes_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, drawn())
    data, rng = path.read_bytes(), np.random.default_rng(0)
    one = drawn()
    for at in {*rng.integers(0, len(data), 250).tolist(), *range(len(data) - 40, len(data)), *range(12)}:
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            back = load_checkpoint(path, ABOUT)
        except ModelError:
            continue
        # Spaces and the order of keys in its header are nobody's.
        assert back is not None
        assert back.progress == one.progress
        assert all(torch.equal(back.tensors[name], tensor) for name, tensor in one.tensors.items()), at


def test_every_name_that_differs_is_in_the_message(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, drawn())
    other: dict[str, Any] = {"cut": "block4", "views": [], "recipe": {"batch": 16, "seed": 0, "epochs": 4, "mix": "mixup"}}
    other |= {"a": 1, "b": None, "c": 3, "d": 4}
    with pytest.raises(ModelError) as caught:
        load_checkpoint(path, other)
    for words in ('cut was "block5", is "block4"', "recipe.batch was 32, is 16", 'recipe.mix was null, is "mixup"',
                  'views was [{"name": "plain"}], is []', "a was null, is 1", "b was null", "c was", "d was"):  # fmt: skip
        assert words in caught.value.what
    assert "seed" not in caught.value.what
    assert "without --resume" in caught.value.hint
    # Numbers that JSON has no words for, and tuples, are the same after the way there and back.
    save_checkpoint(path, Checkpoint({"x": (1, 2)}, {"loss": math.inf}, {}))
    back = load_checkpoint(path, {"x": (1, 2)})
    assert back is not None
    assert back.progress["loss"] == math.inf


def test_a_write_that_fails_leaves_the_last_one(tmp_path: Path) -> None:
    """In a process that may write files of 64 kB at most, which to a program looks as a disk that is full."""
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, drawn())
    before = path.read_bytes()
    program = f"""
import pathlib, torch
from greffon.errors import StoreError
from greffon.training import Checkpoint, save_checkpoint
try:
    save_checkpoint(pathlib.Path({str(path)!r}), Checkpoint({{}}, {{}}, {{"a": torch.zeros(10**6)}}))
except StoreError as error:
    print(error)
"""
    most = 65536
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))  # fmt: skip
    assert "the checkpoint cannot be written" in done.stdout, done.stderr
    assert "--resume" in done.stdout
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_when_the_bytes_are_made_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, drawn())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        save_checkpoint(path, Checkpoint({}, {}, {}))
    assert load_checkpoint(path, ABOUT) is not None
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".c.safetensors-12345").write_bytes(b"half")
    (tmp_path / "mine.txt").write_text("stays")
    save_checkpoint(tmp_path / "c.safetensors", drawn())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c.safetensors", "mine.txt"]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_an_optimiser_goes_on_to_the_bit(name: str) -> None:
    """With weights that are channels last, as those of convolutions are: the fused AdamW goes through memory as it lies."""

    def made() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.Conv2d(5, 4, 2)).to(
            memory_format=torch.channels_last
        )
        if name == "sgd":
            return module, torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        return module, torch.optim.AdamW(module.parameters(), lr=0.1, fused=True)

    def step(module: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()

    module, optimizer = made()
    for seed in range(3):
        step(module, optimizer, seed)
    flat = {key: tensor.contiguous().clone() for key, tensor in flat_optimizer(optimizer).items()}
    other, again = made()
    other.load_state_dict(module.state_dict())
    load_optimizer(again, flat)
    for seed in range(3, 5):
        step(module, optimizer, seed)
        step(other, again, seed)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))
