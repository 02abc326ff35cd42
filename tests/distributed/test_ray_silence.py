"""A run on a cluster of its own asks nobody outside of this machine: every connection of all its processes is watched."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shards import files_of, write_backbone, write_folder


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    ("command", "told"),
    [
        pytest.param("embed", "8 rows", id="ray-data"),
        pytest.param("train --unfreeze layer4 --epochs 1 --views 1 --ray-workers 2", "training on 2 workers", id="ray-train"),
    ],
)
def test_only_the_loopback_is_spoken_to(command: str, told: str, tmp_path: Path) -> None:
    name, *more = command.split()
    photos = write_folder(tmp_path / "photos", files_of(8 if name == "embed" else 24))
    words = [name, str(photos), "--out", str(tmp_path / "out"), "--precision", "float32",
             "--backbone", str(write_backbone(tmp_path / "net")), "--ray", "local", *more]  # fmt: skip
    off = {"CI", "GREFFON_OFFLINE", "HF_HUB_OFFLINE", "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}
    environment = {name: value for name, value in os.environ.items() if name not in off}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "GREFFON_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path / "home")}
    watch = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(tmp_path / "seen.txt")]
    done = subprocess.run([*watch, sys.executable, "-m", "greffon", *words], env=environment, capture_output=True, text=True,
                          check=False, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert told in done.stdout + done.stderr
    assert "ray" not in done.stdout.lower()  # nothing of Ray's stands among our lines
    seen = (tmp_path / "seen.txt").read_text(errors="replace").splitlines()
    calls = [line for line in seen if "AF_INET" in line]
    assert calls
    if name == "train":  # torch asks this machine's resolver, in words that /etc/hosts does not answer, what 127.0.0.1 is called
        asked, own = ([line for line in seen if words in line] for words in ("htons(53)", r"\0010\0010\003127\7in-addr\4a"))
        assert len(asked) == len(own)
        calls = [line for line in calls if line not in asked]
    elsewhere = [line for line in calls if not re.search(r'"(127\.\d+\.\d+\.\d+|::ffff:127\.\d+\.\d+\.\d+|::1)"', line)]
    assert elsewhere == []
    assert not (tmp_path / "home" / ".ray").exists()
