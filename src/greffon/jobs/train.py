"""``greffon train``: a folder of photos becomes a classifier."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Activations, Choice, QuantisedEngine, Store, Tap, chosen_engine, compute
from greffon.datasets import SPLITS, Dataset, Scan, read_dataset, scan, split
from greffon.errors import DataError, OptionError
from greffon.evaluation import Evaluation, evaluate_probabilities
from greffon.heads import HEADS
from greffon.model import Model, is_model_folder, load_any_backbone, save_model, write_json
from greffon.progress import Progress, Silent
from greffon.report import train_report
from greffon.transfer.inductive import Probe, fit_probe, representations

__all__ = ["TrainResult", "train"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class TrainResult:
    """What a training run made, and what it saw on its way."""

    model: Model
    evaluation: Evaluation | None
    probe: Probe
    scan: Scan
    dataset: Dataset  # with the role of every image
    unreadable: tuple[tuple[Path, str], ...]
    plan: Choice
    activations: Activations
    seconds: float


def train(
    data: Path | str,
    *,
    out: Path | str | None = None,
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    unfreeze: str = "none",
    head: str = "logistic",
    pool: str = "auto",
    stages: str = "auto",
    norm: str = "auto",
    class_weights: str = "auto",
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    precision: str = "auto",
    min_fidelity: float = 0.999,
    slim: bool = False,
    store: Store | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a classifier on labelled images by feature extraction, evaluate it on its test split, and save it.

    Parameters
    ----------
    data
        A folder per class, ``train/val/test`` folders, or a CSV or Parquet file; see ``read_dataset``.
    out
        The model folder to write, or None.
    backbone, weights, size
        See ``load_backbone``. ``backbone`` may also be a model folder.
    head
        One of ``heads.HEADS``.
    pool, stages, norm
        Of the representation; what is ``"auto"`` is chosen by cross-validation on the training images.
    class_weights
        ``"balanced"``, ``"none"``, or ``"auto"``: balanced where the largest class has twice the images of the smallest.
    fractions
        Of train, val and test, where the data has no split of its own. As no choice is made on the val images here,
        the final head is fitted on those of a drawn split too.
    seed
        The same seed on the same machine gives the same model.
    precision
        ``"auto"``, ``"int8"``, ``"bfloat16"`` or ``"float32"``: of the frozen part; see ``chosen_engine``.
    min_fidelity
        The least mean cosine to float32, on a sample of these images, with which a cheaper precision is used.
    slim
        Save without the frozen stages.
    store
        Where activations are kept, by default greffon's cache.

    Raises
    ------
    GreffonError
        Of the kind that says what is wrong. What was computed before stays in the store.
    """
    started = time.perf_counter()
    listener = progress or Silent()
    kept = store or Store()
    choices = representations(pool, stages, norm)
    if head not in HEADS:
        raise OptionError(f"train: head must be one of {', '.join(HEADS)}, got {head!r}")
    if class_weights not in ("auto", "balanced", "none"):
        raise OptionError(f"train: class_weights must be auto, balanced or none, got {class_weights!r}")
    if unfreeze != "none":
        raise OptionError(f"train: unfreeze must be 'none' (feature extraction) in this version, got {unfreeze!r}")
    folder = Path(out) if out is not None else None
    if folder is not None:
        _must_be_free(folder)
    looked = scan(read_dataset(data), book=kept, progress=listener)
    _tell(looked, listener)
    dataset = split(looked.dataset.without_empty_classes(), looked.groups, fractions=fractions, seed=seed)
    _tell_rare(dataset, listener)
    network = load_any_backbone(backbone, weights=weights, size=size, progress=listener)
    tap = Tap("map", "none") if pool == "flatten" else Tap("pooled")
    # Test images have no part in any choice, not even in that of the precision.
    learned = [i for i, role in enumerate(dataset.splits) if role != "test"]
    engine, plan = chosen_engine(
        network,
        tap,
        precision,
        [dataset.paths[i] for i in learned],
        listener,
        least=min_fidelity,
        images=len(dataset),
        labels=dataset.labels[learned],
    )
    activations = compute(dataset.paths, network, tap, engine, store=kept, progress=listener, digests=looked.digests)
    failed = tuple((dataset.paths[i], reason) for i, reason in sorted(activations.failed.items()))
    for path, reason in failed:
        listener.warn(f"set aside: {path}: {reason}")
    drawn = not any(looked.dataset.splits)
    fit_on = _positions(dataset, ("train", "val") if drawn else ("train",), activations)
    balanced = None if class_weights == "auto" else class_weights == "balanced"
    probe = fit_probe(
        activations.batch(fit_on),
        network.widths(),
        dataset.labels[fit_on],
        len(dataset.classes),
        groups=looked.groups[fit_on],
        head=head,
        representations=choices,
        balanced=balanced,
        seed=seed,
        progress=listener,
    )
    test = _positions(dataset, ("test",), activations)
    evaluation = None
    probabilities = np.zeros((0, len(dataset.classes)))
    if len(test):
        probabilities = probe.probabilities(activations.batch(test), network.widths())
        evaluation = evaluate_probabilities(dataset.labels[test], probabilities, dataset.classes)
    else:
        listener.warn("there is no test split, so no figure can be given")
    model = Model(
        backbone=network,
        cut="none",
        classes=dataset.classes,
        representation=probe.representation,
        normaliser=probe.normaliser,
        head=probe.head,
        precision=engine.precision,
        training={
            "strategy": "feature extraction",
            "head": head,
            "strength": probe.strength,
            "balanced": probe.balanced,
            "chosen_by": "cross-validation on the images that the head was fitted on",
            "trials": [
                {
                    "representation": str(t.representation),
                    "strength": t.strength,
                    "accuracy": t.accuracy,
                    "log_loss": t.log_loss,
                    "folds": t.folds,
                }
                for t in probe.trials
            ],
            "fitted_on": ["train", "val"] if drawn else ["train"],
            "seed": seed,
            "fractions": list(fractions),
            "min_fidelity": min_fidelity,
            "fidelity": plan.fidelity.to_dict() if plan.fidelity else None,
            "plan": plan.to_dict(),
        },
        figures=evaluation.to_dict() if evaluation else {},
        data={
            "fingerprint": dataset.fingerprint(looked.digests),
            "images": len(dataset),
            "splits": {name: len(dataset.where(name)) for name in SPLITS},
            "images_by_class": {name: int((dataset.labels == i).sum()) for i, name in enumerate(dataset.classes)},
            "unreadable": len(looked.unreadable) + len(failed),
            "near_duplicates": looked.near_duplicates,
        },
        quantised=engine.graph if isinstance(engine, QuantisedEngine) else None,
    )
    seconds = time.perf_counter() - started
    unreadable = (*looked.unreadable, *failed)
    if folder is not None:
        save_model(model, folder, slim=slim)
        if evaluation is not None:
            write_json(folder / "metrics.json", _metrics(evaluation, unreadable, looked, seconds))
        listener.say("writing the report")
        train_report(folder / "report.html", model, evaluation, dataset.take(test), probabilities, unreadable, looked)
    return TrainResult(model, evaluation, probe, looked, dataset, unreadable, plan, activations, seconds)


