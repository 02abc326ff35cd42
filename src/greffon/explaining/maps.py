"""``heat_maps``: a model and photos to maps of what speaks for a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch

from greffon.activations import Photo, pixels_of
from greffon.errors import ImageError, OptionError
from greffon.explaining.methods import Method, chosen_method
from greffon.explaining.network import Network
from greffon.model import Model
from greffon.progress import Progress, Silent

__all__ = ["HeatMaps", "heat_maps"]

#: Photos that are worked on at once.
_BLOCK = 8


@final
@dataclass(frozen=True, slots=True, eq=False)
class HeatMaps:
    """Maps of n photos, in the coordinates of what the network saw of each: ``Preprocess.seen_box`` tells where that lies.

    Rows of photos that could not be read are NaN, zero in ``pictures``, -1 in ``targets``.

    Parameters
    ----------
    maps
        float32 (n, height, width): what ``method.unit`` says. Above zero speaks for the class.
    pictures
        uint8 (n, height, width, 3): what the network saw.
    targets
        int64 (n,): the class that each map is of.
    scores, probabilities
        float64 (n, c), in float32's precision.
    features
        float32 (n, d), as the head sees them.
    gaps
        float64 (n,): the mean or sum of a map, less what it should be; NaN where ``method.adds_up`` says nothing.
    failed
        Position to reason.
    """

    method: Method
    maps: np.ndarray
    pictures: np.ndarray
    targets: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray
    gaps: np.ndarray
    failed: dict[int, str]


def heat_maps(
    model: Model,
    photos: Sequence[Photo | str],
    classes: Sequence[int] | int | None = None,
    method: str = "auto",
    *,
    progress: Progress | None = None,
) -> HeatMaps:
    """Tell for each photo which of its places speak for a class. The model is run in float32, whatever it was trained in.

    Parameters
    ----------
    photos
        Paths, or arrays uint8 (h, w, 3). One that cannot be read is named, and the others are explained.
    classes
        The number of the class of each photo, or of all; by default the most probable one.
    method
        The name of one of ``METHODS``, or ``"auto"``: the class activation map where it is exact, else Grad-CAM, else occlusion.

    Raises
    ------
    OptionError
        The method cannot explain this model, or there is no such class.
    """
    listener = progress or Silent()
    way = chosen_method(method, model)
    asked = _asked(classes, len(photos), len(model.classes))
    network = Network(model)
    pre = model.backbone.preprocess
    n, c = len(photos), len(model.classes)
    found = HeatMaps(
        way,
        maps=np.full((n, pre.height, pre.width), np.nan, np.float32),
        pictures=np.zeros((n, pre.height, pre.width, 3), np.uint8),
        targets=np.full(n, -1, np.int64),
        scores=np.full((n, c), np.nan),
        probabilities=np.full((n, c), np.nan),
        features=np.full((n, len(model.normaliser.mean)), np.nan, np.float32),
        gaps=np.full(n, np.nan),
        failed={},
    )
    listener.begin(f"explaining by {way.title}", n)
    try:
        for start in range(0, n, _BLOCK):
            rows = []
            for i in range(start, min(n, start + _BLOCK)):
                try:
                    one = photos[i]
                    found.pictures[i] = pixels_of(Path(one) if isinstance(one, str) else one, pre)
                    rows.append(i)
                except ImageError as error:
                    found.failed[i] = error.what
            if rows:
                _explain(network, found, np.array(rows), asked)
            listener.advance(min(n, start + _BLOCK) - start)
    finally:
        listener.end()
    return found


def _asked(classes: Sequence[int] | int | None, photos: int, count: int) -> np.ndarray | None:
    if classes is None:
        return None
    numbers = np.broadcast_to(np.asarray(classes), (photos,)) if np.ndim(classes) == 0 else np.asarray(classes)
    if numbers.shape != (photos,) or (photos and numbers.dtype.kind not in "iu"):
        raise OptionError(f"heat_maps: classes must be a number, or one for each of {photos} photos, got {numbers.dtype} {numbers.shape}")
    if photos and (numbers.min() < 0 or numbers.max() >= count):
        raise OptionError(f"heat_maps: classes must be from 0 to {count - 1}, got {numbers.min()} to {numbers.max()}")
    return numbers


def _explain(network: Network, found: HeatMaps, rows: np.ndarray, asked: np.ndarray | None) -> None:
    """Fill some rows."""
    x = network.pixels(found.pictures[rows])
    found.scores[rows], found.probabilities[rows], found.features[rows] = network.told(x)
    targets = found.probabilities[rows].argmax(1) if asked is None else asked[rows]
    found.targets[rows] = targets
    maps = found.method.compute(network, x, torch.from_numpy(targets.astype(np.int64)).to(x.device)).detach().cpu().numpy()
    found.maps[rows] = maps
    own = found.scores[rows, targets]
    if found.method.adds_up == "mean":
        found.gaps[rows] = maps.mean((1, 2), dtype=np.float64) - own
    elif found.method.adds_up == "sum":
        empty = network.scores_without_slopes(torch.zeros_like(x[:1]))[0].double().cpu().numpy()
        found.gaps[rows] = maps.sum((1, 2), dtype=np.float64) - (own - empty[targets])
