"""Sets of classes that hold the true one as often as was asked for: split conformal prediction. No torch here.

Angelopoulos and Bates (2023), Conformal Prediction: A Gentle Introduction, Foundations and Trends in Machine Learning 16,
494-591 (arXiv:2107.07511), section 1; the score is LAC of Sadinle, Lei and Wasserman (2019), J. Am. Stat. Assoc. 114, 223-234,
whose sets are the smallest on average.
"""

from __future__ import annotations

import math

import numpy as np

from greffon.errors import OptionError

__all__ = ["conformal_scores", "prediction_sets", "score_limit"]


def conformal_scores(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 - p(true class) of images that the model was not fitted on, float64 (n,), sorted.

    Parameters
    ----------
    probabilities
        float64 (n, c).
    labels
        int64 (n,).
    """
    return np.sort(1 - probabilities[np.arange(len(labels)), labels])


def score_limit(scores: np.ndarray, coverage: float) -> float:
    """The score up to which a class belongs to the set: the ceil((n + 1) coverage)-th smallest; infinite where n is too small.

    With it the set of a new image of the same kind holds its class with a probability of at least ``coverage``, and of at most
    ``coverage + 1 / (n + 1)`` where no two scores are equal.

    Parameters
    ----------
    scores
        See ``conformal_scores``.
    coverage
        Above 0 and below 1.

    Raises
    ------
    OptionError
        A coverage that cannot be.
    """
    if not 0 < coverage < 1:
        raise OptionError(f"the coverage of sets must be above 0 and below 1, got {coverage}", hint="For instance 0.9.")
    # 100 times 0.07 is a little more than 7 in binary: a rounding must not make it 8.
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf


def prediction_sets(probabilities: np.ndarray, limit: float) -> np.ndarray:
    """bool (n, c): the classes whose 1 - p is at most ``limit``. A set may be empty: then no class is sure enough.

    Where the model is right more often than was asked for, some sets must be, or the coverage would be higher than that.
    """
    return 1 - probabilities <= limit
