"""Which part of a photo speaks for a class: exact class activation maps where the graph gives them, occlusion elsewhere."""

from __future__ import annotations

import numpy as np

from greffon.images import Preprocess

__all__ = ["CELLS", "covered", "heat_of"]

#: Places along each side that are covered, one after the other.
CELLS = 6


def covered(picture: np.ndarray, preprocess: Preprocess) -> list[np.ndarray]:
    """The picture, uint8 (height, width, 3), and CELLS² copies, row by row, in each of which one place is covered.

    Occlusion, after Zeiler and Fergus (2014, arXiv:1311.2901, section 4.2). A patch of a quarter of each side, in the
    colour that normalisation makes zero, stands in the middle of each cell of a grid.
    """
    height, width = picture.shape[:2]
    found = [picture]
    for row in range(CELLS):
        for column in range(CELLS):
            top, bottom = _patch(row, height)
            left, right = _patch(column, width)
            copy = picture.copy()
            copy[top:bottom, left:right] = preprocess.neutral
            found.append(copy)
    return found


def _patch(cell: int, side: int) -> tuple[int, int]:
    middle, half = (2 * cell + 1) * side / (2 * CELLS), side / 8
    return max(0, round(middle - half)), max(round(middle - half) + 1, min(side, round(middle + half)))


def heat_of(probabilities: np.ndarray, number: int) -> np.ndarray:
    """How much less probable a class is where a place is covered, float64 (CELLS, CELLS).

    ``probabilities`` are those of ``covered``, (1 + CELLS², c).
    """
    return (probabilities[0, number] - probabilities[1:, number]).reshape(CELLS, CELLS)
