"""The frozen pass on a Ray cluster of this machine against the plain run: equality, kills, memory, overhead, efficiency.

    python benchmarks/distributed.py [equality] [kill-worker] [kill-driver] [kill-node] [memory] [overhead] [efficiency]

Without names: all. Every run is a process of its own, ``greffon embed`` as a user starts it, on drawn photos. ``equality``,
kills and ``memory`` use a small network with drawn weights (timm's test_resnet at 32 pixels), so that 50,000 images take
minutes; ``overhead`` and ``efficiency`` use VGG16 (``--size``). Times are told twice: by the clock, and as processor seconds
of all processes of the run, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from greffon.images import encode_png
from record import RESULTS, record

sys.path.remove(str(Path(__file__).parent))  # whose cuda.py torch would take for NVIDIA's package

PARTS = ("equality", "kill-worker", "kill-driver", "kill-node", "memory", "overhead", "efficiency")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass
class Run:
    """A ``greffon embed`` while it runs, and what it took."""

    process: subprocess.Popen[bytes]
    began: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    peak_mib: float = 0.0
    spent: dict[int, float] = field(default_factory=dict)

    def watch(self) -> None:
        """Until it ends: the driver's anonymous memory, and processor seconds of every process below it."""
        while self.process.poll() is None:
            try:
                driver = psutil.Process(self.process.pid)
                self.peak_mib = max(self.peak_mib, anonymous(self.process.pid))
                for one in (driver, *driver.children(recursive=True)):
                    times = one.cpu_times()
                    self.spent[one.pid] = max(self.spent.get(one.pid, 0.0), times.user + times.system)
            except (psutil.Error, OSError, StopIteration):
                continue
            time.sleep(0.2)
        self.seconds = time.perf_counter() - self.began

    @property
    def processor_seconds(self) -> float:
        """Of all its processes."""
        return sum(self.spent.values())


def anonymous(process: int) -> float:
    """RssAnon in MiB."""
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def start(photos: Path, out: Path, *words: str, environment: dict[str, str] | None = None) -> Run:
    command = [sys.executable, "-m", "greffon", "embed", str(photos), "--out", str(out), "--quiet", *words]
    return Run(subprocess.Popen(command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL))


def done(run: Run) -> Run:
    run.watch()
    if run.process.returncode:
        sys.exit(f"greffon embed ended with {run.process.returncode}")
    return run


def draw(folder: Path, count: int, side: int = 32) -> Path:
    """So many photos, every one another."""
    rng = np.random.default_rng(0)
    for i in range(count):
        file = folder / "ab"[i % 2] / f"{i:06}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(rng.integers(0, 256, (side, side, 3), np.uint8)))
    return folder


def drawn_backbone(folder: Path) -> str:
    """timm's test_resnet with drawn weights as a model folder, for 32 pixels."""
    import timm
    import torch

    from greffon.backbones import Backbone, blueprint, entry, resized
    from greffon.heads import LinearHead, Normaliser, Representation
    from greffon.model import Model, save_model

    plan = blueprint(resized(entry("test_resnet.r160_in1k"), 32))
    torch.manual_seed(0)
    network = Backbone(plan, timm.create_model("test_resnet", pretrained=False).state_dict())
    width = network.widths()[-1]
    head = LinearHead("logistic", np.zeros((2, width), np.float32), np.zeros(2, np.float32))
    normaliser = Normaliser("standard", np.zeros(width, np.float32), np.ones(width, np.float32))
    save_model(Model(network, "none", ("a", "b"), Representation(), normaliser, head, "float32", {}, {}, {}), folder)
    return str(folder)


def rows(folder: Path) -> tuple[list[str], np.ndarray]:
    files = sorted(folder.glob("*.parquet")) if folder.is_dir() else [folder]
    table = pa.concat_tables(pq.read_table(file) for file in files)
    values = table["features"].combine_chunks()
    flat = pa.concat_arrays([part.values for part in values.chunks]) if isinstance(values, pa.ChunkedArray) else values.values
    return table["path"].to_pylist(), flat.to_numpy(zero_copy_only=False).reshape(len(table), -1)


