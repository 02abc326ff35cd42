"""What saying "I don't know" costs and gains: photos of the known classes that are answered, and others that are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from greffon.metrics import auroc, wilson_interval

__all__ = ["AbstainFigures", "UnknownFigures", "abstain_figures", "unknown_figures"]


@final
@dataclass(frozen=True, slots=True)
class AbstainFigures:
    """Of n photos of the known classes, some are answered. Intervals are of 95 % (Wilson).

    Parameters
    ----------
    asked
        The share that was to be answered.
    limit
        The novelty up to which a photo is answered.
    answered, coverage, coverage_interval
        How many were, and their share.
    accuracy, accuracy_interval
        Of those answered; the accuracy is None where none was.
    """

    asked: float
    limit: float
    n: int
    answered: int
    coverage: float
    coverage_interval: tuple[float, float]
    accuracy: float | None
    accuracy_interval: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "asked": self.asked,
            "limit": self.limit,
            "n": self.n,
            "answered": self.answered,
            "coverage": self.coverage,
            "coverage_interval": list(self.coverage_interval),
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
        }


@final
@dataclass(frozen=True, slots=True)
class UnknownFigures:
    """Of n photos of other classes, some are refused.

    Parameters
    ----------
    refused, rate, rate_interval
        How many were, and their share with its interval of 95 % (Wilson).
    auroc, auroc_interval
        How often a photo of another class looks newer than one of the known classes, whatever the limit; see ``metrics.auroc``.
    """

    n: int
    refused: int
    rate: float
    rate_interval: tuple[float, float]
    auroc: float
    auroc_interval: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "n": self.n,
            "refused": self.refused,
            "rate": self.rate,
            "rate_interval": list(self.rate_interval),
            "auroc": self.auroc,
            "auroc_interval": list(self.auroc_interval),
        }


def abstain_figures(novelty: np.ndarray, right: np.ndarray, limit: float, asked: float) -> AbstainFigures:
    """The figures of photos of the known classes.

    Parameters
    ----------
    novelty
        float64 (n,), n at least 1.
    right
        bool (n,): whether each would be named rightly.
    """
    known = novelty <= limit
    n, answered, ok = len(novelty), int(known.sum()), int(right[known].sum())
    return AbstainFigures(asked, limit, n, answered, answered / n, wilson_interval(answered, n),
                          ok / answered if answered else None, wilson_interval(ok, answered))  # fmt: skip


def unknown_figures(known: np.ndarray, unknown: np.ndarray, limit: float) -> UnknownFigures:
    """The figures of photos of other classes.

    Parameters
    ----------
    known, unknown
        The novelty of photos of the known classes, and of others: float64 (m,) and (n,), each at least 1.
    """
    n, refused = len(unknown), int((unknown > limit).sum())
    return UnknownFigures(n, refused, refused / n, wilson_interval(refused, n), *auroc(known, unknown))
