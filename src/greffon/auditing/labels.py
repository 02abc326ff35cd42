"""Probable label errors: confident learning, on probabilities out of fold.

Northcutt, Jiang and Chuang (2021), Confident Learning: Estimating Uncertainty in Dataset Labels, J. Artif. Intell. Res. 70,
1373-1411. Written anew from the article.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

__all__ = ["Suspects", "confident_joint", "find_suspects", "suspicion"]


#: The margin between the most probable class and the label from which that counts as surely enough wrong.
_SURE = 0.9


@final
@dataclass(frozen=True, slots=True, eq=False)
class Suspects:
    """What is thought of the labels of n images.

    Parameters
    ----------
    suspicion
        float64 (n,): from 0 to 1, the higher the more probably wrong; NaN where nothing can be said.
    suggested
        int64 (n,): the most probable class.
    suspected
        bool (n,): whether that is another than the label.
    sure
        bool (n,): whether the label is surely enough wrong for the image to be left out: few of these are right after all.
    confident
        bool (n,): whether confident learning counts the image as another class than its label.
    joint
        int64 (c, c): row, the given label; column, the class that the image is counted as.
    estimated
        How many labels are wrong in all, estimated from ``joint``.
    """

    suspicion: np.ndarray
    suggested: np.ndarray
    suspected: np.ndarray
    sure: np.ndarray
    confident: np.ndarray
    joint: np.ndarray
    estimated: float


def suspicion(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 - p(label), float64 (n,), from 0 to 1.

    The self-confidence p(label) is one of the two rankings of Northcutt et al. (2021), section 3.3. Where labels become any other
    with one probability e, it is the best: p(wrong | image, label) is e (1 - p) / (e (1 - p) + (1 - e (c - 1)) p), which falls with p.

    Parameters
    ----------
    probabilities
        float64 (n, c), rows of which sum to 1; out of fold.
    labels
        int64 (n,).
    """
    return 1 - probabilities[np.arange(len(labels)), labels]


def confident_joint(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The counts of the confident joint, int64 (c, c), and the class that each image is counted as, int64 (n,), or -1.

    Equation 1 of Northcutt et al. (2021): an image counts as the class j of the largest probability among those whose
    probability is at least t_j, the mean of p(j) over the images labelled j. A class without images has no threshold.

    Parameters
    ----------
    probabilities, labels
        See ``suspicion``.
    """
    c = probabilities.shape[1]
    thresholds = np.full(c, np.inf)
    for j in range(c):
        own = probabilities[labels == j, j]
        if len(own):
            thresholds[j] = own.mean()
    # A rounding of the mean shall not put an image below its own threshold where all are equal.
    above = probabilities >= thresholds - 1e-12
    counted = np.where(above.any(1), np.where(above, probabilities, -1.0).argmax(1), -1)
    joint = np.zeros((c, c), np.int64)
    sure = counted >= 0
    np.add.at(joint, (labels[sure], counted[sure]), 1)
    return joint, counted


def find_suspects(probabilities: np.ndarray, labels: np.ndarray, judged: np.ndarray) -> Suspects:
    """Rank labels by how probably they are wrong.

    Parameters
    ----------
    probabilities
        float64 (n, c), out of fold.
    labels
        int64 (n,), -1 where there is none.
    judged
        bool (n,): the images whose labels are asked about; their labels are at least 0.
    """
    n, c = probabilities.shape
    asked = np.flatnonzero(judged)
    p, y = probabilities[asked], labels[asked]
    doubt, confident, sure = np.full(n, np.nan), np.zeros(n, bool), np.zeros(n, bool)
    best = probabilities.argmax(1)
    joint, counted = confident_joint(p, y)
    if len(asked) and c > 1:
        doubt[asked] = suspicion(p, y)
        confident[asked] = (counted >= 0) & (counted != y)
        sure[asked] = confident[asked] & (p.max(1) - p[np.arange(len(y)), y] >= _SURE)
    rows = joint.sum(1)
    # Equation 3: every row is scaled to the number of images with its label.
    images = np.bincount(y, minlength=c)
    wrong = (rows - np.diag(joint)) / np.maximum(rows, 1) * images
    return Suspects(doubt, best, judged & (best != labels), sure, confident, joint, float(wrong.sum()))
