"""What a model remembers of its training photos: features by which it tells what it does not know, and pictures if asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from greffon.errors import GreffonError
from greffon.images import decode, read_bytes, thumbnail
from greffon.jobs.train.outcome import Task
from greffon.model import Examples, Model, choose_examples
from greffon.novelty import left_out_novelty

__all__ = ["remember"]

#: So many photos at most say how new known ones are, and records of so many are held at once.
_MOST_HELD, _BLOCK = 2000, 256
#: Pixels of the longer side of a thumbnail.
_SIDE = 96


def remember(
    task: Task, model: Model, fitted: np.ndarray, held: np.ndarray, records: Callable[[np.ndarray], np.ndarray]
) -> Model:
    """The model with examples of what it has learned from, and with how new photos that were held out look to it.

    Parameters
    ----------
    fitted
        int64 (n,): the positions of the photos that it was fitted on, of which some become examples.
    held
        int64 (m,): the positions of photos that were held out. Of feature extraction these are the same ones: the features were not
        fitted to them, so each is compared with the others, its near-duplicates left out.
    records
        Of the frozen part, for positions.
    """
    labels, groups = task.dataset.labels, task.scan.groups
    width = len(model.normaliser.mean)
    chosen = fitted[choose_examples(labels[fitted], width, task.examples, task.seed)]
    if not len(chosen):
        return model
    names, pictures = _shown(task, chosen) if task.thumbnails else ((), ())
    examples = Examples.of(_features(model, chosen, records), labels[chosen], names, pictures)
    some = np.sort(np.random.default_rng(task.seed).permutation(held)[:_MOST_HELD])
    novelty = None
    if len(some):
        asked = _features(model, some, records)
        novelty = left_out_novelty(asked, groups[some], examples.features, groups[chosen])
    return replace(model, examples=examples, novelty=novelty)


def _features(model: Model, positions: np.ndarray, records: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """float32 (k, d), by parts, as records at a low cut are large. What is beyond float16, which nothing trained on is, is cut off."""
    parts = [model.features(records(positions[at : at + _BLOCK])) for at in range(0, len(positions), _BLOCK)]
    return np.clip(np.concatenate(parts), -6e4, 6e4)


def _shown(task: Task, positions: np.ndarray) -> tuple[list[str], list[bytes]]:
    """Names within the data and thumbnails; b"" of a photo that cannot be read any more."""
    root = task.dataset.root if task.dataset.root.is_dir() else task.dataset.root.parent
    paths = [task.dataset.paths[i] for i in positions.tolist()]
    names = [path.relative_to(root).as_posix() if path.is_relative_to(root) and ".." not in path.parts else path.name for path in paths]
    pictures = []
    task.progress.begin("Drawing thumbnails of the examples", len(paths))
    for path in paths:
        try:
            pictures.append(thumbnail(decode(read_bytes(path), reduce_to=_SIDE), side=_SIDE))
        except GreffonError:
            pictures.append(b"")
        task.progress.advance()
    task.progress.end()
    return names, pictures
