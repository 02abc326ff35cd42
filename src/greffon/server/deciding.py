"""From probabilities to what is said: the best classes and, where the model carries what it needs, a set of classes."""

from __future__ import annotations

import math

import numpy as np

from greffon.conformal import prediction_sets, score_limit
from greffon.errors import OptionError
from greffon.server.problems import Problem

__all__ = ["best_first", "class_set", "set_limit"]


def best_first(row: np.ndarray, most: int = 0) -> list[int]:
    """The numbers of the most probable classes of float64 (c,), the first first; of equal ones, the one with the lower number.

    ``most`` 0: all of them.
    """
    order = np.argsort(-row, kind="stable")
    return order[: most or None].tolist()


def set_limit(scores: np.ndarray, coverage: float) -> float:
    """``conformal.score_limit``, for a client. Raises Problem where the coverage cannot be, or the scores are too few for it."""
    try:
        limit = score_limit(scores, coverage)
    except OptionError as error:
        raise Problem("wrong-parameter", f"coverage: {error.what}") from error
    if math.isinf(limit):
        most = f"{len(scores)} photos were held out for this model, enough for {len(scores) / (len(scores) + 1):.3f} at most"
        raise Problem("wrong-parameter", f"coverage: {most}, got {coverage:g}")
    return limit


def class_set(row: np.ndarray, limit: float) -> list[int]:
    """The numbers of the classes of float64 (c,) that are in the set, the most probable first. May be none."""
    held = prediction_sets(row[None], limit)[0]
    return [number for number in best_first(row) if held[number]]
