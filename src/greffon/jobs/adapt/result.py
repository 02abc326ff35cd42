"""What ``greffon adapt`` found: photo by photo, as JSON, and written into its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Choice
from greffon.datasets import Scan
from greffon.model import Model
from greffon.training import EpochRow
from greffon.transfer.transductive import Evidence

__all__ = ["AdaptResult"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class AdaptResult:
    """A model for the target, how it was chosen, and what it says of the target's photos.

    Parameters
    ----------
    source, target
        What was looked at; the target's data set has no labels. Without the source's photos (SHOT), ``source`` is None.
    method, adapted, why
        Whose guesses the model learned; whether anything was adapted; and why.
    positions
        int64 (m,): the target's photos that could be read, by their positions in ``target.dataset``.
    probabilities, source_only
        float64 (m, c): of these, by the model and by the source-only model.
    source_features, target_features
        float32 (n, d) and (m, d): after the adaptation, each about its own mean where that is what was done; the first (0, d)
        without the source's photos. ``raw``: before it, both as the source is normalised.
    source_labels
        int64 (n,).
    evidence
        Of every way that was tried, without labels of the target.
    agreement, distance
        See ``transductive.Adapted``; NaN where they are not known: with a method that was asked for, nobody votes.
    proportions
        Class → share of the target, as estimated.
    warnings
        What a practitioner should know: sentences.
    shared
        How many photos stand in both domains.
    """

    folder: Path
    model: Model
    source: Scan | None
    target: Scan
    method: str
    adapted: bool
    why: str
    positions: np.ndarray
    probabilities: np.ndarray
    source_only: np.ndarray
    source_labels: np.ndarray
    source_features: np.ndarray
    target_features: np.ndarray
    raw_source_features: np.ndarray
    raw_target_features: np.ndarray
    evidence: tuple[Evidence, ...]
    history: tuple[EpochRow, ...]
    agreement: float
    distance: float
    proportions: Mapping[str, float]
    warnings: tuple[str, ...]
    shared: int
    unreadable: tuple[tuple[Path, str], ...]
    plan: Choice
    computed: int
    reused: int
    command: str
    seconds: float

    @property
    def changed(self) -> int:
        """How many photos of the target have another class than the source-only model gives them."""
        return int((self.probabilities.argmax(1) != self.source_only.argmax(1)).sum())

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: ``adapt.json``."""
        classes = self.model.classes
        guess = self.probabilities.argmax(1)
        return {
            "method": self.method,
            "adapted": self.adapted,
            "why": self.why,
            "target_photos": len(guess),
            "source_photos": len(self.source_labels),
            "changed": self.changed,
            "agreement": _or_none(self.agreement),
            "domain_distance": _or_none(self.distance),
            "predicted_by_class": {name: int((guess == i).sum()) for i, name in enumerate(classes)},
            "estimated_proportions": dict(self.proportions),
            "mean_confidence": float(self.probabilities.max(1).mean()) if len(guess) else None,
            "warnings": list(self.warnings),
            "in_both_domains": self.shared,
            "unreadable": [{"path": str(path), "reason": reason} for path, reason in self.unreadable],
            "evidence": [asdict(row) for row in self.evidence],
            "history": [asdict(row) for row in self.history],
            "training": dict(self.model.training),
            "command": self.command,
            "seconds": round(self.seconds, 2),
        }


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
