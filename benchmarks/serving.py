"""The server: against the bare engine, with 1, 8 and 64 clients, with four times too much to do, over many requests, told to stop
under load, and beside torch.

    python benchmarks/serving.py EXPORT PHOTOS [--parts start,bare,clients,overload,stop,memory,peer] [--seconds 30]
        [--requests 20000] [--short]

EXPORT is a folder of ``greffon export``, PHOTOS a folder of photos. Each part runs over loopback alone, and
ends by itself. The peer's network has VGG16's shape and drawn weights: what it answers is not looked at, only how fast.
``--short`` marks the record: a look at whether all of it runs, on a machine that may be busy, and no figure to tell anybody.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from greffon.settings import processors
from record import record

HERE = Path(__file__).parent

#: Torchvision's VGG16: the numbers of its convolutions, and how many channels each gives.
VGG16 = (
    (0, 64), (2, 64), (5, 128), (7, 128), (10, 256), (12, 256), (14, 256),
    (17, 512), (19, 512), (21, 512), (24, 512), (26, 512), (28, 512),
)  # fmt: skip


@dataclass
class Traffic:
    """What clients saw: seconds of the answered requests, and how many of each status."""

    wall: float = 0.0
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = {"per_second": round(len(self.seconds) / self.wall, 2), "statuses": dict(self.statuses)}
        if self.seconds:
            p50, p99 = np.percentile(self.seconds, [50, 99])
            found |= {"p50_ms": round(1000 * p50, 1), "p99_ms": round(1000 * p99, 1), "longest_ms": round(1000 * max(self.seconds), 1)}
        return found


def traffic(
    port: int, photos: Sequence[bytes], clients: int, seconds: float, *, form: bool = False, most: int = 0, every: float = 0.0
) -> Traffic:
    """So many clients, each on one connection, ask as fast as they are answered; or once in ``every`` seconds, one after the other."""
    found, lock, end = Traffic(), threading.Lock(), time.monotonic() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        turn = number
        slot = time.monotonic() + every * number / clients
        time.sleep(max(0.0, slot - time.monotonic()) if every else 0)
        while time.monotonic() < end and not (most and sum(found.statuses.values()) >= most):
            body, kind = photos[turn % len(photos)], "image/jpeg"
            if form:
                body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + body + b"\r\n--b--\r\n"
                kind = "multipart/form-data; boundary=b"
            turn += clients
            began = time.monotonic()
            try:
                connection.request("POST", "/v1/predict", body, {"Content-Type": kind})
                answer = connection.getresponse()
                answer.read()
                status = str(answer.status)
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
                connection.close()
            with lock:
                found.statuses[status] += 1
                if status == "200":
                    found.seconds.append(time.monotonic() - began)
            if status == ConnectionRefusedError.__name__:
                break  # the server has gone
            slot = max(slot + every, time.monotonic()) if every else 0.0
            time.sleep(max(0.0, min(slot, end) - time.monotonic()) if every else 0)
        connection.close()

    began = time.monotonic()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.wall = time.monotonic() - began
    return found


@contextmanager
def greffon(export: Path, *options: object) -> Iterator[tuple[int, int, float]]:
    """The server: its port, its process, and the seconds from its start to its first answer."""
    began = time.monotonic()
    words = [sys.executable, "-m", "greffon", "serve", str(export), "--port", "0", *map(str, options)]
    with tempfile.TemporaryFile() as log, subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log) as process:
        try:
            assert process.stdout
            told = re.search(rb":(\d+)/", process.stdout.readline())
            if not told:
                log.seek(0)
                raise SystemExit(log.read().decode())
            port = int(told[1])
            wait(port)
            yield port, process.pid, time.monotonic() - began
        finally:
            process.terminate()


@contextmanager
def peer(classes: int) -> Iterator[int]:
    """FastAPI, torch and torchvision, with drawn weights: its port."""
    rng = np.random.default_rng(0)
    arrays = {"head.weight": rng.normal(0, 0.05, (classes, 512)), "head.bias": np.zeros(classes)}
    for (number, width), before in zip(VGG16, (3, *(width for _, width in VGG16)), strict=False):
        arrays[f"features.{number}.weight"] = rng.normal(0, (2 / before / 9) ** 0.5, (width, before, 3, 3))
        arrays[f"features.{number}.bias"] = np.zeros(width)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "weights.npz", allow_pickle=False, **{name: array.astype(np.float32) for name, array in arrays.items()})
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = [sys.executable, str(HERE / "peers" / "torch_server.py"), f"{folder}/weights.npz", "--port", str(port)]
        with subprocess.Popen(words) as process:
            try:
                wait(port)
                yield port
            finally:
                process.terminate()


def wait(port: int, seconds: float = 120) -> None:
    """Until a server answers."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.02)
        finally:
            connection.close()
    raise SystemExit("the server does not answer")


