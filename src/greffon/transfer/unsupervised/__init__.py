"""Unsupervised transfer: the user's photos have no labels, or only those that are being asked for."""

from greffon.transfer.unsupervised.embedding import LOOK, EmbeddedPhotos, embed_photos, unit_features
from greffon.transfer.unsupervised.index_folder import (
    INDEX_FILES,
    Origin,
    PhotoIndex,
    is_index_folder,
    load_index,
    photo_index,
    save_index,
)
from greffon.transfer.unsupervised.indexes import KINDS, Searcher, VectorIndex, build_index, has_faiss, searcher
from greffon.transfer.unsupervised.maps import MAPS, FlatMap, has_umap, lay_flat
from greffon.transfer.unsupervised.neighbours import (
    Duplicates,
    Neighbours,
    Outliers,
    SmallPictures,
    near_duplicates,
    nearest,
    outliers,
)
from greffon.transfer.unsupervised.suggesting import Given, Pool, Suggestion, greedy_cover, suggest_images

__all__ = [
    "INDEX_FILES",
    "KINDS",
    "LOOK",
    "MAPS",
    "Duplicates",
    "EmbeddedPhotos",
    "FlatMap",
    "Given",
    "Neighbours",
    "Origin",
    "Outliers",
    "PhotoIndex",
    "Pool",
    "Searcher",
    "SmallPictures",
    "Suggestion",
    "VectorIndex",
    "build_index",
    "embed_photos",
    "greedy_cover",
    "has_faiss",
    "has_umap",
    "is_index_folder",
    "lay_flat",
    "load_index",
    "near_duplicates",
    "nearest",
    "outliers",
    "photo_index",
    "save_index",
    "searcher",
    "suggest_images",
    "unit_features",
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
