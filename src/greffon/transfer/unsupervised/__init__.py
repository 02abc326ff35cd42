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
