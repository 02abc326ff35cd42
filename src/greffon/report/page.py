"""``report.html``: one self-contained file, no script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from greffon.auditing import KINDS, Finding
from greffon.datasets import Dataset, Scan
from greffon.evaluation import Evaluation
from greffon.model import Model
from greffon.report.calibration import plot_reliability
from greffon.report.parts import drawn_address, photo_address, picture_address, write_page

__all__ = ["Mistake", "train_report"]


@final
@dataclass(frozen=True, slots=True)
class Mistake:
    """A test image that was named wrongly."""

    name: str
    picture: str  # a data address, or "" where the thumbnail failed
    true: str
    predicted: str
    probability: float


def train_report(
    path: Path,
    model: Model,
    evaluation: Evaluation | None,
    tested: Dataset,
    probabilities: np.ndarray,
    unreadable: Sequence[tuple[Path, str]],
    looked: Scan,
    *,
    curve: Path | None = None,
    search: Path | None = None,
    findings: Sequence[Finding] = (),
    most: int = 24,
) -> None:
    """Write the page of a training run.

    Parameters
    ----------
    tested, probabilities
        The test images, and float64 (n, c) of what the model said of them.
    curve
        A PNG file of the losses, which becomes part of the page.
    search
        One of the search for hyperparameters; looked at only where the model came of one.
    findings
        Faults of the data.
    most
        How many mistakes are shown, the surest first, and how many probable label errors.

    Raises
    ------
    ModelError
        The file cannot be written.
    """
    wrong = np.flatnonzero(probabilities.argmax(1) != tested.labels) if len(tested) else np.zeros(0, np.int64)
    wrong = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")] if len(wrong) else wrong
    entry = model.backbone.plan.entry
    values = {
        "model": model,
        "entry": entry,
        "evaluation": evaluation,
        "dataset": looked.dataset,
        "mistakes": [_mistake(tested, probabilities, int(i)) for i in wrong[:most]],
        "wrong": len(wrong),
        "shade": _shades(evaluation.confusion) if evaluation else [],
        "unreadable": [(str(file), reason) for file, reason in unreadable],
        "looked": looked,
        "curve": picture_address(curve),
        "faults": [(kind, sum(one.kind == key for one in findings)) for key, kind in KINDS.items()
                   if any(one.kind == key for one in findings)],
        "suspects": [_suspect(one) for one in findings if one.kind == "label-error"][:most],
        "reliability": drawn_address(lambda file: plot_reliability(evaluation, file)) if evaluation else "",
        "search": picture_address(search) if model.training.get("search") else "",
    }
    write_page(path, "page.html", values)


def _suspect(one: Finding) -> tuple[Finding, str]:
    """A probable label error with its thumbnail."""
    return one, photo_address(one.path, side=160) if one.path is not None else ""


def _mistake(tested: Dataset, probabilities: np.ndarray, i: int) -> Mistake:
    best = int(probabilities[i].argmax())
    return Mistake(
        name=tested.paths[i].name,
        picture=photo_address(tested.paths[i], side=160),
        true=tested.classes[int(tested.labels[i])],
        predicted=tested.classes[best],
        probability=float(probabilities[i, best]),
    )


def _shades(confusion: np.ndarray) -> list[list[float]]:
    """Each cell's share of its row, for its colour."""
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    return share.tolist()
