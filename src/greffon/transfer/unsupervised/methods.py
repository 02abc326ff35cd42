"""The clusterings by name."""

from __future__ import annotations

from collections.abc import Mapping

from greffon.transfer.unsupervised.clustering import (
    ClusterMethod,
    DensityClusters,
    SphericalKMeans,
    Ward,
)
from greffon.transfer.unsupervised.mixtures import GaussianMixture
from greffon.transfer.unsupervised.spectral import Spectral

__all__ = ["METHODS"]

#: Every clustering. Each is one that a user may ask for.
METHODS: Mapping[str, ClusterMethod] = {
    "kmeans": SphericalKMeans(),
    "mixture": GaussianMixture(),
    "ward": Ward(),
    "hdbscan": DensityClusters(),
    "spectral": Spectral(),
}
