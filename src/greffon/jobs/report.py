"""``greffon report``: the page of a model and what it says of labelled photos, from stored activations."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Store
from greffon.auditing import audit_training
from greffon.datasets import Dataset, Scan, read_dataset, scan, split, without_excluded
from greffon.errors import DataError, OptionError
from greffon.evaluation import Evaluation, evaluate_probabilities
from greffon.model import Model, load_model
from greffon.progress import Progress, Silent
from greffon.report import RunReport, check_language, check_sheet, growth_in, mistake_maps, run_report

__all__ = ["ReportResult", "report"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class ReportResult:
    """What was written, and of how many images.

    Parameters
    ----------
    held_out
        Whether the images are the test split of the very data that the model was trained on.
    """

    file: Path
    evaluation: Evaluation
    images: int
    held_out: bool
    unreadable: tuple[tuple[Path, str], ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "file": str(self.file),
            "images": self.images,
            "accuracy": self.evaluation.accuracy,
            "accuracy_interval": list(self.evaluation.accuracy_interval),
            "held_out": self.held_out,
            "unreadable": [{"path": str(path), "reason": reason} for path, reason in self.unreadable],
            "seconds": round(self.seconds, 2),
        }


def report(
    model: Path | str,
    data: Path | str,
    *,
    out: Path | str,
    lang: str = "en",
    exclude: Path | str | None = None,
    heat: bool = True,
    store: Store | None = None,
    progress: Progress | None = None,
) -> ReportResult:
    """Write the report of a model on labelled photos.

    Of the very data that it was trained on, the test split is drawn again, and the report speaks of that. Of other data it speaks of
    their test split, or of all where there is none.

    Parameters
    ----------
    model
        A model folder.
    data
        As for ``train``. Every class of the data must be one of the model's.
    out
        The ``.html`` file to write.
    lang
        ``"en"`` or ``"fr"``.
    exclude
        A list of files that are left out; see ``without_excluded``.
    heat
        Whether the worst mistakes have heat maps.
    store
        Where activations are kept, by default greffon's cache: what training or evaluation left there is not computed again.

    Raises
    ------
    ModelError, DataError, OptionError
    """
    started = time.perf_counter()
    listener, kept = progress or Silent(), store or Store()
    target = Path(out)
    check_sheet(target, (".html",))
    check_language(lang)
    given = without_excluded(read_dataset(data), exclude)
    loaded = load_model(model)
    given.without_empty_classes().in_classes(loaded.classes)  # what the model does not know is told before anything is read
    looked = scan(given, book=kept, progress=listener)
    dataset, held_out = _tested(loaded, looked, listener)
    rows = dataset.where("test") if "test" in dataset.splits else np.arange(len(dataset))
    if not len(rows):
        raise DataError(f"{given.root}: there are no labelled images to report on")
    told = loaded.predict([dataset.paths[i] for i in rows], store=kept, progress=listener, with_features=True,
                          digests=[looked.digests[i] for i in rows])  # fmt: skip
    good = np.array([i for i in range(len(rows)) if i not in told.failed], np.int64)
    unreadable = (*looked.unreadable, *((dataset.paths[rows[i]], reason) for i, reason in sorted(told.failed.items())))
    for path, reason in unreadable:
        listener.warn(f"set aside: {path}: {reason}")
    tested, probabilities = dataset.take(rows[good]).in_classes(loaded.classes), told.probabilities[good]
    evaluation = evaluate_probabilities(tested.labels, probabilities, loaded.classes, temperature=loaded.head.temperature)
    columns = [loaded.classes.index(name) for name in dataset.classes]
    findings = audit_training(given, looked, dataset, rows[good], probabilities[:, columns])
    page = RunReport(
        model=loaded,
        evaluation=evaluation,
        tested=tested,
        probabilities=probabilities,
        held_out=held_out,
        looked=looked,
        unreadable=unreadable,
        findings=findings,
        features=None if told.features is None else told.features[good],
        growth=growth_in(loaded),
        heat=mistake_maps(loaded, tested, probabilities, progress=listener) if heat else None,
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"--out {target}: cannot be written ({error.strerror or error})") from error
    run_report(target, page, lang=lang, progress=listener)
    return ReportResult(target, evaluation, len(good), held_out, unreadable, time.perf_counter() - started)


def _tested(model: Model, looked: Scan, progress: Progress) -> tuple[Dataset, bool]:
    """The images with their roles, and whether the test split is known to have been held out of the training.

    Where the same draw gives the same images in the same roles, it is the data of the training.
    """
    dataset = looked.dataset.without_empty_classes()
    fractions, seed = model.training.get("fractions"), model.training.get("seed")
    try:
        drawn = split(dataset, looked.groups, fractions=[float(share) for share in fractions or ()], seed=int(seed or 0))
    except (DataError, OptionError, TypeError, ValueError):  # of another kind, or damaged
        drawn = None
    if drawn is not None and drawn.fingerprint(looked.digests) == model.data.get("fingerprint"):
        progress.say(f"the data of the training: its test split has {len(drawn.where('test'))} images")
        if len(drawn.where("test")):
            return drawn, True
        progress.warn("no images were held out for a test: the figures are of images that the model has learned")
        return replace(drawn, splits=("",) * len(drawn)), False
    if "test" in dataset.splits:
        progress.say(f"reporting on the test split: {len(dataset.where('test'))} images")
    if str(model.data.get("root", "")) == str(dataset.root.absolute()):
        progress.warn("the model was trained on images of this place, which have changed since: some of these it may have learned")
    return dataset, False
