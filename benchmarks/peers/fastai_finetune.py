# pyright: reportMissingImports=false
"""Fine-tuning block5 with fastai's ``vision_learner``, the stages below it frozen.

    python fastai_finetune.py JOB [--epochs 10] [--batch 32] [--rate 1e-3]

As in fastai's tutorials: ``Resize`` on each photo, ``aug_transforms`` on the batch, its own head (concatenated pooling, two
linear layers with batch norm and dropout), one-cycle schedule, learning rates spread from a tenth for block5 to the whole
for the head.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import final

import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.callback.schedule import Learner  # the one with fit_one_cycle
from fastai.data.transforms import Normalize
from fastai.metrics import accuracy
from fastai.torch_core import params, set_seed
from fastai.vision.augment import Resize, aug_transforms
from fastai.vision.data import ImageDataLoaders
from fastai.vision.learner import vision_learner
from fastcore.foundation import L
from job import Answer, Stopwatch, read_job, read_weights
from torch import nn
from torch_network import BLOCK5, MEAN, STD, vgg16
from torchvision import models


@final
class Timer(Callback):
    """Seconds of each epoch, and of the looks at the val photos; photos trained on."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.validation = 0.0
        self.seen = 0
        self._began = self._looked = 0.0

    def before_epoch(self) -> None:
        self._began = time.perf_counter()

    def after_batch(self) -> None:
        self.seen += len(self.yb[0]) if self.training else 0

    def before_validate(self) -> None:
        self._looked = time.perf_counter()

    def after_epoch(self) -> None:
        now = time.perf_counter()
        self.validation += now - self._looked
        self.epochs.append(now - self._began)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("job", type=Path)
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--rate", type=float, default=1e-3)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    set_seed(options.seed, reproducible=True)
    job, watch, timer = read_job(options.job), Stopwatch(), Timer()

    def arch(pretrained: bool) -> models.VGG:
        return vgg16(read_weights(options.job))

    def groups(model: nn.Sequential) -> L:
        body, *head = model.children()
        features = body.get_submodule("0")
        assert isinstance(features, nn.Sequential)
        return L(features[:BLOCK5], features[BLOCK5:], nn.Sequential(*head)).map(params)

    with watch.part("setup"):
        rows = [
            (path, job.classes[label], held)
            for part, held in ((job.train, False), (job.val, True))
            for path, label in zip(part.paths, part.labels, strict=True)
        ]
        loaders = ImageDataLoaders.from_df(
            pd.DataFrame(rows, columns=["path", "label", "held"]),
            path="/",
            valid_col="held",
            item_tfms=Resize(options.size * 256 // 224),
            batch_tfms=[*aug_transforms(size=options.size), Normalize.from_stats(MEAN, STD)],
            bs=options.batch,
            num_workers=options.workers,
            drop_last=False,  # else it would leave out up to a batch of photos in every epoch
        )
        learn: Learner = vision_learner(loaders, arch, normalize=False, splitter=groups, metrics=accuracy, cbs=[timer])
        learn.freeze_to(1)
    with watch.part("fit"), learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(options.epochs, slice(options.rate / 10, options.rate))
    watch.add("training", sum(timer.epochs) - timer.validation)
    watch.add("validation", timer.validation)
    # What follows is another use of the same callbacks.
    epochs, seen = list(timer.epochs), timer.seen
    with watch.part("test"), learn.no_bar(), learn.no_logging():
        scores, _ = learn.get_preds(dl=learn.dls.test_dl(list(job.test.paths)))
    names = list(learn.dls.vocab)
    guesses = [names[i] for i in scores.argmax(1).tolist()]
    Answer(
        tool="fastai",
        settings={name: getattr(options, name) for name in ("batch", "size", "workers", "rate", "seed")}
        | {"threads": torch.get_num_threads()},
        images=job.counts() | {"train": seen // options.epochs, "test": len(guesses)},
        seconds=watch.seconds,
        epochs=epochs,
        rates={"training": seen / watch.seconds["training"]},
        right=sum(guess == job.classes[label] for guess, label in zip(guesses, job.test.labels, strict=True)),
        tested=len(guesses),
    ).show("fastai", "torch", "torchvision", "pillow")


if __name__ == "__main__":
    main()
