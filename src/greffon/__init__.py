"""greffon: transfer learning for image classification. A trained CNN is kept, and a small new part is grown on it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greffon.errors import GreffonError
    from greffon.estimators import ImageFeatures, TransferClassifier
    from greffon.jobs.adapt import adapt
    from greffon.jobs.audit import audit
    from greffon.jobs.backbones import backbones
    from greffon.jobs.classify import classify
    from greffon.jobs.cluster import cluster
    from greffon.jobs.compare import compare
    from greffon.jobs.curve import curve
    from greffon.jobs.describe import describe
    from greffon.jobs.duplicates import duplicates
    from greffon.jobs.embed import embed
    from greffon.jobs.evaluate import evaluate
    from greffon.jobs.explain import explain
    from greffon.jobs.export import export
    from greffon.jobs.index import index
    from greffon.jobs.label import label
    from greffon.jobs.mapping import map_photos
    from greffon.jobs.outliers import outliers
    from greffon.jobs.predict import predict
    from greffon.jobs.pretrain import pretrain
    from greffon.jobs.probe import probe
    from greffon.jobs.search import search
    from greffon.jobs.suggest import suggest
    from greffon.jobs.train import train
    from greffon.jobs.weights import export_weights, import_weights, list_weights, show_weights, verify_weights
    from greffon.model import Model, load_model, save_model
    from greffon.server import serve

__all__ = [
    "GreffonError",
    "ImageFeatures",
    "Model",
    "TransferClassifier",
    "adapt",
    "audit",
    "backbones",
    "classify",
    "cluster",
    "compare",
    "curve",
    "describe",
    "duplicates",
    "embed",
    "evaluate",
    "explain",
    "export",
    "export_weights",
    "import_weights",
    "index",
    "label",
    "list_weights",
    "load_model",
    "map_photos",
    "outliers",
    "predict",
    "pretrain",
    "probe",
    "save_model",
    "search",
    "serve",
    "show_weights",
    "suggest",
    "train",
    "verify_weights",
]

_HOMES = {
    "GreffonError": "greffon.errors",
    "ImageFeatures": "greffon.estimators",
    "Model": "greffon.model",
    "TransferClassifier": "greffon.estimators",
    "adapt": "greffon.jobs.adapt",
    "audit": "greffon.jobs.audit",
    "backbones": "greffon.jobs.backbones",
    "classify": "greffon.jobs.classify",
    "cluster": "greffon.jobs.cluster",
    "compare": "greffon.jobs.compare",
    "curve": "greffon.jobs.curve",
    "describe": "greffon.jobs.describe",
    "duplicates": "greffon.jobs.duplicates",
    "embed": "greffon.jobs.embed",
    "evaluate": "greffon.jobs.evaluate",
    "explain": "greffon.jobs.explain",
    "export": "greffon.jobs.export",
    "export_weights": "greffon.jobs.weights",
    "import_weights": "greffon.jobs.weights",
    "index": "greffon.jobs.index",
    "label": "greffon.jobs.label",
    "list_weights": "greffon.jobs.weights",
    "load_model": "greffon.model",
    "map_photos": "greffon.jobs.mapping",
    "outliers": "greffon.jobs.outliers",
    "predict": "greffon.jobs.predict",
    "pretrain": "greffon.jobs.pretrain",
    "probe": "greffon.jobs.probe",
    "save_model": "greffon.model",
    "search": "greffon.jobs.search",
    "serve": "greffon.server",
    "show_weights": "greffon.jobs.weights",
    "suggest": "greffon.jobs.suggest",
    "train": "greffon.jobs.train",
    "verify_weights": "greffon.jobs.weights",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: it waits until something that needs it is asked for.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'greffon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
