"""Nothing phones home: every name look-up and every connection of a whole run is watched, child processes included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from greffon.demo import write_digits
from greffon.silence import can_quantise

#: Imported by every Python process that has its folder on PYTHONPATH.
WATCHER = """
import os, sys
def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.connect", "socket.sendto"):
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{event} {arguments!r}\\n")
sys.addaudithook(watch)
"""

ONE_BY_ONE = """
import json, sys
from greffon.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["greffon", *words]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
"""


@pytest.fixture
def watched(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """An environment in which Python processes write down what they look up, as outside a CI; and the list."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCHER)
    seen = tmp_path / "seen.txt"
    seen.touch()
    off = {"CI", "GREFFON_OFFLINE", "HF_HUB_OFFLINE"}
    environment = {name: value for name, value in os.environ.items() if name not in off}
    path = os.pathsep.join([str(tmp_path / "watch"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment |= {"PYTHONPATH": path, "WATCHED": str(seen), "GREFFON_CACHE": str(tmp_path / "cache")}
    return environment, seen


def test_the_watcher_sees_a_look_up_of_a_child(watched: tuple[dict[str, str], Path]) -> None:
    environment, seen = watched
    child = "import socket, contextlib\nwith contextlib.suppress(OSError): socket.getaddrinfo('localhost', 80)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    subprocess.run([sys.executable, "-c", parent], env=environment, check=True)
    assert "localhost" in seen.read_text()


def test_a_whole_run_asks_nobody(watched: tuple[dict[str, str], Path], tmp_path: Path) -> None:
    environment, seen = watched
    write_digits(tmp_path / "photos" / "digits", images=60)
    model = tmp_path / "model"
    commands = [
        ["train", str(tmp_path / "photos" / "digits"), "--out", str(model), "--size", "32"],
        ["predict", str(model), str(tmp_path / "photos" / "new"), "--json"],
        *([["train", str(tmp_path / "photos" / "digits"), "--out", str(tmp_path / "int8"), "--size", "32", "--precision", "int8"]]
          if can_quantise() else []),
        ["adapt", str(tmp_path / "photos" / "digits"), "--target", str(tmp_path / "photos" / "new"), "--size", "32", "--out",
         str(tmp_path / "adapted")],
        ["label", str(tmp_path / "photos" / "new"), "--labelled", str(tmp_path / "photos" / "digits"), "--size", "32", "--out",
         str(tmp_path / "labelled")],
        ["suggest", str(tmp_path / "photos"), "--budget", "5", "--size", "32", "--out", str(tmp_path / "to-label")],
        ["probe", str(tmp_path / "photos" / "digits"), "--size", "32", "--folds", "2", "--out", str(tmp_path / "depth")],
        ["pretrain", str(tmp_path / "photos" / "digits"), "--size", "32", "--epochs", "1", "--views", "3", "--out",
         str(tmp_path / "network")],
        ["describe", "vgg19"],
    ]
    # The first two as they are typed; the others one after the other in one process, which imports torch once.
    for words in (["-m", "greffon", *commands[0]], ["-m", "greffon", *commands[1]], ["-c", ONE_BY_ONE, json.dumps(commands[2:])]):
        done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "network" / "model.json").exists() and (tmp_path / "to-label").exists() and "vgg19" in done.stdout
    assert seen.read_text() == ""
