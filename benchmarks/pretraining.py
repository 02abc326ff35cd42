"""What self-supervised training above the cut is worth: a linear probe on the network before and after, on the same folds.

    python benchmarks/pretraining.py DATA... [--methods auto] [--seeds 1] [--repeats 3] [--folds 5] [--size 224] [--joined]
        [--precision auto] [--name pretraining]

``greffon pretrain`` sees all photos and no label. Then, as for any backbone, the whole network runs over the photos once, and
in repeated cross-validation a logistic head is fitted on the mean of the last stage, its strength chosen by cross-validation
within the training folds; with ``--joined`` also what ``greffon train`` chooses among its own representations, which may read
all stages. The difference is paired: the same folds, with the interval of Nadeau and Bengio for repeated
cross-validation, and that of Tango over the photos of the first repeat. Labels score, and do nothing else.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossvalidation import corrected_interval
from greffon.activations import Store, Tap, chosen_engine, compute
from greffon.backbones import Backbone
from greffon.datasets import Dataset, Scan, folds, read_dataset, scan
from greffon.heads import Representation
from greffon.jobs.pretrain import Pretraining, pretrain
from greffon.metrics import paired_difference, wilson_interval
from greffon.model import load_any_backbone
from greffon.progress import Silent
from greffon.transfer.inductive import CANDIDATES, fit_probe
from record import record

__all__ = ["probe_folds", "told_difference"]

#: What a head reads.
LOOKS: dict[str, Sequence[Representation]] = {"last stage": (Representation("last", "mean", "standard"),), "joined": CANDIDATES}


def pooled_of(network: Backbone, dataset: Dataset, digests: Sequence[str], store: Store, precision: str) -> np.ndarray:
    """The pooled records of all photos."""
    engine, _ = chosen_engine(network, Tap("pooled"), precision, dataset.paths, Silent())
    return compute(dataset.paths, network, Tap("pooled"), engine, store=store, progress=Silent(), digests=digests).all()


def probe_folds(
    pooled: np.ndarray, widths: Sequence[int], looked: Scan, looks: Sequence[Representation], repeats: int, count: int
) -> np.ndarray:
    """Whether each photo was named rightly when it was tested: bool (repeats, n), and the folds' numbers beside it, int64 (2, ...)."""
    labels, classes = looked.dataset.labels, len(looked.dataset.classes)
    right, part = np.zeros((repeats, len(labels)), np.int64), np.zeros((repeats, len(labels)), np.int64)
    for repeat in range(repeats):
        for number, (train, test) in enumerate(folds(labels, looked.groups, count, repeat)):
            head = fit_probe(pooled[train], widths, labels[train], classes, groups=looked.groups[train], representations=looks,
                             seed=repeat, progress=Silent())  # fmt: skip
            right[repeat, test] = head.probabilities(pooled[test], widths).argmax(1) == labels[test]
            part[repeat, test] = number
    return np.stack([right, part])


def told_difference(after: np.ndarray, before: np.ndarray) -> dict[str, Any]:
    """Points gained: of two results of ``probe_folds`` on the same folds.

    Two intervals: of Nadeau and Bengio over all folds, and of Tango over the photos of the first repeat.
    """
    part, repeats = after[1], len(after[0])
    count = int(part.max()) + 1
    gains = [
        float((after[0][r] - before[0][r])[part[r] == number].mean()) for r in range(repeats) for number in range(count)
    ]
    low, high = corrected_interval(np.array(gains), 1 / (count - 1))
    _, by_photo = paired_difference(after[0][0], before[0][0])
    return {
        "accuracy": round(100 * float(after[0].mean()), 2),
        "before": round(100 * float(before[0].mean()), 2),
        "before_interval": [round(100 * end, 2) for end in wilson_interval(int(before[0][0].sum()), before.shape[2])],
        "gain_points": round(100 * float(np.mean(gains)), 2),
        "gain_interval": [round(100 * low, 2), round(100 * high, 2)],
        "gain_interval_by_photo": [round(100 * end, 2) for end in by_photo],
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path, nargs="+")
    arguments.add_argument("--methods", default="auto")
    arguments.add_argument("--seeds", type=int, default=1)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--folds", type=int, default=5)
    arguments.add_argument("--joined", action="store_true")
    arguments.add_argument("--precision", default="auto")
    arguments.add_argument("--size", type=int, default=0)
    arguments.add_argument("--name", default="pretraining")
    options = arguments.parse_args()
    store, asked = Store(), dict(list(LOOKS.items())[: 1 + options.joined])
    figures: dict[str, Any] = {}
    for data in options.data:
        looked = scan(read_dataset(data), book=store, progress=Silent())
        start = load_any_backbone("vgg16", size=options.size)
        first = pooled_of(start, looked.dataset, looked.digests, store, options.precision)
        before = {name: probe_folds(first, start.widths(), looked, looks, options.repeats, options.folds) for name, looks in asked.items()}
        rows: dict[str, Any] = {}
        for method in options.methods.split(","):
            for seed in range(options.seeds):
                wishes = Pretraining(method=method)
                with tempfile.TemporaryDirectory() as folder:
                    found = pretrain(data, out=Path(folder) / "network", size=options.size, wishes=wishes, seed=seed,
                                     precision=options.precision, store=store)  # fmt: skip
                pooled = pooled_of(found.network, looked.dataset, looked.digests, store, options.precision)
                told: dict[str, Any] = {"method": found.method, "gained": found.gained, "best_epoch": found.best_epoch}
                told["evidence"] = [round(row["agreement"], 3) for row in found.to_dict()["evidence"]]
                for name, looks in asked.items():
                    after = probe_folds(pooled, start.widths(), looked, looks, options.repeats, options.folds)
                    told[name] = told_difference(after, before[name])
                rows[f"{method}, seed {seed}"] = {**told, "seconds": round(found.seconds)}
                print(data.name, method, seed, rows[f"{method}, seed {seed}"], flush=True)
        size, n, classes = start.preprocess.height, len(looked.dataset), len(looked.dataset.classes)
        figures[data.name] = {"size": size, "n": n, "classes": classes, "runs": rows}
    record(options.name, figures, notes=f"{options.repeats} times {options.folds} folds; the training saw all photos, no label")


if __name__ == "__main__":
    main()
