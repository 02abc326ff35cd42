"""greffon's side of adaptation above the cut: the frozen part once over both domains, then ``adapt_above`` from the store.

    python benchmarks/greffon_adapt.py JOB [--method deep-coral] [--epochs 10] [--views 4] [--batch 32]

The job's split ``train`` is the source, ``test`` the target, whose labels are looked at to count alone. The steps are
those of ``greffon adapt``, and so are the settings: the look at the photos, the choice of the engine, the pass over the views,
a head that is fitted on the source, training, and the answers to the target's photos.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from greffon.activations import Store, Tap, chosen_engine
from greffon.backbones import load_backbone
from greffon.datasets import read_dataset, scan
from greffon.heads import LinearHead
from greffon.images import views
from greffon.jobs.adapt import Above
from greffon.model import feature_widths, upper_pooled
from greffon.progress import Silent
from greffon.training import Samples, chosen_training
from greffon.transfer.inductive import TRAINED, Layout, frozen_part, grown_on, prepare
from greffon.transfer.transductive import ABOVE, adapt_above, adapt_features
from peers.job import Answer, Stopwatch


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("job", type=Path)
    arguments.add_argument("--method", choices=[name for name in ABOVE if name != "shot"], default="deep-coral")
    arguments.add_argument("--unfreeze", default="block5")
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--views", type=int, default=4)
    arguments.add_argument("--size", type=int, default=0)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--views-seed", type=int, default=-1, help="of the views; -1: as of all else")
    arguments.add_argument("--precision", default="auto")
    options = arguments.parse_args()
    watch, store, cut = Stopwatch(), Store(), options.unfreeze
    with watch.part("look"):
        looked = scan(read_dataset(options.job / "split.csv"), book=store, progress=Silent())
        known, classes = looked.dataset, len(looked.dataset.classes)
        source, target = known.where("train"), known.where("test")
        truth, labels = known.labels[target], known.labels[source]
        # From here on nothing has the target's labels, and every photo of both domains is seen in all views.
        both = replace(known, labels=np.full(len(known), -1), splits=("train",) * len(known))
    with watch.part("setup"):
        network = load_backbone("vgg16", size=options.size)
        layout = Layout(cut, options.views, "bfloat16")
        by_content = [both.paths[i] for i in sorted(range(len(both)), key=looked.digests.__getitem__)]
        engine, choice = chosen_engine(network, Tap("map", cut), options.precision, by_content, Silent(), images=len(both) * options.views,
                                       keep=layout.keep)  # fmt: skip
    with watch.part("pass"):
        looks = views("standard", options.views, options.seed if options.views_seed < 0 else options.views_seed)
        frozen = frozen_part(network, engine, layout, looks, both, looked.digests, store=store, progress=Silent())
    recipe = replace(Above().settled(options.method, labels, options.seed), epochs=options.epochs, batch=options.batch)
    with watch.part("pace"):
        records = frozen.source.batch(target[:4], np.zeros(len(target[:4]), np.int64))
        steps = recipe.epochs * -(-len(source) // recipe.batch)
        pace = chosen_training(network.above(cut), network.fingerprint, records, recipe, steps, Silent())
        low = pace.precision == "bfloat16"
        recipe = replace(recipe, precision="bfloat16" if low else "float32", winograd=recipe.winograd and not low)
    with watch.part("start"):
        labelled = Samples(source, labels)
        start = prepare(network, cut, frozen.source, labelled, classes, TRAINED)
        head = start.head(balanced=recipe.balanced)
        assert isinstance(head, LinearHead)
        grown = grown_on(network, start, recipe)
        grown.begin_at(head)
    with watch.part("opinion"):  # by which the command sets confidences
        mine, theirs = (
            upper_pooled(network, cut, frozen.source.batch(some, np.zeros(len(some), np.int64)).cpu().numpy()) for some in (source, target)
        )
        adapt_features(mine, labels, classes, theirs, feature_widths(network, cut), seed=options.seed, progress=Silent())
    trained = adapt_above(grown, frozen.source, labelled, target, options.method, recipe, val=None, progress=Silent())
    epochs = [row.seconds for row in trained.history[1:]]
    watch.add("epochs", sum(epochs))
    with watch.part("test"):
        grown.eval()
        with torch.inference_mode():
            parts = np.array_split(target, -(-len(target) // 64))
            scores = [grown(frozen.source.batch(some, np.zeros(len(some), np.int64))).numpy() for some in parts]
    guess = np.concatenate(scores).argmax(1)
    Answer(
        tool="greffon",
        settings={
            "method": options.method,
            "unfreeze": cut,
            "views": options.views,
            "precision": engine.precision,
            "why": choice.why,
            "training_precision": recipe.precision,
            "winograd": recipe.winograd,
            "batch": recipe.batch,
            "rate": recipe.learning_rate,
            "head_rate": recipe.head_learning_rate,
            "seed": options.seed,
            "kept_epoch": trained.best_epoch,
        },
        images={"source": len(source), "target": len(target)},
        seconds=watch.seconds,
        epochs=epochs,
        right=int((guess == truth).sum()),
        tested=len(target),
    ).show("greffon", "torch", "pillow", *(("openvino", "nncf") if engine.precision == "int8" else ()))


if __name__ == "__main__":
    main()
