"""Reports to look at: a small model, drawn photos, and drawn probabilities of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from drawn import encode, photo
from exporting_models import model_of
from greffon.auditing import Finding
from greffon.datasets import Dataset, Facts, Scan
from greffon.evaluation import Growth, GrowthPoint, evaluate_probabilities
from greffon.report import HeatPictures, RunReport

__all__ = ["COMMAND", "TUNED", "drawn_probabilities", "everything", "report_of"]

COMMAND = ["train", "my photos/", "--unfreeze", "block5"]

#: What model.json says of a fine-tuning, as far as the report reads it.
TUNED: dict[str, Any] = {
    "strategy": "fine-tuning",
    "seed": 3,
    "command": COMMAND,
    "best_epoch": 2,
    "stopped": "no better validation in 2 epochs",
    "history": [
        {"epoch": 0, "loss": None, "val_accuracy": 0.5, "val_log_loss": 0.9, "stages": 0},
        {"epoch": 1, "loss": 0.8, "val_accuracy": 0.75, "val_log_loss": 0.6, "stages": 2},
        {"epoch": 2, "loss": 0.4, "val_accuracy": 0.9, "val_log_loss": 0.3, "stages": 2},
        {"epoch": 3, "loss": 0.2, "val_accuracy": 0.85, "val_log_loss": 0.4, "stages": 2},
    ],
    "recipe": {"epochs": 10, "batch": 16, "optimizer": "adamw", "learning_rate": 0.0001, "head_learning_rate": 0.003,
               "weight_decay": 0.01, "mix": "mixup", "mix_alpha": 0.2, "label_smoothing": 0.1},
    "views": [{}, {}],
    "policy": "standard",
    "balanced": True,
    "fidelity": {"images": 64, "cosine_mean": 0.99987, "precision": "bfloat16"},
    "plan": {"precision": "bfloat16", "why": "it is the fastest", "images": 60, "candidates": [
        {"precision": "bfloat16", "rate": 56.0, "fidelity": {"cosine_mean": 0.99987}}, {"precision": "float32", "rate": 20.1}]},
    "search": {"trials": 7, "pruned": 2, "log_loss": 0.31, "default_log_loss": 0.35, "seconds": 61.0, "basis": "the log-loss of 5 trials",
               "values": {"learning_rate": 0.0002, "mix": "none"}, "importances": {"learning_rate": 0.8, "mix": 0.2}},
    "automatic": ["block5 separates the classes best", "fine-tuning is kept"],
}  # fmt: skip

EXTRACTED: dict[str, Any] = {
    "strategy": "feature extraction",
    "seed": 0,
    "strength": 10.0,
    "balanced": False,
    "command": COMMAND[:2],
    "trials": [
        {"representation": "mean of the last stage, standard", "strength": 10.0, "accuracy": 0.9, "log_loss": 0.3, "folds": 5},
        {"representation": "mean+max of all stages, l2", "strength": 1.0, "accuracy": 0.8, "log_loss": 0.5, "folds": 5},
    ],
}


def drawn_probabilities(labels: np.ndarray, classes: int, right: float = 0.7, seed: int = 0) -> np.ndarray:
    """float64 (n, c): about so many are named rightly, more or less surely."""
    rng = np.random.default_rng(seed)
    said = np.where(rng.random(len(labels)) < right, labels, (labels + rng.integers(1, max(2, classes), len(labels))) % classes)
    scores = rng.normal(0, 0.5, (len(labels), classes))
    scores[np.arange(len(labels)), said] += rng.uniform(1.5, 5, len(labels))
    raised = np.exp(scores)
    return raised / raised.sum(1, keepdims=True)


def report_of(
    folder: Path,
    *,
    classes: Sequence[str] = ("cat", "dog", "fish"),
    n: int = 30,
    names: Sequence[str] = (),
    training: dict[str, Any] | None = None,
    tested: bool = True,
    labels: np.ndarray | None = None,
    broken: Sequence[int] = (),
    cut: str = "none",
    held_out: bool = True,
    seed: int = 0,
) -> RunReport:
    """A report of ``n`` drawn photos, a few of which may be broken."""
    folder.mkdir(parents=True, exist_ok=True)
    names = names or [f"photo {number:04}.png" for number in range(n)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(b"nothing" if number in broken else encode(photo(number % 40, 48, 64)))
    labels = np.arange(n) % len(classes) if labels is None else labels
    dataset = Dataset(folder, tuple(folder / name for name in names), labels, tuple(classes), ("test",) * n, ("",) * n)
    facts = tuple(Facts(48, 64, bytes(256), bytes(48), "") for _ in names)
    looked = Scan(dataset, tuple(f"{number:064x}" for number in range(n)), facts, np.arange(n), (), (), ())
    used = dataset if tested else dataset.take([])
    probabilities = drawn_probabilities(used.labels, len(classes), seed=seed) if tested else np.zeros((0, len(classes)))
    model = model_of(cut=cut)
    model = replace(
        model,
        classes=tuple(classes),
        training=EXTRACTED if training is None else training,
        data={"images": 200, "splits": {"train": 140, "val": 30, "test": n}, "images_by_class": dict.fromkeys(classes, 60)},
        keep="bfloat16" if cut != "none" else "",
    )
    return RunReport(
        model=model,
        evaluation=evaluate_probabilities(used.labels, probabilities, classes, temperature=0.8) if tested else None,
        tested=used,
        probabilities=probabilities,
        held_out=held_out,
        looked=looked,
        features=np.random.default_rng(seed).normal(size=(len(used), 12)).astype(np.float32) + 3 * used.labels[:, None] if tested else None,
    )


def everything(folder: Path, **options: Any) -> RunReport:
    """A report in which every part of the page has something to say."""
    one = report_of(folder, **{"n": 120, "training": TUNED, "cut": "layer4", **options})
    path = one.tested.paths[0]
    findings = (
        Finding("duplicate-across-splits", path, "cat", "", 1.0, "the same file as b.png (train) and 2 more", True,
                (("others", "b.png (train)"), ("more", 2))),
        Finding("near-duplicate-across-splits", path, "cat", "", 1.0, "nearly the same as b.png (train)", False,
                (("others", "b.png (train)"), ("more", 0))),
        Finding("label-error", path, "cat", "dog", 0.9, "out of fold cat has 3.0 %, dog 96.0 %", True, (("own", 0.03), ("other", 0.96))),
        Finding("few-images", None, "fish", "", 0.5, "10 different photos; intervals of what is said of them are wide", False,
                (("count", 10),)),
        Finding("imbalance", None, "fish", "", 0.5, "cat has 1200 different photos, fish has 10: 120.0 times as many", False,
                (("most", "cat"), ("count", 1200), ("least", "fish"), ("few", 10))),
        Finding("shortcut", None, "fish", "", 0.5, "the border tells the class"),
    )  # fmt: skip
    points = tuple(GrowthPoint(size, share, (share - 0.05, share + 0.05)) for size, share in ((20, 0.6), (40, 0.7), (80, 0.76), (160, 0.8)))
    growth = Growth(points, 200, 1, 5, None, 0.81, 0.84, 0.03, (0.01, 0.05), None)
    wrong = np.flatnonzero(one.probabilities.argmax(1) != one.tested.labels)
    heat = HeatPictures("cam", {int(i): photo(int(i), 32, 32) for i in wrong})
    unreadable = (
        (folder / "empty.jpg", "the file is empty"),
        (folder / "text.jpg", "not an image of a known format (JPEG, PNG)"),
        (folder / "odd.jpg", "something else happened"),
    )
    looked = replace(one.looked, conflicting=((path, one.tested.paths[1]),), repeated=((path, one.tested.paths[2]),))
    return replace(one, findings=findings, growth=growth, heat=heat, unreadable=unreadable, looked=looked)
