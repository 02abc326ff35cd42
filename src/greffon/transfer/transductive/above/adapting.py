"""Adaptation above the cut: the table of methods, and the function that trains with one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from greffon.errors import OptionError
from greffon.progress import Progress
from greffon.training import Adaptation, EpochRow, Grown, Keep, Recipe, Samples, Source, Trained, fit
from greffon.transfer.transductive.above.adversarial import CDAN, DANN
from greffon.transfer.transductive.above.confidence import MCC, Shot
from greffon.transfer.transductive.above.matching import AFN, DAN, JAN, DeepCoral
from greffon.transfer.transductive.above.method import Method

__all__ = ["ABOVE", "adapt_above", "suggested_rates"]

#: Of a head that begins where the source has it: a tenth of what a new one is given. Over five pairs Deep CORAL and MCC named 70 % of the
#: target rightly with it, and 68 % with a new one's.
_HEAD_RATE = 3e-4

#: Every method by its name, with the numbers of its paper.
ABOVE: Mapping[str, Method] = {
    "deep-coral": DeepCoral(),
    "dan": DAN(),
    "jan": JAN(),
    "dann": DANN(),
    "cdan": CDAN(),
    "cdan+e": CDAN(entropy=True),
    "mcc": MCC(),
    "afn": AFN(),
    "shot": Shot(),
}


def suggested_rates(method: str | Method) -> tuple[float, float]:
    """Learning rates of the topmost stage and of the head that suit a method, for AdamW. Raises OptionError as ``adapt_above``."""
    return _method(method).learning_rate, _HEAD_RATE


def _method(method: str | Method) -> Method:
    if isinstance(method, str) and method not in ABOVE:
        raise OptionError(f"method must be one of {', '.join(ABOVE)}, got {method!r}")
    return ABOVE[method] if isinstance(method, str) else method


def adapt_above(
    grown: Grown,
    source: Source,
    labelled: Samples | None,
    target: np.ndarray,
    method: str | Method,
    recipe: Recipe,
    *,
    val: Samples | None,
    progress: Progress,
    configuration: Mapping[str, Any] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    watch: Callable[[EpochRow], bool] | None = None,
    keep: Keep = "last",
) -> Trained:
    """Train the stages above the cut, and the head, so that they serve a target without labels. ``grown`` is trained in place.

    It begins at what ``grown`` is: with a new head, or, better where the method needs answers from the start, with one that was
    fitted on the source (``Grown.begin_at``). ``shot`` needs the source's trained model, whose head stays as it is.

    Parameters
    ----------
    source
        Where the activations of both domains are.
    labelled
        The source's images, or None for a method that is source-free: "shot".
    target
        int64 (m,): the target's images, by their positions in ``source``.
    method
        A name of ``ABOVE``, or a method with other numbers.
    val
        Images of the source to validate on. They are told of in the history, and choose nothing.
    configuration, checkpoint, resume, watch
        As of ``training.fit``; the recipe and the method, with its numbers, are kept with the configuration.
    keep
        How the epoch is chosen that is kept, without labels: see ``training.judging``.

    Raises
    ------
    OptionError
        There is no such method, the recipe does not suit it, or it needs a trained head and there is none.
    DataError
        Labelled images where the method takes none, or none where it needs some.
    ModelError, StoreError
        As of ``training.fit``.
    """
    chosen = _method(method)
    objective = chosen.objective()
    if not objective.trains_head and not grown.head.weight.any():
        raise OptionError(f"{type(chosen).__name__} adapts a trained model, and this one has a head that knows nothing yet",
                          hint="Train it on the source first.")  # fmt: skip
    nobody = Samples(np.zeros(0, np.int64), np.zeros(0, np.int64))
    about = {"name": type(chosen).__name__, **asdict(chosen), "keep": keep, "target": len(target)}
    return fit(
        grown,
        source,
        nobody if labelled is None else labelled,
        val,
        recipe,
        progress=progress,
        configuration={**(configuration or {}), "recipe": recipe.to_dict(), "adaptation": about},
        checkpoint=checkpoint,
        resume=resume,
        watch=watch,
        adaptation=Adaptation(target, objective, keep),
    )
