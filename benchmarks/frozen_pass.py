"""The frozen pass: images per second from files against the bare network; a second pass; memory.

    python benchmarks/frozen_pass.py DATA [--images 2000]

The bare network is VGG16's convolutions in bfloat16 and channels last on tensors that are in memory already, at the
best of several batch sizes. The two are run turn by turn, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import torch

from greffon.activations import Store, Tap, TorchEngine, best_precision, compute
from greffon.backbones import load_backbone
from greffon.datasets import read_dataset, scan
from greffon.progress import Silent
from record import record


def bare(network: torch.nn.Module, x: torch.Tensor, images: int) -> float:
    """Images per second of the network alone."""
    began = time.perf_counter()
    with torch.inference_mode():
        for _ in range(max(1, images // len(x))):
            network(x)
    return max(1, images // len(x)) * len(x) / (time.perf_counter() - began)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--images", type=int, default=2000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--name", default="frozen_pass")
    options = arguments.parse_args()
    backbone = load_backbone("vgg16")
    precision = best_precision("cpu")
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    engine = TorchEngine(backbone, Tap("pooled"), precision)
    alone = copy.deepcopy(backbone.below("none")).to(dtype).to(memory_format=torch.channels_last)
    inputs = {
        size: torch.randn(size, 3, 224, 224).to(dtype).contiguous(memory_format=torch.channels_last)
        for size in (1, 2, 4, 8, 16, 32)
    }
    for x in inputs.values():
        bare(alone, x, 2 * len(x))
    rates = {size: statistics.median(bare(alone, x, 32) for _ in range(3)) for size, x in inputs.items()}
    best = max(rates, key=lambda size: rates[size])
    paths = list(read_dataset(options.data).paths)[: options.images]
    part = len(paths) // options.rounds
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        ours, theirs = [], []
        for i in range(options.rounds):
            theirs.append(bare(alone, inputs[best], part))
            found = compute(
                paths[i * part : (i + 1) * part], backbone, Tap("pooled"), engine, store=store, progress=Silent()
            )
            ours.append(found.computed / found.seconds)
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            dataset = read_dataset(options.data)
            looked = scan(dataset.take(range(min(len(dataset), options.images))), book=store, progress=Silent())
            found = compute(
                looked.dataset.paths,
                backbone,
                Tap("pooled"),
                engine,
                store=store,
                progress=Silent(),
                digests=looked.digests,
            )
            found.all()
            seconds.append((time.perf_counter() - began, found.computed))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    record(
        options.name,
        {
            "data": options.data.name,
            "images": part * options.rounds,
            "precision": precision,
            "bare_network_images_per_second": round(statistics.median(theirs), 1),
            "bare_network_batch": best,
            "from_files_images_per_second": round(statistics.median(ours), 1),
            "ratio_median": round(statistics.median(ratios), 3),
            "ratio_lowest": round(min(ratios), 3),
            "scan_and_second_pass_seconds_first_scan": round(seconds[0][0], 2),
            "scan_and_second_pass_seconds": round(statistics.median(s for s, _ in seconds[1:]), 2),
            "second_pass_computed": seconds[-1][1],
        },
        notes="ratio: the pass from JPEG files (read, decode, resize, network, pooling, store) against the network alone",
    )


if __name__ == "__main__":
    main()
