"""Where a figure goes: into ``results/NAME.json``, with the command, versions, machine and date."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["machine", "record"]

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Processor, cores and memory of this machine."""
    cpu, flags = platform.machine(), ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
        if line.startswith("flags"):
            flags = line.split(":", 1)[1]
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory.split()[1]) / 2**20, 1),
        "instructions": [name for name in known if f" {name} " in f"{flags} "],
    }


def record(name: str, figures: dict[str, Any], *, notes: str = "") -> None:
    """Print the figures and store them."""
    versions = {}
    packages = ("greffon", "torch", "timm", "numpy", "scikit-learn", "pillow", "openvino", "nncf", "onnxruntime",
                "faiss-cpu", "fastapi", "uvicorn", "ray")  # fmt: skip
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    whole = {
        "command": " ".join([f"python benchmarks/{Path(sys.argv[0]).name}", *map(_as_told, sys.argv[1:])]),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions},
        "notes": notes,
        "figures": figures,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def _as_told(argument: str) -> str:
    """An argument; paths from the root are told as seen from the project, so that no record names a machine's folders.

    Two paths can be joined by a colon.
    """
    root = Path(__file__).parents[1]
    return ":".join(os.path.relpath(part, root) if Path(part).is_absolute() else part for part in argument.split(":"))
