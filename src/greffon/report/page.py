"""``report.html``: one self-contained file, no script, no network."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import final

import numpy as np

from greffon.datasets import Dataset, Scan
from greffon.errors import ImageError, ModelError
from greffon.evaluation import Evaluation
from greffon.images import decode, read_bytes, thumbnail
from greffon.model import Model

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
    most
        How many mistakes are shown, the surest first.

    Raises
    ------
    ModelError
        The file cannot be written.
    """
    from jinja2 import Environment, select_autoescape

    template = Environment(
        autoescape=select_autoescape(default=True, default_for_string=True), trim_blocks=True
    ).from_string(files("greffon.report").joinpath("page.html").read_text(encoding="utf-8"))
    wrong = np.flatnonzero(probabilities.argmax(1) != tested.labels) if len(tested) else np.zeros(0, np.int64)
    wrong = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")] if len(wrong) else wrong
    entry = model.backbone.plan.entry
    page = template.render(
        model=model,
        entry=entry,
        evaluation=evaluation,
        dataset=looked.dataset,
        mistakes=[_mistake(tested, probabilities, int(i)) for i in wrong[:most]],
        wrong=len(wrong),
        shade=_shades(evaluation.confusion) if evaluation else [],
        unreadable=[(str(file), reason) for file, reason in unreadable],
        looked=looked,
        curve=_picture(curve),
        search=_picture(search) if model.training.get("search") else "",
    )
    part = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        part.write_text(page, encoding="utf-8", errors="replace")
        part.replace(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror})") from error


def _mistake(tested: Dataset, probabilities: np.ndarray, i: int) -> Mistake:
    try:
        address = _as_address(thumbnail(decode(read_bytes(tested.paths[i])), side=160), "jpeg")
    except ImageError:
        address = ""
    best = int(probabilities[i].argmax())
    return Mistake(
        name=tested.paths[i].name,
        picture=address,
        true=tested.classes[int(tested.labels[i])],
        predicted=tested.classes[best],
        probability=float(probabilities[i, best]),
    )


def _picture(file: Path | None) -> str:
    """A PNG file as a data address, or "" where there is none."""
    return _as_address(file.read_bytes(), "png") if file is not None and file.is_file() else ""


def _as_address(picture: bytes, kind: str) -> str:
    """A picture as a data address, so that the page needs no other file."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _shades(confusion: np.ndarray) -> list[list[float]]:
    """Each cell's share of its row, for its colour."""
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    return share.tolist()
