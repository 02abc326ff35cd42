"""A graphics processor: the frozen pass, and an epoch above the cut against a loop that runs the frozen part every time.

    python benchmarks/cuda.py [--images 2000]

VGG16 at 224 pixels with drawn weights (its speed does not depend on their values) on drawn photos of 500 x 375 pixels in
JPEG files. The plain loop is as people write it, at the same precision and layout: frozen blocks under no_grad, block5
and a linear layer trained under autocast, the images in the graphics processor's memory already.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from greffon.activations import Activations, Store, Tap, TorchEngine, compute
from greffon.backbones import Backbone, Entry, blueprint, entry
from greffon.heads import Representation
from greffon.progress import Silent
from greffon.training import Recipe, Samples, StoredViews, fit
from greffon.transfer.inductive import grown_on, prepare
from record import record

CUT, CLASSES, BATCH = "block5", 10, 64


def drawn_vgg16() -> Backbone:
    """VGG16's convolutions, weights drawn."""
    row: Entry = entry("vgg16")
    plan = blueprint(row)
    torch.manual_seed(0)
    shapes = plan.model.state_dict()
    tensors = {name: torch.empty(shapes[name].shape) for name in plan.trunk_keys()}
    for tensor in tensors.values():
        tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5) if tensor.ndim > 1 else tensor.zero_()
    return Backbone(plan, tensors)


def write_photos(folder: Path, count: int) -> list[Path]:
    """Smooth noise: compresses as photos do."""
    rng, paths = np.random.default_rng(0), []
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
        paths.append(folder / f"{i:05d}.jpg")
        small.resize((500, 375), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def plain_epoch(network: Backbone, pixels: torch.Tensor, labels: torch.Tensor) -> float:
    """Seconds of an epoch that runs all of VGG16 on every image; the second of two."""
    frozen = network.below(CUT).cuda().to(memory_format=torch.channels_last).eval()
    upper = network.above(CUT).cuda().to(memory_format=torch.channels_last).requires_grad_(True)
    head = torch.nn.Linear(512, CLASSES).cuda()
    optimizer = torch.optim.AdamW([*upper.parameters(), *head.parameters()], lr=1e-5)
    seconds = 0.0
    for _ in range(2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for some in torch.randperm(len(pixels), device="cuda").split(BATCH):
            x = pixels[some].permute(0, 3, 1, 2).float()
            with torch.autocast("cuda", torch.bfloat16):
                with torch.no_grad():
                    x = frozen(x.sub(118.0).contiguous(memory_format=torch.channels_last))
                loss = functional.cross_entropy(head(upper(x).mean((2, 3))), labels[some])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=2000)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    network, n = drawn_vgg16(), options.images
    labels = np.arange(n) % CLASSES
    figures: dict[str, object] = {"gpu": torch.cuda.get_device_name(), "images": n, "cut": CUT, "batch": BATCH}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photos(Path(folder), n)
        pixels = np.random.default_rng(0).integers(0, 256, (512, 224, 224, 3), np.uint8)
        for precision in ("float32", "bfloat16"):
            engine, rates = TorchEngine(network, Tap("pooled"), precision, "cuda"), []
            for _ in range(options.rounds + 1):
                began = time.perf_counter()
                for start in range(0, len(pixels), engine.batch):
                    engine.run(pixels[start : start + engine.batch])
                rates.append(len(pixels) / (time.perf_counter() - began))
            figures[f"network_alone_{precision}_images_per_second"] = round(statistics.median(rates[1:]), 1)
        engine = TorchEngine(network, Tap("map", CUT), "bfloat16", "cuda", keep="bfloat16")
        kept: Activations = compute(paths, network, Tap("map", CUT), engine, store=Store(Path(folder) / "store"), progress=Silent())
        figures["pass_from_files_images_per_second"] = round(kept.computed / kept.seconds, 1)
        source, train = StoredViews([kept], network.preprocess), Samples(np.arange(n), labels)
        start = prepare(network, CUT, source, train, CLASSES, Representation("last", "mean", "standard"))
        recipe = Recipe(epochs=4, batch=BATCH, learning_rate=1e-5, precision="bfloat16", winograd=False)
        told = fit(grown_on(network, start, recipe), source, train, None, recipe, progress=Silent())
        ours = statistics.median(row.seconds for row in told.history[2:])
        images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (n, 224, 224, 3), np.uint8)).cuda()
        theirs = statistics.median(
            plain_epoch(drawn_vgg16(), images, torch.from_numpy(labels).cuda()) for _ in range(options.rounds)
        )
    figures |= {
        "epoch_from_the_store_images_per_second": round(n / ours, 1),
        "plain_loop_images_per_second": round(n / theirs, 1),
        "ratio_epoch": round(theirs / ours, 2),
    }
    record("cuda", figures, notes="drawn weights and photos; the plain loop has its images decoded, in the GPU's memory")


if __name__ == "__main__":
    main()
