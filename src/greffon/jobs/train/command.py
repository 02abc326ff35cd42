"""What to type to train the same model again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from greffon.jobs.train.wishes import FineTuning

__all__ = ["command_words"]

#: Options of fine-tuning by the field of ``FineTuning`` or of its recipe.
_WISHES = ("views", "policy", "keep", "minutes", "training_precision", "winograd")
_RECIPE = ("epochs", "batch", "head_learning_rate", "stage_decay", "optimizer", "weight_decay", "warmup", "label_smoothing", "mix",
           "mix_alpha", "dropout", "clip", "l2_sp", "ema", "patience", "gradual", "batch_norm")  # fmt: skip


def command_words(
    data: Path | str,
    wishes: FineTuning,
    *,
    options: Sequence[tuple[str, object, object]],
    fractions: Sequence[float],
    flags: Sequence[tuple[str, bool]],
) -> list[str]:
    """The words after ``greffon``, without ``--out``: what stands as it usually does is left away.

    Parameters
    ----------
    options
        Each with its value and with what it usually is.
    flags
        Options without a value, and whether they were given.
    """
    found = ["train", str(data)]
    for option, value, usual in options:
        if value != usual:
            found += [option, str(value)]
    if tuple(fractions) != (0.7, 0.15, 0.15):
        found += ["--split", ",".join(f"{share:g}" for share in fractions)]
    for option, value in _tuning(wishes):
        found += [option, value]
    return [*found, *(option for option, given in flags if given)]


def _tuning(wishes: FineTuning) -> Iterator[tuple[str, str]]:
    usual, recipe, usual_recipe = FineTuning(), wishes.recipe, FineTuning().recipe
    for name in _WISHES:
        if getattr(wishes, name) != getattr(usual, name):
            yield _option(name), _text(getattr(wishes, name))
    if wishes.cache_budget:
        yield "--cache-budget", str(wishes.cache_budget)
    if wishes.tune_minutes:
        yield "--tune", _text(wishes.tune_minutes)
    if wishes.find_rate:
        yield "--learning-rate", "find"
    elif recipe.learning_rate:
        yield "--learning-rate", _text(recipe.learning_rate)
    for name in _RECIPE:
        if getattr(recipe, name) != getattr(usual_recipe, name):
            yield _option(name), _text(getattr(recipe, name))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _text(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
