"""The frozen pass in plain PyTorch: torchvision's VGG16, eager, under ``no_grad``, as its users write it.

    python torch_frozen.py JOB [--layout nchw] [--precision float32] [--batch 32]

Writes JOB/features_torch.npy, float32 (n, 512), in the order train, val, test.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

import numpy as np
import torch
from job import Answer, Stopwatch, read_job, read_weights
from torch.utils.data import DataLoader
from torch_network import Files, layout, plain, vgg16


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("job", type=Path)
    arguments.add_argument("--layout", choices=("nchw", "channels_last"), default="nchw")
    arguments.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--workers", type=int, default=2)
    options = arguments.parse_args()
    job, watch = read_job(options.job), Stopwatch()
    with watch.part("setup"):
        network = layout(vgg16(read_weights(options.job)).features.eval(), options.layout)
        like = torch.channels_last if options.layout == "channels_last" else torch.contiguous_format
    files = Files(job.all(), np.zeros(len(job.all()), np.int64), plain(options.size))
    low = torch.autocast("cpu", torch.bfloat16) if options.precision == "bfloat16" else contextlib.nullcontext()
    parts = []
    with torch.no_grad(), low:
        network(torch.zeros(2, 3, options.size, options.size).to(memory_format=like))  # the first call compiles
        with watch.part("pass"):
            for x, _ in DataLoader(files, options.batch, num_workers=options.workers):
                parts.append(network(x.to(memory_format=like)).float().mean((2, 3)).numpy())
        # The network alone, on batches that are in memory: at most four of them.
        count = min(len(files), 4 * options.batch)
        given = torch.stack([files[i][0] for i in range(count)]).split(options.batch)
        batches = [x.contiguous(memory_format=like) for x in given]
        began = time.perf_counter()
        for x in batches:
            network(x).float().mean((2, 3))
        watch.add("network", time.perf_counter() - began)
    np.save(options.job / "features_torch.npy", np.concatenate(parts))
    Answer(
        tool="torch",
        settings={name: getattr(options, name) for name in ("layout", "precision", "batch", "size", "workers")}
        | {"threads": torch.get_num_threads()},
        images={"all": len(files)},
        seconds=watch.seconds,
        rates={"pass": len(files) / watch.seconds["pass"], "network": count / watch.seconds["network"]},
    ).show("torch", "torchvision", "pillow")


if __name__ == "__main__":
    main()
