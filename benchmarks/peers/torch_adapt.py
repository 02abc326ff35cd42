"""Adaptation above a cut in a plain PyTorch loop, with the frozen part under ``no_grad`` in every epoch.

    python torch_adapt.py JOB [--method deep-coral] [--epochs 10] [--layout nchw] [--device cpu]

As the scripts of Transfer-Learning-Library do it: photos are decoded and varied anew in every epoch, each step has a batch of
the source and as large a one of the target, both go through the network together, and after every epoch all photos of the
target are looked at plainly (``validation``; greffon does so, too). The job's split ``train`` is the source, ``test`` the
target. Its labels are looked at to count alone, and the last epoch counts; the scripts choose the epoch by them.
Rates and schedule are those of ``torch_finetune.py``. The methods are written as their papers have them:

    deep-coral   squared distance of the covariances of the scores, over 4 c^2
    mcc          confusion of the target's classes at the temperature 2.5
    dann         a discriminator of the pooled features with a reversed gradient, ramped from 0 to 1
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

import torch
from job import Answer, Stopwatch, read_job, read_weights, training_arguments
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader
from torch_network import BLOCK5, Files, layout, plain, varied, vgg16

METHODS = ("deep-coral", "mcc", "dann")


def deep_coral(source: Tensor, target: Tensor) -> Tensor:
    """Scores (n, c) and (m, c) to a scalar."""
    difference = torch.cov(source.T) - torch.cov(target.T)
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def mcc(scores: Tensor, temperature: float = 2.5) -> Tensor:
    """Scores (m, c) to a scalar."""
    answers = functional.softmax(scores / temperature, dim=1)
    entropy = -(answers * torch.log(answers + 1e-5)).sum(1)
    weight = (1 + torch.exp(-entropy)).detach()
    weight = len(scores) * weight / weight.sum()
    confusion = (answers * weight[:, None]).T @ answers
    confusion = confusion / confusion.sum(1)
    return (confusion.sum() - confusion.trace()) / scores.shape[1]


def dann(discriminator: nn.Module, source: Tensor, target: Tensor, done: float) -> Tensor:
    """Features (n, d) and (m, d) to a scalar; ``done`` is how far the training is, from 0 to 1."""
    ramp = 2 / (1 + math.exp(-10 * done)) - 1
    both = torch.cat([source, target])
    reversed_ = both.detach() * (1 + ramp) - both * ramp  # the value of ``both``, and minus ``ramp`` times its gradient
    labels = torch.cat([torch.ones(len(source)), torch.zeros(len(target))]).to(both.device)
    return functional.binary_cross_entropy_with_logits(discriminator(reversed_)[:, 0], labels)


def forever(loader: DataLoader[tuple[Tensor, int]]) -> Iterator[Tensor]:
    """The photos of batch after batch, begun anew where it ends."""
    while True:
        for x, _ in loader:
            yield x


def main() -> None:
    arguments = training_arguments(__doc__, epochs=10)
    arguments.add_argument("--method", choices=METHODS, default="deep-coral")
    arguments.add_argument("--layout", choices=("nchw", "channels_last"), default="nchw")
    arguments.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    arguments.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments.add_argument("--workers", type=int, default=2)
    options = arguments.parse_args()
    torch.manual_seed(options.seed)
    job, watch = read_job(options.job), Stopwatch()
    like = torch.channels_last if options.layout == "channels_last" else torch.contiguous_format
    with watch.part("setup"):
        features = layout(vgg16(read_weights(options.job)).features, options.layout)
        assert isinstance(features, nn.Sequential)
        frozen, block5 = features[:BLOCK5].requires_grad_(False), features[BLOCK5:]
        pool, head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(512, len(job.classes))
        discriminator = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))
        for part in (features, head, discriminator):
            part.to(options.device)
        groups = [
            {"params": block5.parameters(), "lr": options.rate},
            {"params": head.parameters(), "lr": options.head_rate},
            {"params": discriminator.parameters(), "lr": options.head_rate},
        ]
        optimizer = optim.SGD(groups, momentum=0.9)
        scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)

    def low() -> contextlib.AbstractContextManager[object]:
        return torch.autocast(options.device, torch.bfloat16) if options.precision == "bfloat16" else contextlib.nullcontext()

    def seen_by(x: Tensor) -> Tensor:
        """Photos (n, 3, h, w) to pooled features (n, 512)."""
        with torch.no_grad():
            maps = frozen(x.to(options.device, memory_format=like))
        return pool(block5(maps))

    source = Files(job.train.paths, job.train.labels, varied(options.size))
    target = Files(job.test.paths, job.test.labels, varied(options.size))
    loader = DataLoader(source, options.batch, shuffle=True, num_workers=options.workers)
    # Its workers live on from one round to the next, as in the scripts.
    others = forever(DataLoader(target, options.batch, shuffle=True, num_workers=options.workers))
    looks = DataLoader(Files(job.test.paths, job.test.labels, plain(options.size)), options.batch, num_workers=options.workers)
    epochs: list[float] = []
    right = 0
    seen = there = step = 0
    steps = options.epochs * len(loader)
    waiting = torch.zeros(0, 3, options.size, options.size)
    for _ in range(options.epochs):
        began = time.perf_counter()
        for x, y in loader:
            while len(waiting) < len(x):
                waiting = torch.cat([waiting, next(others)])
            theirs, waiting = waiting[: len(x)], waiting[len(x) :]
            optimizer.zero_grad()
            with low():
                pooled = seen_by(torch.cat([x, theirs])).float()
                scores = head(pooled).float()
            own, other = scores[: len(x)], scores[len(x) :]
            if options.method == "deep-coral":
                adapting = deep_coral(own, other)
            elif options.method == "mcc":
                adapting = mcc(other)
            else:
                adapting = dann(discriminator, pooled[: len(x)], pooled[len(x) :], step / steps)
            loss = functional.cross_entropy(own, y.to(options.device)) + adapting
            loss.backward()
            optimizer.step()
            seen, there, step = seen + len(x), there + len(theirs), step + 1
        scheduler.step()
        watch.add("training", time.perf_counter() - began)
        with watch.part("validation"), torch.no_grad(), low():
            right = sum(int((head(seen_by(x)).argmax(1).cpu() == y).sum()) for x, y in looks)
        epochs.append(time.perf_counter() - began)
    assert there == seen
    names = ("method", "layout", "precision", "device", "batch", "size", "workers", "rate", "head_rate", "seed")
    Answer(
        tool="torch",
        settings={name: getattr(options, name) for name in names} | {"threads": torch.get_num_threads()},
        images={"source": seen // options.epochs, "target": len(job.test)},
        seconds=watch.seconds,
        epochs=epochs,
        rates={"training": (seen + there) / watch.seconds["training"]},
        right=right,
        tested=len(job.test),
    ).show("torch", "torchvision", "pillow")


if __name__ == "__main__":
    main()
