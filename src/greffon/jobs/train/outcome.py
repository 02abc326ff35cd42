"""What feature extraction and fine-tuning both end with, and what both begin with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Choice, Executor, Store
from greffon.backbones import Backbone
from greffon.datasets import Dataset, Scan
from greffon.evaluation import Growth
from greffon.model import Model
from greffon.progress import Progress
from greffon.training import EpochListener, EpochRow, RateCurve
from greffon.transfer.inductive import Launcher, Probe, Search

__all__ = ["Outcome", "Task"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What both strategies are given.

    Parameters
    ----------
    dataset
        With the role of every image.
    drawn
        Whether the roles were drawn here, and not the user's own.
    folder
        The model folder to write, or None.
    executor
        Where the frozen part runs; this process, if None.
    examples, thumbnails
        How many training photos the model remembers, and whether with their names and small pictures.
    listener
        Follows the epochs of fine-tuning, but not those of a search.
    launcher
        Starts the processes that fine-tune together; this one alone, if None. A search is this one's.
    """

    dataset: Dataset
    scan: Scan
    network: Backbone
    drawn: bool
    folder: Path | None
    fractions: Sequence[float]
    class_weights: str
    seed: int
    precision: str
    min_fidelity: float
    store: Store
    progress: Progress
    executor: Executor | None = None
    examples: int = 0
    thumbnails: bool = False
    listener: EpochListener | None = None
    launcher: Launcher | None = None

    def learned(self) -> list[int]:
        """The positions of all images but those of the test split: these have no part in any choice."""
        return [i for i, role in enumerate(self.dataset.splits) if role != "test"]

    def figures_of_data(self, unreadable: int) -> dict[str, Any]:
        """What a model remembers of the images, as JSON values."""
        dataset, looked = self.dataset, self.scan
        return {
            "root": os.path.abspath(dataset.root),  # noqa: PTH100  # links stay links
            "fingerprint": dataset.fingerprint(looked.digests),
            "images": len(dataset),
            "splits": {name: len(dataset.where(name)) for name in ("train", "val", "test")},
            "images_by_class": {name: int((dataset.labels == i).sum()) for i, name in enumerate(dataset.classes)},
            "unreadable": len(looked.unreadable) + unreadable,
            "near_duplicates": looked.near_duplicates,
        }


@final
@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a strategy gives.

    Parameters
    ----------
    model
        Without figures yet.
    dataset
        With the roles that it was trained by.
    test, probabilities
        int64 (k,): the positions of the test images; float64 (k, c).
    failed
        Position → reason.
    computed, reused
        Records of the frozen part that were computed, and that were known.
    plan
        Which engine ran it, and why.
    timing
        Seconds, as JSON values.
    probe
        Of feature extraction.
    history, curve
        Of fine-tuning.
    validated
        Of fine-tuning: the positions of the validation images, int64 (k,), and whether each is named rightly, bool (k,).
    search
        Of fine-tuning, where it was done now, and not taken from a plan.
    features
        float32 (k, d): what the head is given of the test images, None where there are none.
    growth
        The learning curve of feature extraction, where it was measured.
    held_out
        Images that were not fitted on, int64 (k,), and what is said of them, float64 (k, c): of feature extraction out of fold, of
        fine-tuning the validation images. Something was chosen by them, so they are not a test.
    """

    model: Model
    dataset: Dataset
    test: np.ndarray
    probabilities: np.ndarray
    failed: Mapping[int, str]
    computed: int
    reused: int
    plan: Choice
    timing: Mapping[str, Any]
    probe: Probe | None = None
    history: tuple[EpochRow, ...] = ()
    curve: RateCurve | None = None
    validated: tuple[np.ndarray, np.ndarray] | None = None
    search: Search | None = None
    features: np.ndarray | None = None
    growth: Growth | None = None
    held_out: tuple[np.ndarray, np.ndarray] | None = None
