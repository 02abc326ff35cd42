"""Faster never means different in silence: a cheaper precision is compared with float32 before it is used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from greffon.activations.engines import Fidelity, Tap, TorchEngine, fidelity, make_engine
from greffon.activations.executing import Photo, pixels_of
from greffon.backbones import Backbone
from greffon.errors import ImageError
from greffon.progress import Progress

__all__ = ["chosen_engine"]


def chosen_engine(
    network: Backbone,
    tap: Tap,
    precision: str,
    photos: Sequence[Photo],
    progress: Progress,
    *,
    least: float = 0.999,
    sample: int = 8,
) -> tuple[TorchEngine, Fidelity | None]:
    """The engine for a pass: the cheapest one, unless it strays too far from float32 on a sample of these images.

    Parameters
    ----------
    photos
        The images of the pass; ``sample`` of them, drawn with a fixed seed, are run both ways.
    least
        With ``precision="auto"``: below this mean cosine of the features, float32 is used, and that is said.
    """
    engine = make_engine(network, tap, precision)
    if engine.precision == "float32":
        return engine, None
    images = []
    for i in np.random.default_rng(0).permutation(len(photos)):
        try:
            images.append(pixels_of(photos[i], network.preprocess))
        except ImageError:
            continue
        if len(images) == sample:
            break
    if not images:
        return engine, None
    found = fidelity(network, engine, np.stack(images))
    cosines = f"cosine {found.cosine_mean:.5f}, lowest {found.cosine_lowest:.5f}"
    text = f"{found.precision} against float32 on {found.images} of these images: {cosines}"
    if precision == "auto" and found.cosine_mean < least:
        progress.warn(f"{text}: below {least}, so float32 is used")
        return make_engine(network, tap, "float32"), found
    progress.say(text)
    return engine, found
