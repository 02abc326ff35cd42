"""A training run as bytes: what another process needs to train the same, so that several can do it together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
import torch
from torch import Tensor

from greffon.activations import Activations, Key
from greffon.backbones import Backbone, Entry, blueprint
from greffon.errors import OptionError
from greffon.heads import Normaliser, Representation
from greffon.images import Preprocess
from greffon.progress import Progress
from greffon.training import EpochListener, FirstViews, Ranks, Recipe, Samples, Source, StoredViews, Trained, fit
from greffon.transfer.inductive.starting import Start, grown_on

__all__ = ["JoinedViews", "Launcher", "TrainingOrder"]


@final
class JoinedViews:
    """Sources of some images each as one source of all of them.

    Parameters
    ----------
    kept
        Which images, int64 (k,), and their activations, one for each view.
    views
        Of those that are trained on.
    images
        How many there are in all: positions are from 0 to that.
    """

    def __init__(
        self, kept: Sequence[tuple[np.ndarray, tuple[Activations, ...]]], views: int, images: int, preprocess: Preprocess
    ) -> None:
        self.kept = tuple(kept)
        self.views = views
        self.images = images
        self._which = np.zeros(images, np.int64)
        self._place = np.zeros(images, np.int64)
        self._sources = [StoredViews(found, preprocess) for _, found in kept]
        for number, (mine, _) in enumerate(kept):
            self._which[mine] = number
            self._place[mine] = np.arange(len(mine))

    def batch(self, positions: np.ndarray, views: np.ndarray) -> Tensor:
        which = self._which[positions]
        if (which == which[0]).all():
            return self._sources[which[0]].batch(self._place[positions], views)
        raise ValueError("a batch must be of training images alone, or of others alone")


@final
@dataclass(frozen=True, slots=True, eq=False)
class TrainingOrder:
    """All that ``training.fit`` is called with. In another process, ``source`` reads what this one has kept on the disk.

    Parameters
    ----------
    start
        Without its features, once it has travelled: the loop does not need them.
    """

    network: Backbone
    start: Start
    source: Source
    train: Samples
    val: Samples | None
    recipe: Recipe
    configuration: Mapping[str, Any] | None
    checkpoint: Path | None
    resume: bool

    def run(self, *, progress: Progress, ranks: Ranks, listener: EpochListener | None = None, resume: bool | None = None) -> Trained:
        """Train, together with the other ranks, which run the same order. Raises what ``fit`` does."""
        grown = grown_on(self.network, self.start, self.recipe)
        return fit(
            grown, self.source, self.train, self.val, self.recipe, progress=progress, configuration=self.configuration,
            checkpoint=self.checkpoint, resume=self.resume if resume is None else resume, listener=listener, ranks=ranks,
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        """A safetensors file. Raises OptionError where the activations are not kept on a disk."""
        from safetensors.torch import save

        entry, start = self.network.plan.entry, self.start
        views = self.source.views
        joined = _on_disk(self.source.whole if isinstance(self.source, FirstViews) else self.source)
        tensors = {f"network.{name}": tensor.contiguous() for name, tensor in self.network.tensors().items()}
        arrays = {"mean": start.normaliser.mean, "scale": start.normaliser.scale}
        for role, samples in (("train", self.train), ("val", self.val)):
            if samples is not None:
                arrays |= {f"{role}.positions": samples.positions, f"{role}.labels": samples.labels}
        parts = []
        for mine, found in joined.kept:
            arrays[f"part.{len(parts)}"] = mine
            parts.append({"digests": list(found[0].digests), "places": [_place(one) for one in found[:views]]})
        about = {
            "entry": {"name": entry.name, "architecture": entry.architecture, "preprocess": entry.preprocess.to_dict()},
            "weights": self.network.fingerprint,
            "cut": start.cut,
            "representation": {name: getattr(start.representation, name) for name in ("stages", "pool", "norm")},
            "classes": start.classes,
            "recipe": self.recipe.to_dict(),
            "configuration": None if self.configuration is None else dict(self.configuration),
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint.absolute()),
            "resume": self.resume,
            "views": views,
            "images": joined.images,
            "parts": parts,
        }
        tensors |= {f"array.{name}": torch.from_numpy(np.ascontiguousarray(array).copy()) for name, array in arrays.items()}
        return save(tensors, {"greffon": json.dumps(about)})

    @classmethod
    def from_bytes(cls, content: bytes) -> TrainingOrder:
        """The inverse of ``to_bytes``, where the same folders can be seen. Raises StoreError where they cannot."""
        from safetensors.torch import load

        length = int.from_bytes(content[:8], "little")
        about = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["greffon"])
        tensors = load(content)
        arrays = {name.removeprefix("array."): tensor.numpy() for name, tensor in tensors.items() if name.startswith("array.")}
        preprocess = Preprocess.from_dict(about["entry"]["preprocess"])
        entry = Entry(name=about["entry"]["name"], architecture=about["entry"]["architecture"], preprocess=preprocess, weights_of="",
                      licence="")  # fmt: skip
        network = Backbone(blueprint(entry), {name[8:]: tensor for name, tensor in tensors.items() if name.startswith("network.")})
        if network.fingerprint != about["weights"]:
            raise OptionError(f"the network of the training arrived with the fingerprint {network.fingerprint[:12]},"
                              f" and was sent with {about['weights'][:12]}")  # fmt: skip
        representation = Representation(**about["representation"])
        normaliser = Normaliser(representation.norm, arrays["mean"], arrays["scale"])
        start = Start(about["cut"], representation, normaliser, np.zeros((0, len(arrays["mean"])), np.float32), np.zeros(0, np.int64),
                      about["classes"])  # fmt: skip
        kept = [
            (arrays[f"part.{i}"], tuple(Activations.kept_at(Path(at), Key.from_json(key), part["digests"]) for at, key in part["places"]))
            for i, part in enumerate(about["parts"])
        ]
        train, val = (
            Samples(arrays[f"{role}.positions"], arrays[f"{role}.labels"]) if f"{role}.positions" in arrays else None
            for role in ("train", "val")
        )
        assert train is not None
        source = JoinedViews(kept, about["views"], about["images"], preprocess)
        checkpoint = None if about["checkpoint"] is None else Path(about["checkpoint"])
        recipe = Recipe.from_dict(about["recipe"])
        return cls(network, start, source, train, val, recipe, about["configuration"], checkpoint, about["resume"])


class Launcher(Protocol):
    """Has several processes run an order together."""

    def train(self, order: TrainingOrder, *, progress: Progress, listener: EpochListener | None) -> Trained:
        """What ``TrainingOrder.run`` gives.

        Raises
        ------
        OptionError
            The order cannot be given to others: its activations are not on a disk.
        GreffonError
            What ``fit`` raises; or the processes have lost each other, and the last checkpoint stays.
        """
        ...


def _on_disk(source: Source) -> JoinedViews:
    if not isinstance(source, JoinedViews):
        raise OptionError("several processes train from activations that are kept on a disk, and these are computed again for every batch",
                          hint="Give a larger --cache-budget.")  # fmt: skip
    return source


def _place(one: Activations) -> tuple[str, str]:
    place = one.place
    if place is None:
        raise OptionError("several processes train from activations that are kept on a disk, and these are in memory alone")
    return str(place[0].absolute()), place[1].to_json()
