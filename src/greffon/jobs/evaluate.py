"""``greffon evaluate``: a model on labelled photos."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Store
from greffon.datasets import Dataset, read_dataset, scan, without_excluded
from greffon.errors import DataError
from greffon.evaluation import Evaluation, evaluate_probabilities
from greffon.metrics import wilson_interval
from greffon.model import Model, Prediction, load_model
from greffon.progress import Progress, Silent
from greffon.report import check_results_folder, plot_reliability, write_results

__all__ = ["Difference", "EvaluateResult", "SetFigures", "evaluate"]


@final
@dataclass(frozen=True, slots=True)
class Difference:
    """What the precision that a model was trained in changes against float32, on the same n images."""

    precision: str
    n: int
    predictions: int  # how many images have another most probable class
    largest: float  # difference of a probability
    accuracy: float  # in the precision of the training

    def to_dict(self) -> dict[str, float | int | str]:
        """As JSON values."""
        return {
            "precision": self.precision,
            "n": self.n,
            "predictions_that_differ": self.predictions,
            "largest_probability_difference": self.largest,
            "accuracy": self.accuracy,
        }


@final
@dataclass(frozen=True, slots=True)
class SetFigures:
    """How often sets of classes held the true one, with an interval of 95 %, where ``asked`` was asked for; and their sizes."""

    asked: float
    coverage: float
    interval: tuple[float, float]
    mean_size: float
    empty: float
    single: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"interval": list(self.interval)}


@final
@dataclass(frozen=True, slots=True, eq=False)
class EvaluateResult:
    """Figures, and the images that they speak of."""

    evaluation: Evaluation
    dataset: Dataset
    probabilities: np.ndarray  # float64 (n, c)
    unreadable: tuple[tuple[Path, str], ...]
    views: int
    difference: Difference | None = None  # with precision="exact", for a model that was trained in a cheaper one
    sets: SetFigures | None = None  # where a coverage was asked for

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``evaluate --json``, and of ``evaluation.json``."""
        return {
            **self.evaluation.to_dict(),
            "views": self.views,
            "unreadable": [{"path": str(path), "reason": reason} for path, reason in self.unreadable],
            **({} if self.difference is None else {"difference": self.difference.to_dict()}),
            **({} if self.sets is None else {"sets": self.sets.to_dict()}),
        }


def evaluate(
    model: Path | str,
    data: Path | str,
    *,
    precision: str = "",
    views: int = 1,
    exclude: Path | str | None = None,
    sets: float = 0.0,
    out: Path | str | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> EvaluateResult:
    """Evaluate a model on the test split of a data set, or on all of it where it has no splits.

    Parameters
    ----------
    model
        A model folder.
    data
        As for ``train``. Every class of the data must be one of the model's.
    precision
        Of the frozen part instead of the training's. ``"exact"`` is float32, and tells what the training's changes.
    views
        As for ``predict``.
    exclude
        A list of files that are left out; see ``without_excluded``.
    sets
        0, or a coverage: how often sets of classes that should have it hold the true class.
    out
        A folder for ``evaluation.json`` and the reliability diagram, ``evaluation.png`` and ``evaluation.svg``, or None.

    Raises
    ------
    ModelError, DataError, OptionError
    """
    listener = progress or Silent()
    kept = store or Store()
    dataset = without_excluded(read_dataset(data), exclude)
    if "test" in dataset.splits:
        dataset = dataset.take(dataset.where("test"))
        listener.say(f"evaluating on the test split: {len(dataset)} images")
    loaded = load_model(model)
    if out is not None:
        check_results_folder(Path(out), Path(data))
    if sets:
        loaded.sets(np.zeros((0, len(loaded.classes))), sets)  # what cannot be is told before anything is read
    dataset = _in_classes_of(loaded, dataset.without_empty_classes())
    looked = scan(dataset, book=kept, progress=listener)
    told = loaded.predict(
        looked.dataset.paths, store=kept, progress=listener, precision=precision, digests=looked.digests, views=views
    )
    good = np.array([i for i in range(len(looked.dataset)) if i not in told.failed], np.int64)
    failed = tuple((looked.dataset.paths[i], reason) for i, reason in sorted(told.failed.items()))
    unreadable = (*looked.unreadable, *failed)
    for path, reason in unreadable:
        listener.warn(f"set aside: {path}: {reason}")
    for paths in looked.conflicting:
        listener.warn(f"left out, as the same image stands under two labels: {', '.join(str(path) for path in paths)}")
    tested = looked.dataset.take(good)
    # The mean over several views is no softmax of scores, so nothing is known of it without the temperature.
    temperature = loaded.head.temperature if views == 1 else None
    evaluation = evaluate_probabilities(tested.labels, told.probabilities[good], loaded.classes, temperature=temperature)
    difference = None
    if precision == "exact" and loaded.precision != "float32":
        usual = loaded.predict(looked.dataset.paths, store=kept, progress=listener, digests=looked.digests)
        difference = _difference(usual, told, looked.dataset.labels)
    figures = _set_figures(loaded.sets(told.probabilities[good], sets), tested.labels, sets) if sets else None
    result = EvaluateResult(evaluation, tested, told.probabilities[good], unreadable, views, difference, figures)
    if out is not None:
        write_results(Path(out), "evaluation", result.to_dict(), lambda path: plot_reliability(evaluation, path))
    return result


def _set_figures(held: np.ndarray, labels: np.ndarray, asked: float) -> SetFigures:
    right, size = held[np.arange(len(labels)), labels], held.sum(1)
    return SetFigures(asked, float(right.mean()), wilson_interval(int(right.sum()), len(right)), float(size.mean()),
                      float((size == 0).mean()), float((size == 1).mean()))  # fmt: skip


def _difference(usual: Prediction, exact: Prediction, labels: np.ndarray) -> Difference | None:
    """None where the precision of the training cannot be run here, as the model has said."""
    both = np.array([i for i in range(len(labels)) if i not in usual.failed and i not in exact.failed], np.int64)
    if usual.precision == exact.precision or not len(both):
        return None
    a, b = usual.probabilities[both], exact.probabilities[both]
    changed = int((a.argmax(1) != b.argmax(1)).sum())
    right = float((a.argmax(1) == labels[both]).mean())
    return Difference(usual.precision, len(both), changed, float(np.abs(a - b).max()), right)


def _in_classes_of(model: Model, dataset: Dataset) -> Dataset:
    number = {name: i for i, name in enumerate(model.classes)}
    strange = [name for name in dataset.classes if name not in number]
    if strange:
        raise DataError(
            f"{dataset.root}: has classes that the model does not know: {', '.join(strange[:6])}",
            hint=f"The model's classes are: {', '.join(model.classes[:20])}.",
        )
    renumbered = np.array([number[name] for name in dataset.classes], np.int64)[dataset.labels]
    return replace(dataset, classes=model.classes, labels=renumbered)
