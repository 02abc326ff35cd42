"""What adapting on features and adapting above the cut both end with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Choice, Executor, Store
from greffon.backbones import Backbone
from greffon.jobs.adapt.pair import Pair
from greffon.model import Model
from greffon.progress import Progress
from greffon.training import EpochRow
from greffon.transfer.transductive import Evidence

__all__ = ["Outcome", "Task"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What both are given."""

    pair: Pair
    network: Backbone
    folder: Path
    method: str
    precision: str
    seed: int
    store: Store
    progress: Progress
    executor: Executor | None = None  # where the frozen part runs; this process, if None

    def figures_of_data(self, failed: int) -> dict[str, Any]:
        """What a model remembers of the images, as JSON values."""
        source, target = self.pair.source, self.pair.target
        about: dict[str, Any] = {
            "target": target.dataset.fingerprint(target.digests),
            "target_images": len(target.dataset),
        }
        if source is not None:
            data = source.dataset
            about |= {
                "fingerprint": data.fingerprint(source.digests),
                "images": len(data),
                "images_by_class": {name: int((data.labels == i).sum()) for i, name in enumerate(data.classes)},
            }
        unreadable = len(target.unreadable) + (len(source.unreadable) if source else 0) + failed
        return {**about, "in_both_domains": self.pair.shared, "unreadable": unreadable}


@final
@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """See ``AdaptResult``; features are pairs of source and target."""

    model: Model
    method: str
    adapted: bool
    why: str
    positions: np.ndarray
    probabilities: np.ndarray
    source_only: np.ndarray
    source_labels: np.ndarray
    before: tuple[np.ndarray, np.ndarray]
    after: tuple[np.ndarray, np.ndarray]
    failed: Mapping[Path, str]
    plan: Choice
    computed: int
    reused: int
    evidence: tuple[Evidence, ...] = ()
    history: tuple[EpochRow, ...] = ()
    agreement: float = float("nan")
    distance: float = float("nan")
    proportions: np.ndarray | None = None
