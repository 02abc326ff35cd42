# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""Adaptation above a cut by ``skada.deep``: the whole network in every epoch, the frozen part without gradients.

    python skada_adapt.py JOB [--method deep-coral] [--epochs 10]

Its networks take photos as one array in memory, so they are decoded once and never varied: less work than the plain loop
does. Its sampler leaves out the last, smaller batch of an epoch. Rates are those of ``torch_finetune.py``; the losses and their
weights stand at skada's defaults, with the layer of the scores for Deep CORAL and that of the pooled features for DANN.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from job import Answer, Photos, Stopwatch, read_job, read_weights, training_arguments
from skada import deep
from skada.deep.modules import DomainClassifier
from torch import nn
from torch_network import BLOCK5, Files, plain, vgg16

METHODS = ("deep-coral", "mcc", "dann")


class Network(nn.Module):
    """Photos (n, 3, h, w) to scores (n, classes). skada hands a weight to every module, and None where there is none."""

    def __init__(self, features: nn.Sequential, classes: int) -> None:
        super().__init__()
        self.frozen = features[:BLOCK5].requires_grad_(False)
        self.block5 = features[BLOCK5:]
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(512, classes)

    def forward(self, x: torch.Tensor, sample_weight: None = None) -> torch.Tensor:
        with torch.no_grad():
            maps = self.frozen(x)
        return self.head(self.pool(self.block5(maps)))


def decoded(photos: Photos, size: int) -> np.ndarray:
    """float32 (n, 3, h, w)."""
    files = Files(photos.paths, photos.labels, plain(size))
    return np.stack([files[i][0].numpy() for i in range(len(files))])


def main() -> None:
    arguments = training_arguments(__doc__, epochs=10)
    arguments.add_argument("--method", choices=METHODS, default="deep-coral")
    options = arguments.parse_args()
    torch.manual_seed(options.seed)
    job, watch = read_job(options.job), Stopwatch()
    if min(len(job.train), len(job.test)) < options.batch:
        raise SystemExit(f"skada trains on whole batches alone: --batch must be at most {min(len(job.train), len(job.test))}")
    with watch.part("decoding"):
        source, target = decoded(job.train, options.size), decoded(job.test, options.size)
    with watch.part("setup"):
        features = vgg16(read_weights(options.job)).features
        assert isinstance(features, nn.Sequential)
        network = Network(features, len(job.classes))
        told = {
            "optimizer": torch.optim.SGD,
            "optimizer__momentum": 0.9,
            "optimizer__param_groups": [
                ("*head*", {"lr": options.head_rate}),
                ("domain_classifier*", {"lr": options.head_rate}),
            ],
            "lr": options.rate,
            "batch_size": options.batch,
            "max_epochs": options.epochs,
            "train_split": None,
            "verbose": 0,
        }
        if options.method == "deep-coral":
            net = deep.DeepCoral(network, layer_name="head", **told)
        elif options.method == "mcc":
            net = deep.MCC(network, layer_name="head", **told)
        else:
            net = deep.DANN(network, layer_name="pool", domain_classifier=DomainClassifier(num_features=512), **told)
        domains = np.concatenate([np.full(len(source), 1), np.full(len(target), -2)])
        # -1 is skada's word for a label that is not known.
        given = np.concatenate([job.train.labels, np.full(len(target), -1)])
    began = time.perf_counter()
    net.fit(np.concatenate([source, target]), given, sample_domain=domains)
    fitted = time.perf_counter() - began
    epochs = [float(value) for value in net.history[:, "dur"]]
    watch.add("epochs", sum(epochs))
    watch.add("around_epochs", fitted - sum(epochs))
    with watch.part("test"):
        guess = net.predict(target, sample_domain=domains[len(source) :])
    names = ("method", "batch", "size", "rate", "head_rate", "seed")
    Answer(
        tool="skada",
        settings={name: getattr(options, name) for name in names}
        | {
            "threads": torch.get_num_threads(),
            "photos_in_whole_batches": max(len(source), len(target)) // options.batch * options.batch,
        },
        images={"source": len(source), "target": len(target)},
        seconds=watch.seconds,
        epochs=epochs,
        right=int((guess == job.test.labels).sum()),
        tested=len(target),
    ).show("skada", "skorch", "torch", "torchvision", "pillow")


if __name__ == "__main__":
    main()
