"""The scikit-learn face: ``ImageFeatures`` and ``TransferClassifier``, over file paths or image arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from greffon.activations import (
    Activations,
    Engine,
    Photo,
    QuantisedEngine,
    QuantisedGraph,
    Store,
    Tap,
    chosen_engine,
    compute,
    make_engine,
)
from greffon.backbones import Backbone
from greffon.errors import ImageError, OptionError
from greffon.heads import HEADS, Representation
from greffon.model import Model, load_any_backbone
from greffon.progress import Silent
from greffon.transfer.inductive import fit_probe, representations

__all__ = ["ImageFeatures", "TransferClassifier"]


@final
class ImageFeatures(TransformerMixin, BaseEstimator):
    """Images to the pooled features of a pretrained network.

    Parameters
    ----------
    backbone : str
        A network of the catalogue, or a model folder.
    stages : {"last", "all"}
    pool : {"mean", "max", "mean+max", "flatten"}
    size : int
        Pixels that the network sees; 0 is what it was trained with.
    precision : {"auto", "int8", "bfloat16", "float32"}
        What the network runs in. ``"auto"`` and ``"int8"`` are settled by ``fit``, on its images.
    use_store : bool
        Whether features of files are kept on disk and found again. Arrays are not kept.
    weights : path or None
        A weight file to take instead of looking for one, as ``greffon.import_weights`` reads them.

    Attributes
    ----------
    n_features_out_ : int
        How many features an image has.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.linear_model import LogisticRegression
    >>> model = make_pipeline(ImageFeatures("vgg16"), LogisticRegression())
    """

    def __init__(
        self,
        backbone: str = "vgg16",
        *,
        stages: str = "last",
        pool: str = "mean",
        size: int = 0,
        precision: str = "auto",
        use_store: bool = True,
        weights: str | Path | None = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.stages = stages
        self.pool = pool
        self.size = size
        self.precision = precision
        self.use_store = use_store

    def fit(self, X: Sequence[Photo | str] | np.ndarray, y: object = None) -> ImageFeatures:
        """Load the network, and choose its precision on ``X``; nothing else is learned from it.

        Parameters
        ----------
        X
            n paths, or n arrays uint8 (h, w, 3) RGB, or one array (n, h, w, 3).
        y
            Ignored.
        """
        photos = _photos("ImageFeatures", X)
        self._representation = Representation(self.stages, self.pool, "standard")  # type: ignore[arg-type]  # it checks
        # As they were when it was fitted: ``set_params`` tells of the next ``fit``, not of this one.
        self._network = load_any_backbone(self.backbone, weights=_file(self.weights), size=self.size)
        self._engine, _ = chosen_engine(self._network, _tap(self.pool), self.precision, photos, Silent())
        self._source = (self.backbone, self.weights, self.size, self._engine.precision)
        self._graph: QuantisedGraph | None = self._engine.graph if isinstance(self._engine, QuantisedEngine) else None
        empty = np.zeros((1, *self._engine.record[0]), self._engine.record[1])
        self.n_features_out_ = self._representation.take(empty, self._network.widths()).shape[1]
        return self

    def _load(self) -> None:
        backbone, weights, size, precision = self._source
        self._network = load_any_backbone(backbone, weights=_file(weights), size=size)
        if self._graph is not None:
            self._engine = QuantisedEngine(self._network, self._graph)
        else:
            self._engine = make_engine(self._network, _tap(self._representation.pool), precision)

    def transform(self, X: Sequence[Photo | str] | np.ndarray) -> np.ndarray:
        """n images to float32 (n, d). Raises ImageError for the first that cannot be read."""
        check_is_fitted(self)
        photos = _photos("ImageFeatures", X)
        found = _run(self._network, _tap(self._representation.pool), self._engine, photos, self.use_store)
        _all_readable(photos, found)
        return self._representation.take(found.all(), self._network.widths())

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """One name a feature."""
        check_is_fitted(self)
        return np.array([f"{self._source[0]}_{i}" for i in range(self.n_features_out_)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_out_")

    def __getstate__(self) -> dict[str, Any]:
        # Copies that go to other processes carry the choice of the network, not half a gigabyte of it.
        state: dict[str, Any] = {**super().__getstate__()}  # type: ignore[dict-item]  # typed as object's
        for name in ("_network", "_engine"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "n_features_out_" in state:
            self._load()

    def __sklearn_tags__(self) -> Tags:
        return _of_images(super().__sklearn_tags__())


@final
class TransferClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of images: a pretrained network's features, and a head whose strength cross-validation chooses.

    Parameters
    ----------
    backbone : str
        A network of the catalogue, or a model folder.
    head : {"logistic", "svm", "ridge", "centroid", "knn"}
    pool, stages, norm : str
        Of the features; what is "auto" is chosen by cross-validation on the images given to ``fit``.
    strength : float or None
        C of logistic and svm, alpha of ridge, k of knn; None: chosen.
    class_weights : {"auto", "balanced", "none"}
    size : int
    precision : {"auto", "int8", "bfloat16", "float32"}
    seed : int
    use_store : bool
        Whether features of files are kept on disk and found again. Arrays are not kept.
    weights : path or None
        A weight file to take instead of looking for one, as ``greffon.import_weights`` reads them.

    Attributes
    ----------
    classes_ : ndarray (c,)
        The classes, sorted.
    model_ : greffon.Model
        What was fitted; ``greffon.save_model`` writes it.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> scores = cross_val_score(TransferClassifier("vgg16"), paths, labels, cv=5)   # doctest: +SKIP
    """

    def __init__(
        self,
        backbone: str = "vgg16",
        *,
        head: str = "logistic",
        pool: str = "auto",
        stages: str = "auto",
        norm: str = "auto",
        strength: float | None = None,
        class_weights: str = "auto",
        size: int = 0,
        precision: str = "auto",
        seed: int = 0,
        use_store: bool = True,
        weights: str | Path | None = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.head = head
        self.pool = pool
        self.stages = stages
        self.norm = norm
        self.strength = strength
        self.class_weights = class_weights
        self.size = size
        self.precision = precision
        self.seed = seed
        self.use_store = use_store

    def fit(self, X: Sequence[Photo | str] | np.ndarray, y: Sequence[object] | np.ndarray) -> TransferClassifier:
        """Learn from n images (see ``ImageFeatures.fit``) and their n labels, of any type that sorts.

        Raises
        ------
        ImageError
            The first image that cannot be read.
        OptionError
            A parameter, or labels that do not go with the images.
        """
        photos = _photos("TransferClassifier", X)
        labels = np.asarray(y)
        if labels.shape != (len(photos),):
            raise OptionError(f"The labels given to TransferClassifier must be of shape ({len(photos)},), got {labels.shape}")
        if self.head not in HEADS:
            raise OptionError(f"The 'head' parameter of TransferClassifier must be one of {', '.join(HEADS)}, got {self.head!r}")
        if self.class_weights not in ("auto", "balanced", "none"):
            got = repr(self.class_weights)
            raise OptionError(f"The 'class_weights' parameter of TransferClassifier must be auto, balanced or none, got {got}")
        classes, numbers = _classes(labels)
        network = load_any_backbone(self.backbone, weights=_file(self.weights), size=self.size)
        tap = _tap(self.pool)
        engine, plan = chosen_engine(network, tap, self.precision, photos, Silent(), labels=numbers)
        found = _run(network, tap, engine, photos, self.use_store)
        _all_readable(photos, found)
        probe = fit_probe(
            found.all(),
            network.widths(),
            numbers,
            len(classes),
            groups=_same(found.digests),
            head=self.head,
            representations=representations(self.pool, self.stages, self.norm),
            strength=self.strength,
            balanced=None if self.class_weights == "auto" else self.class_weights == "balanced",
            seed=self.seed,
            progress=Silent(),
        )
        self.classes_ = classes
        self.model_ = Model(
            backbone=network,
            cut="none",
            classes=tuple(str(name) for name in classes),
            representation=probe.representation,
            normaliser=probe.normaliser,
            head=probe.head,
            precision=engine.precision,
            training={"strategy": "feature extraction", "head": self.head, "strength": probe.strength, "seed": self.seed,
                      "balanced": probe.balanced, "plan": plan.to_dict()},
            figures={},
            data={"images": len(photos)},
            quantised=engine.graph if isinstance(engine, QuantisedEngine) else None,
        )  # fmt: skip
        return self

    def predict_proba(self, X: Sequence[Photo | str] | np.ndarray) -> np.ndarray:
        """n images to float64 (n, c), in the order of ``classes_``. Raises ImageError for the first that cannot be read."""
        check_is_fitted(self, "model_")
        photos = _photos("TransferClassifier", X)
        store = Store() if self.use_store and _are_files(photos) else None
        told = self.model_.predict(photos, store=store)
        for i, reason in sorted(told.failed.items()):
            raise ImageError(f"image {i} ({photos[i] if isinstance(photos[i], Path) else 'an array'}): {reason}")
        return told.probabilities

    def predict(self, X: Sequence[Photo | str] | np.ndarray) -> np.ndarray:
        """n images to n labels, of the type that ``fit`` was given."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def __sklearn_tags__(self) -> Tags:
        return _of_images(super().__sklearn_tags__())


def _of_images(tags: Tags) -> Tags:
    """What scikit-learn's own checks should know: X is a list of paths or of arrays, not a table of numbers."""
    tags.input_tags.two_d_array = False
    tags.input_tags.string = True
    tags.no_validation = True
    return tags


def _classes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different labels, sorted, (c,), and the number of each image's, int64 (n,). Raises OptionError."""
    try:
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise ValueError("some are not finite")
        check_classification_targets(labels)
        classes, numbers = np.unique(labels, return_inverse=True)
    except (TypeError, ValueError) as error:
        raise OptionError(f"The labels given to TransferClassifier must be names or whole numbers of one type ({error})") from error
    return classes, numbers.astype(np.int64)


def _tap(pool: str) -> Tap:
    return Tap("map", "none") if pool == "flatten" else Tap("pooled")


def _photos(who: str, X: Sequence[Photo | str] | np.ndarray) -> list[Photo]:
    """Paths as Path, arrays as uint8 (h, w, 3). Raises OptionError."""
    if isinstance(X, (str, Path)):
        raise OptionError(f"The images given to {who} must be a list of paths or of arrays, got one path; for a folder use greffon.train")
    if not isinstance(X, Iterable):
        raise OptionError(f"The images given to {who} must be a list of paths or of arrays, got {type(X).__name__}")
    photos: list[Photo] = []
    for i, photo in enumerate(X):
        if isinstance(photo, (str, Path)):  # NumPy's strings are strings too
            photos.append(Path(photo))
        elif isinstance(photo, np.ndarray) and photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3 and photo.size:
            photos.append(photo)
        else:
            got = f"{photo.dtype} {photo.shape}" if isinstance(photo, np.ndarray) else type(photo).__name__
            raise OptionError(f"The images given to {who} must be paths or uint8 arrays (h, w, 3) in RGB, got {got} at {i}")
    if not photos:
        raise OptionError(f"The images given to {who} must be at least one, got none")
    return photos


def _are_files(photos: Sequence[Photo]) -> bool:
    return all(isinstance(photo, Path) for photo in photos)


def _run(network: Backbone, tap: Tap, engine: Engine, photos: Sequence[Photo], use_store: bool) -> Activations:
    store = Store() if use_store and _are_files(photos) else None
    return compute(photos, network, tap, engine, store=store, progress=Silent())


def _all_readable(photos: Sequence[Photo], found: Activations) -> None:
    for i, reason in sorted(found.failed.items()):
        raise ImageError(f"image {i} ({photos[i] if isinstance(photos[i], Path) else 'an array'}): {reason}")


def _same(digests: Sequence[str]) -> np.ndarray:
    """Images with the same content, as groups: one number a content."""
    return np.unique(np.array(digests, dtype=object).astype(str), return_inverse=True)[1]


def _file(weights: str | Path | None) -> Path | None:
    return None if weights is None else Path(weights)
