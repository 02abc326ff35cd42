"""From probabilities to what is said: the best classes and, where the model carries what it needs, a set of classes."""

from __future__ import annotations

import math

import numpy as np

from greffon.server.problems import Problem

__all__ = ["best_first", "class_set", "score_limit"]


def best_first(row: np.ndarray, most: int = 0) -> list[int]:
    """The numbers of the most probable classes of float64 (c,), the first first; of equal ones, the one with the lower number.

    ``most`` 0: all of them.
    """
    order = np.argsort(-row, kind="stable")
    return order[: most or None].tolist()


def score_limit(scores: np.ndarray, coverage: float) -> float:
    """The score up to which a class belongs to the set: the ceil((n + 1) coverage)-th smallest of float64 (n,), sorted.

    Split conformal prediction: Angelopoulos and Bates (2023), arXiv:2107.07511, section 1. Raises Problem where the
    coverage cannot be, or n is too small for it.
    """
    if not 0 < coverage < 1:
        raise Problem("wrong-parameter", f"coverage: must be above 0 and below 1, got {coverage:g}")
    # 0.9 is not exact in binary: 9 of 9 + 1 must not become 10 by a rounding.
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    if rank > len(scores):
        most = f"{len(scores)} photos were held out for this model, enough for {len(scores) / (len(scores) + 1):.3f} at most"
        raise Problem("wrong-parameter", f"coverage: {most}, got {coverage:g}")
    return float(scores[rank - 1])


def class_set(row: np.ndarray, limit: float) -> list[int]:
    """The numbers of the classes with 1 - p at most ``limit``, the most probable first. May be none."""
    return [number for number in best_first(row) if 1 - row[number] <= limit]
