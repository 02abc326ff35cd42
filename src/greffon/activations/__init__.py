"""The frozen part runs once per image; what it gave is kept."""

from greffon.activations.choosing import chosen_engine
from greffon.activations.compute import Activations, compute, compute_views
from greffon.activations.engines import (
    PRECISIONS,
    Engine,
    Fidelity,
    Tap,
    TorchEngine,
    best_precision,
    fidelity,
    make_engine,
)
from greffon.activations.executing import Executor, Job, LocalExecutor, Photo, digest_of, pixels_of
from greffon.activations.shelf import Key, Shelf
from greffon.activations.store import ShelfInfo, Store

__all__ = [
    "PRECISIONS",
    "Activations",
    "Engine",
    "Executor",
    "Fidelity",
    "Job",
    "Key",
    "LocalExecutor",
    "Photo",
    "Shelf",
    "ShelfInfo",
    "Store",
    "Tap",
    "TorchEngine",
    "best_precision",
    "chosen_engine",
    "compute",
    "compute_views",
    "digest_of",
    "fidelity",
    "make_engine",
    "pixels_of",
]
