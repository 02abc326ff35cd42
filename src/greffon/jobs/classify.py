"""``greffon classify``: what a network sees in a photo, by the classifier that it was trained with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from greffon.activations import pixels_of, steady_kernels
from greffon.backbones import Backbone, load_backbone
from greffon.datasets import find_images
from greffon.errors import BackboneError, ImageError, OptionError
from greffon.images import Preprocess
from greffon.progress import Progress, Silent

__all__ = ["ClassName", "Ranking", "class_names", "classify"]

_BATCH = 16


@final
@dataclass(frozen=True, slots=True)
class ClassName:
    """A class of ImageNet: a word for it, no other class's; WordNet's number; all words for it, and what they mean."""

    label: str
    wnid: str
    words: str
    meaning: str


@final
@dataclass(frozen=True, slots=True)
class Ranking:
    """The most probable classes of one photo, the first one first; ``fault`` says why there are none."""

    path: Path
    top: tuple[tuple[ClassName, float], ...]
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The keys of a line of ``classify --json``."""
        if self.fault:
            return {"path": str(self.path), "error": self.fault}
        return {
            "path": str(self.path),
            "top": [
                {"label": name.label, "probability": probability, "wnid": name.wnid, "words": name.words}
                for name, probability in self.top
            ],
        }


def classify(
    images: Sequence[str | Path],
    *,
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    top: int = 5,
    progress: Progress | None = None,
) -> Iterator[Ranking]:
    """Name what photos show, in float32. One that cannot be read gives a ``Ranking`` with its fault.

    Parameters
    ----------
    images
        Files, folders, patterns.
    backbone, weights
        A network whose weights come with its classifier.
    size
        Height and width in pixels that the network sees; 0 is what its weights were trained with.
    top
        How many classes of each photo.

    Raises
    ------
    BackboneError
        The weights come without a classifier that knows ImageNet's classes.
    WeightsError, DataError, OptionError
    """
    if top < 1:
        raise OptionError(f"--top must be 1 or more, got {top}")
    listener = progress or Silent()
    paths = find_images(images)
    network = load_backbone(backbone, weights=weights, size=size, classifier=True, progress=listener)
    names = class_names(network)
    listener.begin(f"Classifying with {network.name}", len(paths))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(paths), _BATCH):
                part = paths[start : start + _BATCH]
                looks = list(pool.map(lambda path: _pixels(path, network.preprocess), part))
                good = [look for look in looks if isinstance(look, np.ndarray)]
                rows = iter(_probabilities(network, np.stack(good), device)) if good else iter(())
                for path, look in zip(part, looks, strict=True):
                    if isinstance(look, str):
                        yield Ranking(path, (), look.removeprefix(f"{path}: "))
                        continue
                    row = next(rows)
                    best = np.argsort(-row, kind="stable")[:top]
                    yield Ranking(path, tuple((names[i], float(row[i])) for i in best))
                listener.advance(len(part))
    finally:
        listener.end()


def class_names(network: Backbone) -> list[ClassName]:
    """ImageNet's classes as timm has them, in the order of the network's outputs.

    Raises BackboneError where the number of its classes is that of no set of ImageNet's.
    """
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(network.plan.model)
    if subset is None:
        count = getattr(network.plan.model, "num_classes", 0)
        raise BackboneError(f"the classifier of {network.name} has {count:,} classes, which are not ImageNet's")
    info = ImageNetInfo(subset)
    words = [info.index_to_description(i) for i in range(info.num_classes())]
    firsts = [text.partition(",")[0].strip() for text in words]
    often = Counter(firsts)
    found = []
    for i, first in enumerate(firsts):
        wnid = info.index_to_label_name(i)
        meaning = info.index_to_description(i, detailed=True).removeprefix(f"{words[i]}: ")
        # Two classes of the thousand are called crane: a bird and a machine.
        label = first if often[first] == 1 else f"{first} ({meaning.partition(';')[0]})"
        found.append(ClassName(label, wnid, words[i], meaning))
    return found


def _pixels(path: Path, preprocess: Preprocess) -> np.ndarray | str:
    try:
        return pixels_of(path, preprocess)
    except ImageError as error:
        return error.what


def _probabilities(network: Backbone, pixels: np.ndarray, device: torch.device) -> np.ndarray:
    """uint8 (n, h, w, 3) to float32 (n, classes), each row of which has the sum 1."""
    x = torch.from_numpy(network.preprocess.normalise(pixels)).to(device)
    network.plan.model.to(device)
    with torch.inference_mode(), steady_kernels("float32"):
        logits = network.classify(network.below("none")(x))
        return logits.float().softmax(1).cpu().numpy()
