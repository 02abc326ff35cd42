"""Accuracy of feature extraction on VGG16, five folds, against pooled block5 from Keras with scikit-learn.

    python benchmarks/accuracy.py DATA... [--keras-python benchmarks/.venv-keras/bin/python]

Both see the same images in the same folds, and the same tensors: the reference script gets them as a NumPy file.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from greffon import TransferClassifier
from greffon.activations import Store, Tap, TorchEngine, compute, pixels_of
from greffon.backbones import load_backbone
from greffon.datasets import folds, read_dataset, scan
from greffon.metrics import wilson_interval
from greffon.progress import Silent
from record import record


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path, nargs="+")
    arguments.add_argument("--keras-python", type=Path, default=Path(__file__).parent / ".venv-keras/bin/python")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    backbone = load_backbone("vgg16")
    figures: dict[str, object] = {}
    for data in options.data:
        store = Store()
        looked = scan(read_dataset(data), book=store, progress=Silent())
        paths, labels = list(looked.dataset.paths), looked.dataset.labels
        parts = folds(labels, looked.groups, 5, options.seed)
        right = np.zeros(len(labels), bool)
        for train, test in parts:
            model = TransferClassifier("vgg16", seed=options.seed).fit([paths[i] for i in train], labels[train])
            right[test] = model.predict([paths[i] for i in test]) == labels[test]
        ours = {"accuracy": float(right.mean()), "interval": wilson_interval(int(right.sum()), len(right)), "n": len(right),
                "folds": [float(right[test].mean()) for _, test in parts]}  # fmt: skip
        row: dict[str, object] = {"greffon": ours}
        if options.keras_python.is_file():
            row["keras"] = against_keras(backbone, paths, labels, parts, right, options.keras_python, store)
        figures[data.name] = row
        print(data.name, row, flush=True)
    record(
        "accuracy",
        figures,
        notes="five folds, near-duplicates kept together; greffon chooses by cross-validation within each training fold",
    )


def against_keras(backbone, paths, labels, parts, right, python: Path, store: Store) -> dict[str, object]:
    """The reference: keras.applications.VGG16 holding the same tensors, its pooled block5, logistic regression."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        np.savez(here / "weights.npz", **{name: tensor.numpy() for name, tensor in backbone.tensors().items()})
        images = np.stack([pixels_of(path, backbone.preprocess) for path in paths])
        np.save(here / "images.npy", images)
        np.savez(here / "folds.npz", labels=labels, part=_part_of(parts, len(labels)))
        subprocess.run([str(python), str(Path(__file__).parent / "keras_reference.py"), folder], check=True)
        theirs, their_right = np.load(here / "features.npy"), np.load(here / "right.npy")
    engine = TorchEngine(backbone, Tap("pooled"), "float32")
    some = np.random.default_rng(0).permutation(len(paths))[:32]
    mine = compute([paths[i] for i in some], backbone, Tap("pooled"), engine, store=None, progress=Silent()).all()[
        :, -1024:-512
    ]
    difference = np.abs(mine - theirs[some]).max() / np.abs(theirs[some]).max()
    gain = right.astype(float) - their_right
    error = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
    return {
        "accuracy": float(their_right.mean()),
        "features_relative_difference_float32": float(difference),
        "greffon_minus_keras_points": round(100 * float(gain.mean()), 2),
        "interval_of_the_difference_points": [
            round(100 * float(gain.mean() - error), 2),
            round(100 * float(gain.mean() + error), 2),
        ],
    }


def _part_of(parts: list[tuple[np.ndarray, np.ndarray]], n: int) -> np.ndarray:
    part = np.zeros(n, np.int64)
    for number, (_, test) in enumerate(parts):
        part[test] = number
    return part


if __name__ == "__main__":
    main()
