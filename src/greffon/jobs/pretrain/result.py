"""What ``greffon pretrain`` found: the network, how the training went, and what its figures say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Choice
from greffon.backbones import Backbone
from greffon.datasets import Scan
from greffon.training import EpochRow

__all__ = ["PretrainResult"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class PretrainResult:
    """A network for these photos, and the evidence for it.

    Parameters
    ----------
    network
        With the trained stages, or the pretrained one where nothing was gained.
    gained, why
        Whether it was trained stages that were kept, and why.
    scan
        What was looked at; it has no labels.
    paths
        The photos that were learned from, in the order of the features.
    before, after
        float32 (m, d): their features by the pretrained network and by this one.
    history
        Epoch by epoch; epoch 0 is the pretrained network.
    best_epoch
        Which of them was kept.
    """

    folder: Path
    network: Backbone
    cut: str
    method: str
    gained: bool
    why: str
    scan: Scan
    paths: tuple[Path, ...]
    before: np.ndarray
    after: np.ndarray
    history: tuple[EpochRow, ...]
    best_epoch: int
    stopped: str
    training: dict[str, Any]
    plan: Choice
    computed: int
    reused: int
    unreadable: tuple[tuple[Path, str], ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: ``pretrain.json``."""
        return {
            "method": self.method,
            "gained": self.gained,
            "why": self.why,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "photos": len(self.paths),
            "evidence": [{"epoch": row.epoch, "loss": row.features.loss, **_figures(row)} for row in self.history if row.features],
            "unreadable": [{"path": str(path), "reason": reason} for path, reason in self.unreadable],
            "copies": len(self.scan.repeated),
            "training": self.training,
            "seconds": round(self.seconds, 2),
        }


def _figures(row: EpochRow) -> dict[str, Any]:
    assert row.features is not None
    told = asdict(row.features)
    told.pop("loss")
    return {**told, "learning_rate": row.learning_rate, "seconds": round(row.seconds, 2)}
