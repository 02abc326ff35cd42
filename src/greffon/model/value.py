"""``Model``: a backbone, a cut and a head, with all that is needed to predict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from greffon.activations import (
    Engine,
    Executor,
    Photo,
    QuantisedEngine,
    QuantisedGraph,
    Store,
    Tap,
    compute_views,
    computes_bfloat16,
    has_openvino,
    make_engine,
)
from greffon.backbones import Backbone
from greffon.conformal import prediction_sets, score_limit
from greffon.errors import ModelError, OptionError
from greffon.heads import Head, Normaliser, Representation
from greffon.images import test_time_views
from greffon.model.examples import Examples
from greffon.model.upper import feature_widths, tap_of, upper_pooled
from greffon.novelty import novelty_limit, novelty_scores
from greffon.progress import Progress, Silent

__all__ = ["Model", "Prediction"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a model says of n images.

    Parameters
    ----------
    probabilities
        float64 (n, c); rows of images that could not be read are NaN.
    failed
        Position → reason.
    precision
        In which the frozen part has run.
    novelty
        float64 (n,): how unlike each is to what was learned from; see ``greffon.novelty``. NaN of images that could not be read.
        None where it was not asked for.
    features
        float32 (n, d): what the head was given, where that was asked for; rows of images that could not be read are 0.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    failed: dict[int, str]
    precision: str = ""
    novelty: np.ndarray | None = None
    features: np.ndarray | None = None


@final
@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """All that is needed to predict, and how it came to be.

    Parameters
    ----------
    backbone
        The network, its preprocessing included.
    cut
        The first stage that was trained, with those above it; ``"none"``: the cut stands above the last stage.
    classes
        In the order of the probabilities.
    representation, normaliser, head
        From the backbone's output to scores.
    precision
        Of the frozen part when the head was fitted; predicting uses the same.
    keep
        In which numbers activations at the cut were kept (see ``activations.make_engine``); predicting rounds likewise.
    training
        The configuration, as JSON values: with the same data it repeats the run.
    figures
        Of the test split, as JSON values.
    data
        What it was trained on, as JSON values: fingerprint and counts.
    quantised
        The frozen part in int8, where the head was trained on that.
    conformal
        Sorted scores of images that were held out, float64 (k,), which give sets of classes their size: see ``conformal_scores``.
        None where none were held out.
    examples
        Photos that the head has learned from, or None; see ``Examples``.
    novelty
        Sorted scores of images that were held out, float64 (k,), by which a new one counts as known; see ``greffon.novelty``. None where
        there are no examples, or none were held out.
    """

    backbone: Backbone
    cut: str
    classes: tuple[str, ...]
    representation: Representation
    normaliser: Normaliser
    head: Head
    precision: str
    training: Mapping[str, Any]
    figures: Mapping[str, Any]
    data: Mapping[str, Any]
    keep: str = ""
    quantised: QuantisedGraph | None = None
    conformal: np.ndarray | None = None
    examples: Examples | None = None
    novelty: np.ndarray | None = None

    @property
    def tap(self) -> Tap:
        """What the frozen part gives."""
        return tap_of(self.cut, self.representation)

    def features(self, records: np.ndarray) -> np.ndarray:
        """Records of the frozen part, (n, ...), to float32 (n, d): as the head sees them."""
        pooled = records if self.cut == "none" else upper_pooled(self.backbone, self.cut, records)
        return self.normaliser.apply(self.representation.take(pooled, feature_widths(self.backbone, self.cut)))

    def probabilities(self, records: np.ndarray) -> np.ndarray:
        """Records of the frozen part, (n, ...), to float64 (n, c)."""
        return self.head.probabilities(self.features(records))

    def sets(self, probabilities: np.ndarray, coverage: float) -> np.ndarray:
        """bool (n, c): sets of classes that hold the true one as often as asked for; see ``prediction_sets``.

        Raises
        ------
        OptionError
            A coverage that cannot be.
        ModelError
            No images were held out when the model was made, or too few for this coverage.
        """
        if self.conformal is None:
            raise ModelError("the model does not know how large sets must be: it was made before greffon could, or without images held out",
                             hint="Train it anew.")  # fmt: skip
        limit = score_limit(self.conformal, coverage)
        if math.isinf(limit):
            raise ModelError(f"{len(self.conformal)} images were held out when the model was made, too few for sets with a coverage of"
                             f" {coverage:g}", hint=f"The most is {len(self.conformal) / (len(self.conformal) + 1):.3f}.")  # fmt: skip
        return prediction_sets(probabilities, limit)

    def known_up_to(self, kept: float) -> float:
        """The novelty up to which an image counts as known, where so large a share of known ones shall be answered.

        Raises
        ------
        OptionError
            A share that cannot be.
        ModelError
            The model does not remember what it has learned from, or too few images were held out for this share.
        """
        if self.examples is None or self.novelty is None or not len(self.novelty):
            raise ModelError("the model cannot tell what it does not know: it was made before greffon could, or without examples",
                             hint="Train it anew, without --examples 0.")  # fmt: skip
        limit = novelty_limit(self.novelty, kept)
        if math.isinf(limit):
            raise ModelError(f"{len(self.novelty)} images were held out when the model was made, too few to keep {kept:g} of known ones",
                             hint=f"The most is {len(self.novelty) / (len(self.novelty) + 1):.3f}.")  # fmt: skip
        return limit

    def predict(
        self,
        photos: Sequence[Photo],
        *,
        store: Store | None = None,
        progress: Progress | None = None,
        precision: str = "",
        digests: Sequence[str] | None = None,
        executor: Executor | None = None,
        views: int = 1,
        novelty: bool = False,
        with_features: bool = False,
    ) -> Prediction:
        """Probabilities of every photo. One that cannot be read is named, and the others are predicted.

        Parameters
        ----------
        photos
            Paths, or arrays uint8 (h, w, 3).
        store
            Where activations are kept; by default nothing is.
        precision
            Of the frozen part, instead of that of the training; ``"exact"`` is another word for float32.
        digests
            The digests of the photos, where they are known.
        views
            Probabilities are the mean over so many views of each photo; see ``test_time_views``.
        novelty
            Whether to tell how unlike each photo is to what was learned from: its first view, which is the photo itself. Needs examples.
        with_features
            Whether the features of the plain view are given, too.

        Raises
        ------
        OptionError
            A precision that is not known, int8 for a model that was not trained in it, or a number of views.
        """
        looks = test_time_views(views)
        listener = progress or Silent()
        engine = self._engine(precision, listener)
        out = np.full((len(photos), len(self.classes)), np.nan)
        new = np.full(len(photos), np.nan) if novelty and self.examples is not None else None
        failed: dict[int, str] = {}
        kept: np.ndarray | None = None
        # A cluster's workers take seconds to begin, so each pass is to be a long one.
        block = max(engine.batch, _photos_at_once(engine, 4096 if executor is None else 2**15) // len(looks))
        for start in range(0, len(photos), block):
            some = photos[start : start + block]
            known = None if digests is None else digests[start : start + block]
            found = compute_views(some, self.backbone, self.tap, engine, looks, store=store, progress=listener, digests=known,
                                  executor=executor)  # fmt: skip
            bad = {i: reason for one in found for i, reason in one.failed.items()}
            good = [i for i in range(len(some)) if i not in bad]
            if good:
                rows = [start + i for i in good]
                features = [self.features(one.batch(good)) for one in found]
                out[rows] = np.mean([self.head.probabilities(one) for one in features], axis=0)
                if new is not None and self.examples is not None:
                    new[rows] = novelty_scores(features[0], self.examples.features)
                if with_features:
                    kept = np.zeros((len(photos), features[0].shape[1]), np.float32) if kept is None else kept
                    kept[rows] = features[0]
            failed |= {start + i: reason for i, reason in bad.items()}
        return Prediction(self.classes, out, failed, engine.precision, new, kept)

    def _engine(self, precision: str, progress: Progress) -> Engine:
        """The one that the head was trained on, or another that was asked for; float32 where it cannot run here."""
        chosen = {"": self.precision, "exact": "float32"}.get(precision, precision)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if chosen == "int8":
            if self.quantised is None:
                raise OptionError("precision int8: the model was not trained in it, and carries no quantised network",
                                  hint="Leave the precision out, or train with --precision int8.")  # fmt: skip
            if has_openvino():
                return QuantisedEngine(self.backbone, self.quantised, keep=self.keep)
            progress.warn("the model was trained in int8, which needs OpenVINO, and it is not installed: float32 is used"
                          ' (pip install "greffon[cpu]")')  # fmt: skip
            chosen = "float32"
        if chosen == "bfloat16" and not precision and not computes_bfloat16(device):
            progress.warn("the model was trained in bfloat16, which this processor does not compute in: float32 is used")
            chosen = "float32"
        return make_engine(self.backbone, self.tap, chosen, keep=self.keep)


def _photos_at_once(engine: Engine, most: int) -> int:
    """As many as have their activations in half a gigabyte: those at a low cut are large."""
    shape, dtype = engine.record
    return max(engine.batch, min(most, 2**29 // max(1, math.prod(shape) * np.dtype(dtype).itemsize)))
