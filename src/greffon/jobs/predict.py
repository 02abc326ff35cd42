"""``greffon predict``: a model and photos, to labels and probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Executor
from greffon.datasets import find_images
from greffon.model import load_model
from greffon.progress import Progress, Silent

__all__ = ["Guess", "predict"]


@final
@dataclass(frozen=True, slots=True)
class Guess:
    """What a model says of one photo; ``fault`` says why it says nothing.

    ``classes``, where sets were asked for: those that may be the true one, the most probable first; maybe none.
    ``novelty``, where it may abstain: how unlike the photo is to what was learned from; and ``known``: whether it is like enough for an
    answer. The label of one that is not stands here all the same, and not in ``to_dict``.
    """

    path: Path
    label: str
    probability: float
    probabilities: dict[str, float]
    fault: str = ""
    classes: tuple[str, ...] | None = None
    novelty: float | None = None
    known: bool = True

    def to_dict(self) -> dict[str, Any]:
        """The keys of a line of ``predict --json``."""
        if self.fault:
            return {"path": str(self.path), "error": self.fault}
        return {
            "path": str(self.path),
            "label": self.label if self.known else None,
            "probability": self.probability,
            "probabilities": self.probabilities,
            **({} if self.classes is None else {"set": list(self.classes)}),
            **({} if self.novelty is None else {"novelty": self.novelty, "known": self.known}),
        }


def predict(
    model: Path | str,
    images: Sequence[str | Path],
    *,
    precision: str = "",
    views: int = 1,
    sets: float = 0.0,
    abstain: float = 0.0,
    executor: Executor | None = None,
    progress: Progress | None = None,
    block: int = 2048,
) -> Iterator[Guess]:
    """Predict photos in the order of their names. One that cannot be read gives a ``Guess`` with its fault.

    Parameters
    ----------
    model
        A model folder.
    images
        See ``datasets.find_images``.
    precision
        ``"exact"``, that is ``"float32"``, or ``"bfloat16"``, instead of the training's.
    views
        How many views of each photo the probabilities are averaged over: the photo itself, its mirror image, mild crops.
    executor
        Where the frozen part runs; this process, if None.
    sets
        0, or how often the true class shall be in the set of classes that each guess then has: 0.9, say.
    abstain
        0, or the share of photos of the known kind that shall be answered: 0.95, say. What is newer than that is not known.

    Raises
    ------
    ModelError, DataError, OptionError
    """
    listener = progress or Silent()
    paths = find_images(images)
    loaded = load_model(model)
    if sets:
        loaded.sets(np.zeros((0, len(loaded.classes))), sets)  # what cannot be is told before anything is read
    limit = loaded.known_up_to(abstain) if abstain else 0.0
    block = block if executor is None else 16 * block  # as its workers take seconds to begin
    for start in range(0, len(paths), block):
        part = paths[start : start + block]
        told = loaded.predict(part, progress=listener, precision=precision, views=views, executor=executor,
                              novelty=abstain > 0)  # fmt: skip
        held = loaded.sets(told.probabilities, sets) if sets else None
        for i, path in enumerate(part):
            if i in told.failed:
                yield Guess(path, "", 0.0, {}, told.failed[i].removeprefix(f"{path}: "))
                continue
            row = told.probabilities[i]
            best = int(np.argmax(row))
            own = None if held is None else tuple(loaded.classes[int(c)] for c in np.argsort(-row, kind="stable") if held[i, c])
            novelty = None if told.novelty is None else float(told.novelty[i])
            yield Guess(path, loaded.classes[best], float(row[best]), dict(zip(loaded.classes, row.tolist(), strict=True)),
                        classes=own, novelty=novelty, known=novelty is None or novelty <= limit)  # fmt: skip
