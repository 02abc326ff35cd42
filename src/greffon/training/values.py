"""What the gradient loop takes, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
import torch
from torch import Tensor

from greffon.training.judging import FeatureRow, TargetRow

__all__ = ["EpochListener", "EpochRow", "Samples", "Trained", "class_weights"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Images by their position in the source, int64 (n,), and their classes, int64 (n,)."""

    positions: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)


@final
@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch; epoch 0 is before the first. Without a validation split its two figures are None.

    ``log_loss`` is in nats, after division of the scores by the temperature that makes it least, so that it tells how
    well the classes are told apart, and not how loudly. The rates are those of the epoch's first step: of the topmost stage and of the
    head. ``target`` is of a run that adapts to one, ``features`` of one without any labels.
    """

    epoch: int
    loss: float | None
    accuracy: float | None
    log_loss: float | None
    learning_rate: float
    stages: int
    seconds: float
    target: TargetRow | None = None
    features: FeatureRow | None = None
    head_learning_rate: float = 0.0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EpochRow:
        """The inverse of ``dataclasses.asdict``."""
        target, features = values.get("target"), values.get("features")
        seen = {
            "target": None if target is None else TargetRow(**target),
            "features": None if features is None else FeatureRow(**features),
        }
        return cls(**{**values, **seen})


class EpochListener(Protocol):
    """Follows a run, and has no part in it."""

    def follow(self, history: Sequence[EpochRow]) -> None:
        """All epochs up to now, from 0: before the first one, and after each one once its checkpoint is written.

        A run that goes on tells those of its checkpoint again.
        """
        ...


@final
@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What a run ended with.

    Parameters
    ----------
    state
        The tensors of the best epoch, by the names of ``Grown``.
    history
        From epoch 0 on.
    best_epoch
        Of the least validated log-loss, or the last one where nothing is validated. Of a run that adapts, or has no labels at
        all: see ``training.judging``.
    stopped
        Why it ended before its last epoch, or "".
    """

    state: Mapping[str, Tensor]
    history: tuple[EpochRow, ...]
    best_epoch: int
    stopped: str


def class_weights(labels: np.ndarray, classes: int) -> Tensor:
    """n / (c n_k) for each class k with images, and 0 for one without: float32 (classes,), as scikit-learn's "balanced"."""
    counts = np.bincount(labels, minlength=classes)
    present = int((counts > 0).sum())
    return torch.from_numpy(np.where(counts > 0, len(labels) / (present * np.maximum(counts, 1)), 0).astype(np.float32))
