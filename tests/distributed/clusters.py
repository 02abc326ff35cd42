"""Machines of a Ray cluster, played by processes of this one."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from greffon.distributed import cluster

__all__ = ["free_address", "head", "machine"]


def free_address() -> str:
    """HOST:PORT on the loopback where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def head(address: str, processors: int = 2) -> Iterator[None]:
    """A head that listens at this address of this machine's. Its workers find this checkout."""
    words = ["--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false", "--disable-usage-stats"]
    with _started(words, processors) as run:
        end = time.monotonic() + 120
        while True:
            assert run.poll() is None and time.monotonic() < end, "ray start has not come up"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(address.partition(":")[2])), 1):
                break
            time.sleep(0.2)
        yield


@contextlib.contextmanager
def machine(address: str, processors: int = 1) -> Iterator[None]:
    """One more machine of the cluster whose head is there; it may take seconds until the head knows of it."""
    with _started([f"--address={address}"], processors):
        yield


@contextlib.contextmanager
def _started(words: list[str], processors: int) -> Iterator[subprocess.Popen[bytes]]:
    words = ["start", "--block", f"--num-cpus={processors}", "--object-store-memory=200000000", *words]
    paths = [str(Path(cluster.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    run = subprocess.Popen([sys.executable, "-c", "from ray.scripts.scripts import main; main()", *words], env=environment,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        yield run
    finally:  # asked to go, it takes half a minute
        for one in (*psutil.Process(run.pid).children(recursive=True), run):
            one.kill()
        run.wait(60)
