"""Anonymous memory of the frozen pass while the number of images grows.

    python benchmarks/memory.py [--images 1000 20000]

The images are drawn (VGG16 at 32 pixels, so that twenty thousand take minutes), each one another.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path

import numpy as np

from greffon.activations import Store, Tap, compute, make_engine
from greffon.backbones import load_backbone
from greffon.images import encode_png
from greffon.progress import Silent
from record import record


def anonymous() -> float:
    """RssAnon of this process in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, nargs="+", default=[1000, 20000])
    options = arguments.parse_args()
    backbone = load_backbone("vgg16", size=32)
    engine = make_engine(backbone, Tap("pooled"), "auto")
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        paths = []
        for i in range(max(options.images)):
            paths.append(Path(folder) / f"{i}.png")
            paths[-1].write_bytes(encode_png(rng.integers(0, 256, (32, 32, 3), np.uint8)))
        for count in options.images:
            peak, stop = [anonymous()], threading.Event()

            def watch(peak: list[float] = peak, stop: threading.Event = stop) -> None:
                while not stop.wait(0.2):
                    peak[0] = max(peak[0], anonymous())

            watcher = threading.Thread(target=watch)
            watcher.start()
            found = compute(
                paths[:count],
                backbone,
                Tap("pooled"),
                engine,
                store=Store(Path(folder) / f"store{count}"),
                progress=Silent(),
            )
            stop.set()
            watcher.join()
            figures[str(count)] = {"peak_anonymous_mib": round(peak[0], 1), "computed": found.computed}
    first, last = (figures[str(count)]["peak_anonymous_mib"] for count in (options.images[0], options.images[-1]))
    record("memory", {**figures, "growth": round(last / first - 1, 4)})


if __name__ == "__main__":
    main()
