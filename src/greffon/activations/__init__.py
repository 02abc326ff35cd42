"""The frozen part runs once per image; what it gave is kept."""

from greffon.activations.choosing import chosen_engine
from greffon.activations.comparing import Fidelity, as_float, fidelity
from greffon.activations.compute import Activations, compute, compute_views
from greffon.activations.engines import (
    KEEPS,
    PRECISIONS,
    Engine,
    PixelEngine,
    Tap,
    TorchEngine,
    best_precision,
    computes_bfloat16,
    make_engine,
    run_filled,
)
from greffon.activations.executing import Encoded, Executor, Job, LocalExecutor, Photo, digest_of, pixels_of
from greffon.activations.kernels import steady_kernels
from greffon.activations.plan import Candidate, Choice, read_choice, remember
from greffon.activations.quantised import QuantisedEngine, QuantisedGraph, cached_graph, quantise
from greffon.activations.shelf import Key, Shelf
from greffon.activations.store import ShelfInfo, Store
from greffon.silence import has_openvino

__all__ = [
    "KEEPS",
    "PRECISIONS",
    "Activations",
    "Candidate",
    "Choice",
    "Encoded",
    "Engine",
    "Executor",
    "Fidelity",
    "Job",
    "Key",
    "LocalExecutor",
    "Photo",
    "PixelEngine",
    "QuantisedEngine",
    "QuantisedGraph",
    "Shelf",
    "ShelfInfo",
    "Store",
    "Tap",
    "TorchEngine",
    "as_float",
    "best_precision",
    "cached_graph",
    "chosen_engine",
    "compute",
    "compute_views",
    "computes_bfloat16",
    "digest_of",
    "fidelity",
    "has_openvino",
    "make_engine",
    "pixels_of",
    "quantise",
    "read_choice",
    "remember",
    "run_filled",
    "steady_kernels",
]
