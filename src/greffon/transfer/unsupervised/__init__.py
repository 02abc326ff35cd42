"""Unsupervised transfer: the user's photos have no labels, or only those that are being asked for."""

from greffon.transfer.unsupervised.above import (
    LEAST_IMAGES,
    SELF_SUPERVISED,
    SelfSupervised,
    features_above,
    pretrain_above,
    ready_to_pretrain,
)
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
from greffon.transfer.unsupervised.measures import (
    alpha_req,
    found_again,
    neighbour_agreement,
    neighbour_shares,
    rank_me,
)
from greffon.transfer.unsupervised.methods import METHODS
from greffon.transfer.unsupervised.mixtures import Fitted, GaussianMixture, mixed_from, mixture_axes
from greffon.transfer.unsupervised.neighbours import (
    Duplicates,
    Neighbours,
    Outliers,
    SmallPictures,
    near_duplicates,
    nearest,
    outliers,
)
from greffon.transfer.unsupervised.representations import LOOKS, Look, Unlabelled, on_axes, unit_rows
from greffon.transfer.unsupervised.spectral import Spectral, neighbourhood
from greffon.transfer.unsupervised.splitting import parts_of
from greffon.transfer.unsupervised.suggesting import Given, Pool, Suggestion, greedy_cover, suggest_images

__all__ = [
    "INDEX_FILES",
    "KINDS",
    "LEAST_IMAGES",
    "LOOK",
    "LOOKS",
    "MAPS",
    "METHODS",
    "SELF_SUPERVISED",
    "ClusterMethod",
    "Clustering",
    "Count",
    "DensityClusters",
    "Duplicates",
    "EmbeddedPhotos",
    "Fitted",
    "FlatMap",
    "GaussianMixture",
    "Given",
    "Look",
    "Neighbours",
    "Opinion",
    "Origin",
    "Outliers",
    "Partition",
    "PhotoIndex",
    "Pool",
    "Searcher",
    "SelfSupervised",
    "SmallPictures",
    "Spectral",
    "SphericalKMeans",
    "Suggestion",
    "Unlabelled",
    "VectorIndex",
    "Ward",
    "agreement",
    "alpha_req",
    "build_index",
    "centres_of",
    "cluster_looks",
    "distinct",
    "embed_photos",
    "estimate_count",
    "features_above",
    "found_again",
    "gap_choice",
    "greedy_cover",
    "has_faiss",
    "has_umap",
    "is_index_folder",
    "joined",
    "lay_flat",
    "load_index",
    "margin",
    "mixed_from",
    "mixture_axes",
    "near_duplicates",
    "nearest",
    "neighbour_agreement",
    "neighbour_shares",
    "neighbourhood",
    "numbered",
    "on_axes",
    "outliers",
    "parts_of",
    "photo_index",
    "prediction_strength",
    "pretrain_above",
    "rank_me",
    "ready_to_pretrain",
    "save_index",
    "searcher",
    "silhouette",
    "suggest_images",
    "unit_features",
    "unit_rows",
    "votes_for",
]