def difference(one: Path, other: Path) -> float:
    (names, a), (others, b) = rows(one), rows(other)
    assert names == others, "other rows, or another order"
    return float(np.abs(a - b).max())


def wait_for(out: Path, count: int) -> None:
    end = time.monotonic() + 600
    while len(list(out.glob("part-*"))) < count and time.monotonic() < end:
        time.sleep(0.05)


def stamps(out: Path) -> list[float]:
    return sorted(file.stat().st_mtime for file in out.glob("part-*"))


def equality(where: Path, net: list[str], count: int) -> dict[str, Any]:
    photos = draw(where / "photos", count)
    done(start(photos, where / "plain.parquet", *net))
    done(start(photos, where / "ray", *net, "--ray", "local", "--ray-workers", "2"))
    return {"images": count, "largest_difference": difference(where / "plain.parquet", where / "ray")}


def kill_worker(where: Path, net: list[str], count: int) -> dict[str, Any]:
    photos = draw(where / "photos", count)
    calm = done(start(photos, where / "calm", *net, "--ray", "local", "--ray-workers", "2"))
    run = start(photos, where / "killed", *net, "--ray", "local", "--ray-workers", "2")
    wait_for(where / "killed", 2)
    workers = [one for one in psutil.Process(run.process.pid).children(recursive=True) if "BlockWorker" in " ".join(one.cmdline())]
    workers[0].send_signal(signal.SIGKILL)
    done(run)
    return {"images": count, "largest_difference": difference(where / "calm", where / "killed"), "seconds": round(calm.seconds, 1),
            "seconds_with_a_worker_killed": round(run.seconds, 1)}  # fmt: skip


