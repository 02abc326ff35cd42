"""How soon a server answers, and what it does not load for that."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drawn import encode, photo
from served import ask, running, write_export

pytest.importorskip("onnxruntime")
pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

#: Libraries of training; each alone takes a good part of a second.
HEAVY = ("torch", "torchvision", "timm", "sklearn", "scipy", "pandas", "matplotlib", "pyarrow", "nncf", "openvino", "lightning_fabric")


def processor_seconds(process: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_it_answers_soon(tmp_path: Path) -> None:
    """Within two seconds on a machine with nothing else to do; by the clock, other work must not make this test fail."""
    write_export(tmp_path / "e")
    began = time.monotonic()
    with running([tmp_path / "e"], tmp_path / "log") as server:
        assert ask(server, "/v1/predict", encode(photo(1, 60, 90)), "image/png").status == 200
        wall = time.monotonic() - began
        if Path("/proc/self/stat").exists():
            assert processor_seconds(server.process.pid) < 3
    assert wall < 30


def test_what_trains_is_not_loaded(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from greffon.server.limits import ServerLimits
from greffon.server.logs import Log
from greffon.server.measures import Measures
from greffon.server.shelf import Shelf, read_sources
import greffon.cli, greffon.server.app, greffon.server.running
Shelf(read_sources([{str(write_export(tmp_path / "e"))!r}]), ServerLimits(), Measures(), Log()).read()
print(*sorted({{name.partition('.')[0] for name in sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "onnxruntime" in loaded
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)