def memory_of(process: int) -> float:
    """MiB that a process holds."""
    text = Path(f"/proc/{process}/status").read_text()
    return _number(r"VmRSS:\s+(\d+)", text) / 1024


def _number(pattern: str, text: str) -> float:
    """The number that a pattern's group stands for."""
    found = re.search(pattern, text, re.M)
    if found is None:
        raise SystemExit(f"there is no {pattern} in what the server tells")
    return float(found[1])


def bare(export: Path, batch: int, seconds: float) -> float:
    """Images per second of the engine alone, on pictures in memory, in batches of this size."""
    from greffon.server.engines import make_engine
    from greffon.server.exported import read_export

    engine = make_engine(read_export(export), threads=processors())
    pre = engine.preprocess
    pictures = np.random.default_rng(0).integers(0, 256, (batch, pre.height, pre.width, 3), np.uint8)
    engine.run(pictures)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        engine.run(pictures)
        count += batch
    return count / (time.perf_counter() - began)


def beside_bare(export: Path, photos: Sequence[bytes], seconds: float, rounds: int = 3) -> dict[str, Any]:
    """By turns: batches of eight by the engine alone, and sixteen clients of a server that makes such batches."""
    ours, theirs = [], []
    with greffon(export, "--deadline", 120) as (port, _, _):
        traffic(port, photos, 16, min(3.0, seconds))
        for _ in range(rounds):
            theirs.append(bare(export, 8, seconds))
            found = traffic(port, photos, 16, seconds)
            ours.append(len(found.seconds) / found.wall)
        sizes = batch_sizes(port)
    return {"bare_per_second": round(statistics.median(theirs), 2), "served_per_second": round(statistics.median(ours), 2),
            "ratio": round(statistics.median(o / t for o, t in zip(ours, theirs, strict=True)), 3), "mean_batch": sizes}  # fmt: skip


