"""greffon's side of the frozen pass: the engine that ``greffon train`` and ``greffon embed`` would choose.

    python benchmarks/greffon_frozen.py JOB [--precision auto] [--cut pooled] [--pass-of 2000]

What is chosen depends on the length of the pass, since int8 has to be calibrated: ``--pass-of`` has it chosen for a longer
pass than the benchmark has the time for. The choice and the calibration are ``setup``.

Writes JOB/features_greffon.npy, float32 (n, 512): the mean of the last stage, in the order train, val, test.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from greffon.activations import Store, Tap, chosen_engine, compute, pixels_of
from greffon.backbones import load_backbone
from greffon.progress import Silent
from peers.job import Answer, Stopwatch, read_job


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("job", type=Path)
    arguments.add_argument("--precision", default="auto")
    arguments.add_argument("--cut", default="pooled", help="pooled, as feature extraction wants it, or block5, ...")
    arguments.add_argument("--pass-of", type=int, default=0, help="images that the engine is chosen for; 0: the job's")
    arguments.add_argument("--size", type=int, default=0)
    options = arguments.parse_args()
    job, watch = read_job(options.job), Stopwatch()
    paths = [Path(path) for path in job.all()]
    with watch.part("setup"):
        backbone = load_backbone("vgg16", size=options.size)
        tap = Tap("pooled") if options.cut == "pooled" else Tap("map", options.cut)
        # As in ``greffon train``: the test photos have no part in the choice.
        learned = [Path(path) for path in (*job.train.paths, *job.val.paths)]
        engine, choice = chosen_engine(
            backbone,
            tap,
            options.precision,
            learned,
            Silent(),
            images=options.pass_of or len(paths),
            labels=np.concatenate([job.train.labels, job.val.labels]),
        )
    with tempfile.TemporaryDirectory() as folder:
        with watch.part("pass"):
            found = compute(paths, backbone, tap, engine, store=Store(Path(folder)), progress=Silent())
        if options.cut == "pooled":
            last = backbone.widths()[-1]
            np.save(options.job / "features_greffon.npy", found.all()[:, -2 * last : -last])
    # The network alone, on pixels that are in memory: whole batches of at most 128, as for the peers.
    count = max(min(len(paths), 128) // engine.batch, 1) * engine.batch
    pixels = [pixels_of(paths[i % len(paths)], backbone.preprocess) for i in range(count)]
    batches = [np.stack(pixels[start : start + engine.batch]) for start in range(0, count, engine.batch)]
    began = time.perf_counter()
    for batch in batches:
        engine.run(batch)
    watch.add("network", time.perf_counter() - began)
    Answer(
        tool="greffon",
        settings={
            "precision": engine.precision,
            "engine": engine.fingerprint,
            "batch": engine.batch,
            "cut": options.cut,
            "chosen_for": choice.images,
            "why": choice.why,
            "cosine_to_float32": choice.fidelity.cosine_mean if choice.fidelity else 1.0,
        },
        images={"all": found.computed},
        seconds=watch.seconds,
        rates={"pass": found.computed / watch.seconds["pass"], "network": count / watch.seconds["network"]},
    ).show("greffon", "torch", "pillow", *(("openvino", "nncf") if engine.precision == "int8" else ()))


if __name__ == "__main__":
    main()
