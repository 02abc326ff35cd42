"""Unsupervised transfer: the user's photos have no labels, or only those that are being asked for."""

from greffon.transfer.unsupervised.suggesting import Given, Pool, Suggestion, greedy_cover, suggest_images

__all__ = ["Given", "Pool", "Suggestion", "greedy_cover", "suggest_images"]
"""Unsupervised transfer: the user's photos have no labels."""

from greffon.transfer.unsupervised.neighbours import (
    Duplicates,
    Neighbours,
    Outliers,
    SmallPictures,
    near_duplicates,
    nearest,
    outliers,
)

__all__ = [
    "Duplicates",
    "Neighbours",
    "Outliers",
    "SmallPictures",
    "near_duplicates",
    "nearest",
    "outliers",
]
