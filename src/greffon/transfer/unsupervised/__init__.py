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
]
