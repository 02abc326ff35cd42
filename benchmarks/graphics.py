"""A graphics processor: the frozen pass, and an epoch above the cut against a loop that runs the frozen part every time.

    python benchmarks/graphics.py [--images 2000]

VGG16 at 224 pixels with drawn weights (its speed does not depend on their values) on drawn photos of 500 x 375 pixels in
JPEG files. The plain loop is as people write it, at the same precision and layout: frozen blocks under no_grad, block5
and a linear layer trained under autocast; the images decoded by torchvision in a DataLoader with a process for each
processor, and, for the network alone, lying in the graphics processor's memory already.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from greffon.activations import Activations, Store, Tap, TorchEngine, compute
from greffon.backbones import Backbone, Entry, blueprint, entry
from greffon.heads import Representation
from greffon.progress import Silent
from greffon.settings import processors
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


@final
class Files(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Photos as torchvision's scripts read them."""

    def __init__(self, paths: Sequence[Path], labels: np.ndarray) -> None:
        from torchvision import transforms

        self._paths, self._labels = paths, labels
        self._fit = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        with Image.open(self._paths[i]) as image:
            return torch.as_tensor(self._fit(image.convert("RGB"))), int(self._labels[i])


def plain_epoch(network: Backbone, batches: Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]) -> float:
    """Seconds of an epoch that runs all of VGG16 on every image; the second of two. Batches: uint8 (n, 3, h, w), int64 (n,)."""
    frozen = network.below(CUT).cuda().to(memory_format=torch.channels_last).eval()
    upper = network.above(CUT).cuda().to(memory_format=torch.channels_last).requires_grad_(True)
    head = torch.nn.Linear(512, CLASSES).cuda()
    optimizer = torch.optim.AdamW([*upper.parameters(), *head.parameters()], lr=1e-5)
    seconds = 0.0
    for _ in range(2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for pixels, labels in batches():
            x = pixels.cuda(non_blocking=True).float().sub(118.0).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cuda", torch.bfloat16):
                with torch.no_grad():
                    x = frozen(x)
                loss = functional.cross_entropy(head(upper(x).mean((2, 3))), labels.cuda(non_blocking=True))
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
        loader = torch.utils.data.DataLoader(Files(paths, labels), BATCH, shuffle=True, num_workers=processors(), pin_memory=True)
        from_files = statistics.median(plain_epoch(drawn_vgg16(), lambda: loader) for _ in range(options.rounds))
        images = torch.randint(0, 256, (n, 3, 224, 224), dtype=torch.uint8, device="cuda")
        answers = torch.from_numpy(labels).cuda()

        def in_memory() -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
            return ((images[some], answers[some]) for some in torch.randperm(n, device="cuda").split(BATCH))

        theirs = statistics.median(plain_epoch(drawn_vgg16(), in_memory) for _ in range(options.rounds))
    figures |= {
        "epoch_from_the_store_images_per_second": round(n / ours, 1),
        "plain_loop_from_files_images_per_second": round(n / from_files, 1),
        "ratio_epoch_from_files": round(from_files / ours, 2),
        "plain_loop_from_gpu_memory_images_per_second": round(n / theirs, 1),
        "ratio_epoch_from_gpu_memory": round(theirs / ours, 2),
    }
    record("graphics", figures, notes="drawn weights and photos; a ratio above 1 says that greffon took less time")


if __name__ == "__main__":
    main()