def kill_driver(where: Path, net: list[str], count: int) -> dict[str, Any]:
    photos, out = draw(where / "photos", count), where / "killed"
    run = start(photos, out, *net, "--ray", "local", "--ray-workers", "2")
    wait_for(out, 3)
    run.process.kill()
    run.process.wait()
    time.sleep(10)
    before = {file: file.stat().st_mtime_ns for file in out.glob("part-*")}
    done(start(photos, out, *net, "--ray", "local", "--ray-workers", "2"))
    done(start(photos, where / "plain.parquet", *net))
    kept = sum(file.stat().st_mtime_ns == stamp for file, stamp in before.items())
    return {"images": count, "blocks": len(stamps(out)), "done_when_killed": len(before), "kept": kept,
            "largest_difference": difference(where / "plain.parquet", out)}  # fmt: skip


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def ray_start(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    common = ["--block", "--disable-usage-stats", "--num-cpus=1", "--object-store-memory=300000000"]
    code = "from ray.scripts.scripts import main; main()"
    run = subprocess.Popen([sys.executable, "-c", code, "start", *words, *common], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield run
    finally:
        run.terminate()
        run.wait(60)


def kill_node(where: Path, net: list[str], count: int) -> dict[str, Any]:
    """Two nodes on this machine's loopback, of one processor each; one dies with all its processes in mid-run."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    photos, port = draw(where / "photos", count), free_port()
    with ray_start("--head", f"--port={port}", "--include-dashboard=false"):
        time.sleep(30)
        with ray_start(f"--address=127.0.0.1:{port}") as second:
            time.sleep(30)
            run = start(photos, where / "out", *net, "--ray", f"127.0.0.1:{port}")
            wait_for(where / "out", 2)
            for one in (*psutil.Process(second.pid).children(recursive=True), psutil.Process(second.pid)):
                one.kill()
            done(run)
    done(start(photos, where / "plain.parquet", *net))
    return {"images": count, "largest_difference": difference(where / "plain.parquet", where / "out"), "seconds": round(run.seconds, 1)}


def memory(where: Path, net: list[str], counts: list[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for count in counts:
        photos = draw(where / f"photos{count}", count)
        run = done(start(photos, where / f"out{count}", *net, "--ray", "local", "--ray-workers", "2"))
        found[str(count)] = {"driver_peak_anonymous_mib": round(run.peak_mib, 1), "seconds": round(run.seconds, 1)}
    peaks = [found[str(count)]["driver_peak_anonymous_mib"] for count in counts]
    return {**found, "growth": round(peaks[-1] / peaks[0] - 1, 4)}


def overhead(where: Path, size: int, count: int) -> dict[str, Any]:
    photos = draw(where / "photos", count, 64)
    words = ["--size", str(size), "--precision", "float32"]
    plain = done(start(photos, where / "plain.parquet", *words, environment={"GREFFON_CACHE": cache(where / "c1")}))
    ray = done(start(photos, where / "ray", *words, "--ray", "local", environment={"GREFFON_CACHE": cache(where / "c2")}))
    parts = stamps(where / "ray")
    return {
        "images": count,
        "pixels": size,
        "plain_seconds": round(plain.seconds, 1),
        "ray_seconds": round(ray.seconds, 1),
        "overhead": round(ray.seconds / plain.seconds - 1, 3),
        "ray_seconds_before_the_first_part": round(ray.seconds - (parts[-1] - parts[0]), 1),
        "plain_processor_seconds": round(plain.processor_seconds, 1),
        "ray_processor_seconds": round(ray.processor_seconds, 1),
        "overhead_in_processor_seconds": round(ray.processor_seconds / plain.processor_seconds - 1, 3),
    }


def cache(folder: Path) -> str:
    """A store of its own for a run, with the weights that are here already."""
    from greffon.settings import cache_root

    folder.mkdir()
    (folder / "weights").symlink_to(cache_root() / "weights")
    return str(folder)


def efficiency(where: Path, size: int, count: int) -> dict[str, Any]:
    """Images a second between the first part and the last, by one worker of one thread and by two."""
    photos = draw(where / "photos", count, 64)
    rates, spent = {}, {}
    for workers in (1, 2):
        out = where / f"out{workers}"
        run = done(start(photos, out, "--size", str(size), "--precision", "float32", "--ray", "local", "--ray-workers", str(workers)))
        parts = stamps(out)
        rates[workers] = 256 * (len(parts) - workers) / (parts[-1] - parts[workers - 1])
        spent[workers] = run.processor_seconds
    return {
        "images": count,
        "pixels": size,
        "one_worker_images_per_second": round(rates[1], 1),
        "two_workers_images_per_second": round(rates[2], 1),
        "efficiency": round(rates[2] / (2 * rates[1]), 3),
        "efficiency_in_processor_seconds": round(spent[1] / spent[2], 3),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("parts", nargs="*", default=[], help=f"of {', '.join(PARTS)}")
    arguments.add_argument("--images", type=int, default=5000)
    arguments.add_argument("--memory-images", type=int, nargs=2, default=[2000, 50000])
    arguments.add_argument("--size", type=int, default=64)
    arguments.add_argument("--name", default="distributed")
    options = arguments.parse_args()
    file = RESULTS / f"{options.name}.json"
    figures = json.loads(file.read_text())["figures"] if options.parts and file.is_file() else {}
    for part in options.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            where = Path(folder)
            net = ["--backbone", drawn_backbone(where / "net"), "--precision", "float32"]
            if part == "memory":
                figures[part] = memory(where, net, options.memory_images)
            elif part in ("overhead", "efficiency"):
                figures[part] = {"overhead": overhead, "efficiency": efficiency}[part](where, options.size, options.images)
            else:
                run = {"equality": equality, "kill-worker": kill_worker, "kill-driver": kill_driver, "kill-node": kill_node}[part]
                figures[part] = run(where, net, options.images)
            figures[part]["load_when_it_ended"] = round(os.getloadavg()[0], 1)
            print(part, json.dumps(figures[part]), flush=True)
    notes = "on drawn photos; the machine's load stands with each figure: above the number of its cores, other work ran beside it"
    record(options.name, figures, notes=notes)


if __name__ == "__main__":
    main()
