"""What a model remembers of its training photos: which are nearest to a new one, and whether it is like any of them at all."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.errors import ModelError, OptionError
from greffon.heads import NORMS, Normaliser
from greffon.novelty import directions, nearest_directions, novelty_limit
from greffon.server.problems import Problem
from greffon.server.reading import typed

__all__ = ["EXAMPLES", "MOST_EXAMPLES_BYTES", "Remembered", "read_remembered"]

#: The file beside the graph, and how large it may be.
EXAMPLES, MOST_EXAMPLES_BYTES = "examples.safetensors", 2**30
#: Of its tensors: type and number of sides.
_KINDS = {"features": (np.float16, 2), "labels": (np.int64, 1), "mean": (np.float32, 1), "scale": (np.float32, 1),
          "sizes": (np.int64, 1), "thumbnails": (np.uint8, 1)}  # fmt: skip
_LARGEST_THUMBNAIL, _LONGEST_NAME, _MOST_NEIGHBOURS = 2**17, 4096, 1000


@final
@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """n training photos in the space that the head reads.

    Parameters
    ----------
    normaliser
        From features as the graph gives them to that space.
    known
        The ``directions`` of the photos' features, float64 (n, d).
    labels
        int64 (n,).
    names, thumbnails
        As the model has them: empty where it has none.
    scores
        Sorted, of photos that were held out, float64 (k,): see ``greffon.novelty``. None where the model cannot tell what is new.
    neighbours
        The number that these scores were made with.
    """

    normaliser: Normaliser
    known: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    thumbnails: tuple[bytes, ...]
    scores: np.ndarray | None
    neighbours: int

    def __len__(self) -> int:
        return len(self.labels)

    def nearest(self, features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Features as the graph gives them, (m, d), to positions and cosine distances, (m, k): see ``nearest_rows``."""
        return nearest_directions(self.normaliser.apply(features), self.known, k)

    @property
    def most_kept(self) -> float:
        """The largest share of known photos that there are scores enough for; 0 where there are none."""
        return 0.0 if self.scores is None else len(self.scores) / (len(self.scores) + 1)

    def limit(self, kept: float) -> float:
        """The novelty up to which a photo is known, for a client. Raises Problem."""
        assert self.scores is not None
        try:
            found = novelty_limit(self.scores, kept)
        except OptionError as error:
            raise Problem("wrong-parameter", f"abstain: {error.what}") from error
        if math.isinf(found):
            most = f"{len(self.scores)} photos were held out for this model, enough for {self.most_kept:.3f} at most"
            raise Problem("wrong-parameter", f"abstain: {most}, got {kept:g}")
        return found

    def picture(self, number: int) -> str | None:
        """A thumbnail as a data: address, or None."""
        content = self.thumbnails[number]
        return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}" if content else None


def read_remembered(content: bytes, about: dict[str, Any], file: Path, classes: int) -> Remembered:
    """The examples of an export, every byte doubted.

    Parameters
    ----------
    content
        Of ``EXAMPLES``, whose sum is the one that was told.
    about
        All of ``export.json``, which is ``file``.
    classes
        How many the model has.

    Raises
    ------
    ModelError
        With the file and the fault.
    """
    told = typed(about, "examples", dict, file)
    arrays, place = _arrays(content, file.with_name(EXAMPLES)), file.with_name(EXAMPLES)
    n, width, norm = typed(told, "images", int, file), typed(told, "width", int, file), typed(told, "norm", str, file)
    if norm not in NORMS:
        raise ModelError(f"{file}: examples: norm must be one of {', '.join(NORMS)}, got {norm[:40]!r}")
    shapes = {name: array.shape for name, array in arrays.items() if name != "thumbnails"}
    wanted = {"features": (n, width), "labels": (n,), "mean": (width,), "scale": (width,), "sizes": (n,)}
    if n < 1 or width < 1 or shapes != wanted:
        raise ModelError(f"{place}: must hold {wanted}, got {shapes}")
    if not all(np.isfinite(arrays[name]).all() for name in ("features", "mean", "scale")):
        raise ModelError(f"{place}: holds numbers that are not finite")
    labels = arrays["labels"]
    if labels.min() < 0 or labels.max() >= classes:
        raise ModelError(f"{place}: labels must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    scores, neighbours = _novelty(about, file)
    return Remembered(Normaliser(norm, arrays["mean"], arrays["scale"]), directions(arrays["features"].astype(np.float32)), labels,
                      _names(told.get("names"), n, file), _thumbnails(arrays["sizes"], arrays["thumbnails"], place),
                      scores, neighbours)  # fmt: skip


def _arrays(content: bytes, place: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ModelError(f"{place}: not a safetensors file, or damaged ({str(error)[:160]})") from error
    kinds = {name: (array.dtype.type, array.ndim) for name, array in arrays.items()}
    if kinds != _KINDS:
        raise ModelError(f"{place}: must hold {', '.join(_KINDS)} of their types, got {str(kinds)[:300]}")
    return arrays


def _novelty(about: dict[str, Any], file: Path) -> tuple[np.ndarray | None, int]:
    if about.get("novelty") is None:
        return None, 1
    told = typed(about, "novelty", dict, file)
    neighbours, scores = typed(told, "neighbours", int, file), typed(told, "scores", list, file)
    right = all(type(one) in (int, float) and 0 <= one <= 2 for one in scores) and scores == sorted(scores)
    if not right or not scores or not 1 <= neighbours <= _MOST_NEIGHBOURS:
        raise ModelError(f"{file}: novelty must have neighbours from 1 on, and scores from 0 to 2 in their order")
    return np.array(scores, np.float64), neighbours


def _names(told: Any, n: int, file: Path) -> tuple[str, ...]:
    if told is None:
        return ("",) * n
    if not isinstance(told, list) or len(told) != n or not all(isinstance(one, str) and len(one) <= _LONGEST_NAME for one in told):
        raise ModelError(f"{file}: examples: names must be {n} texts")
    return tuple(told)


def _thumbnails(sizes: np.ndarray, content: np.ndarray, place: Path) -> tuple[bytes, ...]:
    """Each as its own bytes; browsers decode them, as they do any photo of the internet's."""
    if sizes.min() < 0 or sizes.max() > _LARGEST_THUMBNAIL or int(sizes.sum()) != len(content):
        raise ModelError(f"{place}: the sizes of the thumbnails do not add up to their {len(content):,} bytes, or one is too large")
    ends = np.cumsum(sizes).tolist()
    found = tuple(content[end - size : end].tobytes() for end, size in zip(ends, sizes.tolist(), strict=True))
    if not all(not one or one.startswith(b"\xff\xd8\xff") for one in found):
        raise ModelError(f"{place}: a thumbnail is not a JPEG")
    return found
