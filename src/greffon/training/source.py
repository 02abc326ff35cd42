"""Where training takes its batches from: activations that were kept, or that are computed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, final

import numpy as np
import torch
from torch import Tensor

from greffon.activations import Activations, Engine, Photo, pixels_of, run_filled
from greffon.errors import OptionError
from greffon.images import Preprocess, View

__all__ = ["FirstViews", "RecomputedViews", "Source", "StoredViews", "as_tensor", "read_ahead"]


class Source(Protocol):
    """Activations at the cut of n images, each in ``views`` views, the first of which is the plain image."""

    @property
    def views(self) -> int:
        """How many views each image has."""
        ...

    def batch(self, positions: np.ndarray, views: np.ndarray) -> Tensor:
        """One view of each image: int64 (k,) and int64 (k,) to float32 (k, c, h, w), channels last, on any device."""
        ...


def read_ahead(source: Source, wanted: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]], ahead_by: int) -> Iterator[list[Tensor]]:
    """What each step asks for, in its order; while one is trained on, the next ``ahead_by`` are read."""

    def read(asked: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Tensor]:
        return [source.batch(*one) for one in asked]

    with ThreadPoolExecutor(ahead_by, "greffon-read") as pool:
        ahead = [pool.submit(read, one) for one in wanted[:ahead_by]]
        for number in range(len(wanted)):
            if number + ahead_by < len(wanted):
                ahead.append(pool.submit(read, wanted[number + ahead_by]))
            yield ahead.pop(0).result()


@final
class StoredViews:
    """Reads from the store, or from memory, what a pass has kept.

    Parameters
    ----------
    kept
        The activations of the same images, one for each view.
    preprocess
        Needed where what is kept are the images themselves, uint8 (h, w, 3): the cut stands below the first stage.

    The batches lie where the training runs, on the GPU if there is one: they go there as narrow as they are kept.
    """

    def __init__(self, kept: Sequence[Activations], preprocess: Preprocess) -> None:
        self._kept = tuple(kept)
        self._preprocess = preprocess
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.views = len(self._kept)

    def batch(self, positions: np.ndarray, views: np.ndarray) -> Tensor:
        out: np.ndarray | None = None
        for view in np.unique(views):
            mine = np.flatnonzero(views == view)
            records = self._kept[int(view)].batch(positions[mine])
            if out is None:
                if len(mine) == len(positions):
                    out = records
                    break
                out = np.empty((len(positions), *records.shape[1:]), records.dtype)
            out[mine] = records
        assert out is not None
        return as_tensor(out, self._preprocess, self._device)


@final
class FirstViews:
    """The first few views of another source.

    Raises OptionError where it does not have so many.
    """

    def __init__(self, source: Source, views: int) -> None:
        if not 1 <= views <= source.views:
            raise OptionError(f"FirstViews: views must be from 1 to {source.views}, got {views}")
        self.whole = source
        self.views = views

    def batch(self, positions: np.ndarray, views: np.ndarray) -> Tensor:
        return self.whole.batch(positions, views)


def as_tensor(records: np.ndarray, preprocess: Preprocess, device: torch.device | None = None) -> Tensor:
    """Records of the store to float32 (n, c, h, w), channels last: bfloat16 comes as ``uint16``, images as ``uint8``.

    On ``device``, or on the CPU.
    """
    if records.dtype == np.uint8:
        tensor = torch.from_numpy(preprocess.normalise(records))
    elif records.dtype == np.uint16:
        tensor = torch.from_numpy(np.ascontiguousarray(records).view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(np.require(records, requirements=["C", "W"]))
    # Transposed while they are narrow, then widened: half the traffic.
    return tensor.to(device or "cpu").contiguous(memory_format=torch.channels_last).float()


@final
class RecomputedViews:
    """Keeps nothing: decodes the images and runs the frozen part for every batch. Slow, and needs no disk.

    Parameters
    ----------
    photos, digests
        The images and the sha256 of their contents.
    preprocess
        Of the network.
    engine
        Runs the frozen part up to the cut.
    looks
        The views of each image.
    """

    def __init__(
        self, photos: Sequence[Photo], digests: Sequence[str], preprocess: Preprocess, engine: Engine, looks: Sequence[View]
    ) -> None:
        self._photos, self._digests = photos, digests
        self._preprocess, self._engine, self._looks = preprocess, engine, tuple(looks)
        self.views = len(self._looks)

    def batch(self, positions: np.ndarray, views: np.ndarray) -> Tensor:
        images = np.stack(
            [
                pixels_of(self._photos[int(i)], self._preprocess, digest=self._digests[int(i)], view=self._looks[int(v)])
                for i, v in zip(positions, views, strict=True)
            ]
        )
        return as_tensor(run_filled(self._engine, images), self._preprocess)