def _positions(dataset: Dataset, roles: Sequence[str], activations: Activations) -> np.ndarray:
    return np.array(
        [i for i, role in enumerate(dataset.splits) if role in roles and i not in activations.failed], np.int64
    )


def _must_be_free(folder: Path) -> None:
    """A folder that holds something else than an earlier model is not written into."""
    try:
        if folder.is_file() or (folder.is_dir() and not is_model_folder(folder) and any(folder.iterdir())):
            raise OptionError(
                f"--out {folder}: there is something else already", hint="Give a new folder, or an empty one."
            )
    except OSError as error:
        raise OptionError(f"--out {folder}: cannot be used ({error.strerror})") from error


def _tell(looked: Scan, progress: Progress) -> None:
    for note in looked.dataset.notes:
        progress.warn(note)
    for path, reason in looked.unreadable:
        progress.warn(f"set aside: {path}: {reason}")
    for paths in looked.conflicting:
        progress.warn(f"left out, as the same image stands under two labels: {', '.join(str(path) for path in paths)}")
    if looked.repeated:
        progress.say(f"{len(looked.repeated)} exact copies are used once")
    if looked.near_duplicates:
        progress.say(
            f"{looked.near_duplicates} images are near-duplicates of others; each group stays on one side of the split"
        )


def _tell_rare(dataset: Dataset, progress: Progress) -> None:
    for i, name in enumerate(dataset.classes):
        counts = {
            role: int(((dataset.labels == i) & np.array([s == role for s in dataset.splits])).sum()) for role in SPLITS
        }
        if sum(counts.values()) == 1:
            progress.warn(
                f"the class {name!r} has one image: it {'is learned but not tested' if counts['train'] else 'cannot be learned'}"
            )
        elif not counts["train"]:
            progress.warn(f"the class {name!r} has no image in the training split")
    if not len(dataset.where("train")):
        raise DataError(f"{dataset.root}: the training split is empty")


def _metrics(
    evaluation: Evaluation, unreadable: Sequence[tuple[Path, str]], looked: Scan, seconds: float
) -> dict[str, Any]:
    return {
        **evaluation.to_dict(),
        "split": "test",
        "unreadable": [{"path": str(path), "reason": reason} for path, reason in unreadable],
        "conflicting": [[str(path) for path in paths] for paths in looked.conflicting],
        "near_duplicates": looked.near_duplicates,
        "seconds": round(seconds, 2),
    }
