"""Folder, CSV or Parquet → ``Dataset``; a look at every file; splits."""

from greffon.datasets.excluding import path_in_table, without_excluded
from greffon.datasets.finding import find_images
from greffon.datasets.folding import scan_for_folds
from greffon.datasets.reading import read_dataset, read_photos
from greffon.datasets.scanning import Facts, FactsBook, Scan, near_duplicate_groups, scan
from greffon.datasets.splitting import apportion, folds, sample_by_class, split
from greffon.datasets.value import SPLITS, Dataset

__all__ = [
    "SPLITS",
    "Dataset",
    "Facts",
    "FactsBook",
    "Scan",
    "apportion",
    "find_images",
    "folds",
    "near_duplicate_groups",
    "path_in_table",
    "read_dataset",
    "read_photos",
    "sample_by_class",
    "scan",
    "scan_for_folds",
    "split",
    "without_excluded",
]
