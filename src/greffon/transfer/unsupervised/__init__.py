"""Unsupervised transfer: the user's data has no labels anywhere."""

from greffon.transfer.unsupervised.choosing import Clustering, Opinion, cluster_looks
from greffon.transfer.unsupervised.clustering import (
    ClusterMethod,
    DensityClusters,
    Partition,
    SphericalKMeans,
    Ward,
    centres_of,
    distinct,
    margin,
    numbered,
)
from greffon.transfer.unsupervised.consensus import agreement, joined, votes_for
from greffon.transfer.unsupervised.counting import Count, estimate_count, gap_choice, prediction_strength, silhouette
from greffon.transfer.unsupervised.methods import METHODS
from greffon.transfer.unsupervised.mixtures import Fitted, GaussianMixture, mixed_from, mixture_axes
from greffon.transfer.unsupervised.representations import LOOKS, Look, Unlabelled, on_axes, unit_rows
from greffon.transfer.unsupervised.spectral import Spectral, neighbourhood
from greffon.transfer.unsupervised.splitting import parts_of

__all__ = [
    "LOOKS",
    "METHODS",
    "ClusterMethod",
    "Clustering",
    "Count",
    "DensityClusters",
    "Fitted",
    "GaussianMixture",
    "Look",
    "Opinion",
    "Partition",
    "Spectral",
    "SphericalKMeans",
    "Unlabelled",
    "Ward",
    "agreement",
    "centres_of",
    "cluster_looks",
    "distinct",
    "estimate_count",
    "gap_choice",
    "joined",
    "margin",
    "mixed_from",
    "mixture_axes",
    "neighbourhood",
    "numbered",
    "on_axes",
    "parts_of",
    "prediction_strength",
    "silhouette",
    "unit_rows",
    "votes_for",
]