def batch_sizes(port: int) -> float:
    """The mean size of the server's batches."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    total, count = (_number(rf"^greffon_batch_images_{what}{{.*}} (\S+)$", text) for what in ("sum", "count"))
    return round(total / count, 2)


def overload(export: Path, photos: Sequence[bytes], seconds: float, deadline: float) -> dict[str, Any]:
    """Four times as many requests as it carries, each by another client that asks once in a deadline, answered or refused."""
    with greffon(export, "--deadline", deadline) as (port, _, _):
        alone = traffic(port, photos, 8, seconds / 2)
        rate = len(alone.seconds) / alone.wall
        clients = min(400, max(16, round(4 * rate * deadline)))
        found = traffic(port, photos, clients, seconds, every=clients / (4 * rate))
    late = sum(one > deadline for one in found.seconds)
    return {"deadline_s": deadline, "clients": clients, "carried_per_second": round(rate, 2),
            "offered_per_second": round(sum(found.statuses.values()) / found.wall, 2), **found.figures(), "answered_late": late}


def stopped(export: Path, photos: Sequence[bytes], seconds: float) -> dict[str, Any]:
    """Sixteen clients, and the server is told to stop in the middle: each request is answered, or was never taken."""
    with greffon(export, "--deadline", 120, "--drain", 1) as (port, process, _):
        timer = threading.Timer(seconds / 2, os.kill, (process, signal.SIGTERM))
        timer.start()
        found = traffic(port, photos, 16, seconds + 120)
    refused = found.statuses.pop(ConnectionRefusedError.__name__, 0)
    answered = found.statuses.pop("200", 0)
    return {"answered": answered, "refused_after_the_end": refused, "lost": dict(found.statuses)}


def long_run(export: Path, photos: Sequence[bytes], requests: int) -> dict[str, Any]:
    """Memory after every tenth of many requests."""
    with greffon(export, "--deadline", 120) as (port, process, _):
        traffic(port, photos, 8, 3600, most=max(16, requests // 20))
        marks = [memory_of(process)]
        for _ in range(10):
            traffic(port, photos, 8, 3600, most=requests // 10)
            marks.append(memory_of(process))
    return {"requests": requests, "mib": [round(mark, 1) for mark in marks], "growth_mib": round(marks[-1] - marks[0], 1)}


def beside_torch(export: Path, photos: Sequence[bytes], seconds: float, classes: int, rounds: int = 3) -> dict[str, Any]:
    """By turns: eight clients of this server, and of FastAPI with torch in the handler."""
    ours, theirs = [], []
    with greffon(export, "--deadline", 120) as (port, _, _), peer(classes) as other:
        for one in (port, other):
            traffic(one, photos, 8, min(3.0, seconds), form=True)
        for _ in range(rounds):
            for one, rates in ((other, theirs), (port, ours)):
                found = traffic(one, photos, 8, seconds, form=True)
                rates.append(len(found.seconds) / found.wall)
    return {"greffon_per_second": round(statistics.median(ours), 2), "torch_per_second": round(statistics.median(theirs), 2),
            "ratio": round(statistics.median(o / t for o, t in zip(ours, theirs, strict=True)), 2)}  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("export", type=Path)
    arguments.add_argument("photos", type=Path)
    arguments.add_argument("--parts", default="start,bare,clients,overload,stop,memory,peer")
    arguments.add_argument("--seconds", type=float, default=30)
    arguments.add_argument("--requests", type=int, default=20_000)
    arguments.add_argument("--deadline", type=float, default=5)
    arguments.add_argument("--short", action="store_true")
    arguments.add_argument("--name", default="serving")
    options = arguments.parse_args()
    paths = sorted(path for path in options.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:200]
    photos = [path.read_bytes() for path in paths]
    about = json.loads((options.export / "export.json").read_text())
    figures: dict[str, Any] = {
        "short": options.short, "seconds": options.seconds, "load_before": os.getloadavg()[0],
        "format": about["format"], "precision": about["precision"],
        "network": about["model"]["backbone"]["name"], "size": about["model"]["preprocess"]["height"],
    }  # fmt: skip
    for part in options.parts.split(","):
        if part == "start":
            starts = []
            for _ in range(3):
                with greffon(options.export) as (_, _, seconds):
                    starts.append(round(seconds, 2))
            figures[part] = {"seconds": starts}
        elif part == "bare":
            figures[part] = beside_bare(options.export, photos, options.seconds)
        elif part == "clients":
            with greffon(options.export, "--deadline", 120) as (port, _, _):
                traffic(port, photos, 4, min(3.0, options.seconds))
                figures[part] = {str(count): traffic(port, photos, count, options.seconds).figures() for count in (1, 8, 64)}
        elif part == "overload":
            figures[part] = overload(options.export, photos, options.seconds, options.deadline)
        elif part == "stop":
            figures[part] = stopped(options.export, photos, options.seconds)
        elif part == "memory":
            figures[part] = long_run(options.export, photos, options.requests)
        elif part == "peer":
            if (figures["network"], figures["size"]) != ("vgg16", 224):
                raise SystemExit("the peer is a VGG16 that sees 224 pixels: give the export of such a model")
            figures[part] = beside_torch(options.export, photos, options.seconds, len(about["classes"]))
        else:
            raise SystemExit(f"no part {part!r}")
        print(f"{part}: {json.dumps(figures[part])}", file=sys.stderr, flush=True)
    record(options.name, figures, notes="a short look on a busy machine: no figures to tell" if options.short else "")


if __name__ == "__main__":
    main()
