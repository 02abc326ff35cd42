"""The clusterings by name."""

from __future__ import annotations

from collections.abc import Mapping

from greffon.transfer.unsupervised.clustering import (
    ClusterMethod,
    DensityClusters,
    GaussianMixture,
    SphericalKMeans,
    Ward,
)
from greffon.transfer.unsupervised.spectral import Spectral

__all__ = ["METHODS", "VOTERS"]

#: Every clustering. Each is one that a user may ask for.
METHODS: Mapping[str, ClusterMethod] = {
    "kmeans": SphericalKMeans(),
    "mixture": GaussianMixture(),
    "ward": Ward(),
    "hdbscan": DensityClusters(),
    "spectral": Spectral(),
}

#: The ones that ``auto`` asks.
VOTERS = ("kmeans", "mixture", "spectral")
