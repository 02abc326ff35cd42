"""``greffon evaluate``: a model on labelled photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from greffon.activations import Store
from greffon.datasets import Dataset, Scan, find_images, read_dataset, scan, without_excluded
from greffon.errors import DataError
from greffon.evaluation import (
    UnknownFigures,
    abstain_figures,
    accuracy_by_size,
    compare_predictions,
    evaluate_probabilities,
    unknown_figures,
)
from greffon.jobs.evaluate.result import Apart, Difference, EvaluateResult, Rival, SetFigures
from greffon.metrics import wilson_interval
from greffon.model import Model, Prediction, load_model
from greffon.progress import Progress, Silent
from greffon.report import check_results_folder, plot_reliability, write_results

__all__ = ["evaluate"]

#: Below so many images a person is told how wide the intervals are.
_FEW = 100
#: The share of known photos that are answered, where photos of other classes are given and no share is.
_KEPT = 0.95


def evaluate(
    model: Path | str,
    data: Path | str,
    *,
    precision: str = "",
    views: int = 1,
    exclude: Path | str | None = None,
    sets: float = 0.0,
    abstain: float = 0.0,
    unknown: Path | str | Sequence[Path | str] | None = None,
    against: Path | str | None = None,
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
    abstain
        0, or the share of known photos that shall be answered: tells how many are, how often rightly, and with ``unknown`` how many photos
        of other classes are refused.
    unknown
        Files and folders with photos of no class of the model; ``abstain`` is then 0.95, unless it is given.
    against
        Another model folder, for a paired comparison on the same images.
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
    other = None if against is None else load_model(against)
    if out is not None:
        check_results_folder(Path(out), Path(data))
    if sets:
        loaded.sets(np.zeros((0, len(loaded.classes))), sets)  # what cannot be is told before anything is read
    kept_share = abstain or (_KEPT if unknown is not None else 0.0)
    limit = loaded.known_up_to(kept_share) if kept_share else 0.0
    strangers = [] if unknown is None else find_images([unknown] if isinstance(unknown, str | Path) else unknown)
    dataset = dataset.without_empty_classes()
    if other is not None:
        dataset.in_classes(other.classes, f"the model {against}")  # told before anything is read, too
    dataset = dataset.in_classes(loaded.classes)
    looked = scan(dataset, book=kept, progress=listener)
    told = loaded.predict(looked.dataset.paths, store=kept, progress=listener, precision=precision, digests=looked.digests,
                          views=views, novelty=kept_share > 0)  # fmt: skip
    rival = None if other is None else other.predict(looked.dataset.paths, store=kept, progress=listener, digests=looked.digests,
                                                     views=views)  # fmt: skip
    missed = told.failed if rival is None else {**rival.failed, **told.failed}
    good = np.array([i for i in range(len(looked.dataset)) if i not in missed], np.int64)
    failed = tuple((looked.dataset.paths[i], reason) for i, reason in sorted(missed.items()))
    unreadable = (*looked.unreadable, *failed)
    for path, reason in unreadable:
        listener.warn(f"set aside: {path}: {reason}")
    for paths in looked.conflicting:
        listener.warn(f"left out, as the same image stands under two labels: {', '.join(str(path) for path in paths)}")
    tested, probabilities = looked.dataset.take(good), told.probabilities[good]
    _tell_narrowness(tested, listener)
    # The mean over several views is no softmax of scores, so nothing is known of it without the temperature.
    temperature = loaded.head.temperature if views == 1 else None
    evaluation = evaluate_probabilities(tested.labels, probabilities, loaded.classes, temperature=temperature)
    difference = None
    if precision == "exact" and loaded.precision != "float32":
        usual = loaded.predict(looked.dataset.paths, store=kept, progress=listener, digests=looked.digests)
        difference = _difference(usual, told, looked.dataset.labels)
    figures = _set_figures(loaded.sets(probabilities, sets), tested.labels, sets) if sets else None
    right = probabilities.argmax(1) == tested.labels
    novelty = None if told.novelty is None else told.novelty[good]
    result = EvaluateResult(
        evaluation,
        tested,
        probabilities,
        unreadable,
        views,
        difference,
        figures,
        sizes=accuracy_by_size(_pixels(looked)[good], right),
        abstaining=None if novelty is None else abstain_figures(novelty, right, limit, kept_share),
        unknown=None if novelty is None or not strangers else _refused(loaded, strangers, novelty, limit, precision, kept, listener),
        rival=None if rival is None or other is None or against is None
        else _rival(Path(against), tested, loaded, probabilities, other, rival.probabilities[good]),
    )  # fmt: skip
    if out is not None:
        write_results(Path(out), "evaluation", result.to_dict(), lambda path: plot_reliability(evaluation, path))
    return result


def _pixels(looked: Scan) -> np.ndarray:
    return np.array([one.height * one.width for one in looked.facts], np.int64)


def _tell_narrowness(tested: Dataset, listener: Progress) -> None:
    """Say what a small or one-sided test cannot tell."""
    present = np.unique(tested.labels)
    if len(present) == 1 and len(tested.classes) > 1:
        listener.warn(f"all {len(tested)} images are of one class, {tested.classes[int(present[0])]!r}: the figures say nothing of the"
                      " others, and a model that always says it would have them all right")  # fmt: skip
    if len(tested) and len(tested) < _FEW:
        low, high = wilson_interval(0.8 * len(tested), len(tested))
        listener.say(f"{len(tested)} images are few: an accuracy of 80 % has an interval from {100 * low:.0f} to {100 * high:.0f} %")


def _refused(
    model: Model, photos: Sequence[Path], known: np.ndarray, limit: float, precision: str, store: Store, listener: Progress
) -> UnknownFigures:
    """How many photos of other classes are refused. Those that cannot be read are named."""
    told = model.predict(photos, store=store, progress=listener, precision=precision, novelty=True)
    for i, reason in sorted(told.failed.items()):
        listener.warn(f"set aside: {photos[i]}: {reason}")
    good = [i for i in range(len(photos)) if i not in told.failed]
    if told.novelty is None or not good:
        raise DataError(f"--unknown: none of the {len(photos)} files is a readable image")
    return unknown_figures(known, told.novelty[good], limit)


def _rival(
    folder: Path, tested: Dataset, first: Model, said: np.ndarray, second: Model, against: np.ndarray
) -> Rival:
    """The paired comparison. A class that only the other model has is none of the first's, and so never right."""
    names = (*first.classes, *(name for name in second.classes if name not in first.classes))
    number = {name: i for i, name in enumerate(names)}
    mine, theirs = said.argmax(1), np.array([number[name] for name in second.classes], np.int64)[against.argmax(1)]
    figures = compare_predictions(tested.labels, mine, theirs)
    apart = tuple(Apart(tested.paths[i], names[int(tested.labels[i])], names[int(mine[i])], names[int(theirs[i])])
                  for i in figures.apart.tolist())  # fmt: skip
    return Rival(folder, figures, apart)


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
