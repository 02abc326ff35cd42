"""What a search for hyperparameters may choose from, and how a choice becomes a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, final

from greffon.training import Recipe

__all__ = ["SearchSpace", "Suggestions", "adopt", "values_of"]

#: Least and greatest rate of the topmost stage, and of the head, on a logarithmic scale.
_RATES = {"adamw": ((1e-5, 1e-3), (3e-4, 3e-2)), "sgd": ((1e-4, 3e-1), (1e-3, 1.0))}
_DECAY = (1e-5, 0.3)
_SMOOTHING = (0.0, 0.05, 0.1)
_DROPOUT = (0.0, 0.5)
#: With the shares that the papers use: mixup of ImageNet 0.1 to 0.4, of CIFAR 1 (Zhang et al. 2018); CutMix 1 (Yun et al. 2019).
_MIXES: tuple[tuple[Any, float], ...] = (("none", 0.2), ("mixup", 0.2), ("mixup", 1.0), ("cutmix", 1.0))


class Suggestions(Protocol):
    """What draws values: a trial of Optuna's."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from ``low`` to ``high``."""
        ...

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of some values."""
        ...


@final
@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The values that a search draws from. They hold the default's, and its words and numbers of few choices exactly.

    Parameters
    ----------
    default
        The recipe to be improved; what is not searched stays as it is there.
    cuts
        The stages below which the cut may stand; the first is the default.
    views
        How many are kept of each training image: a trial uses the first of them, one to all.
    """

    default: Recipe
    cuts: tuple[str, ...]
    views: int

    def draw(self, trial: Suggestions) -> tuple[Recipe, str, int]:
        """A recipe, a cut, and a number of views."""
        rate, head = _RATES[self.default.optimizer]
        mix, alpha = dict(self._mixes())[trial.suggest_categorical("mix", [name for name, _ in self._mixes()])]
        recipe = replace(
            self.default,
            learning_rate=trial.suggest_float("learning_rate", *rate, log=True),
            head_learning_rate=trial.suggest_float("head_learning_rate", *head, log=True),
            weight_decay=trial.suggest_float("weight_decay", *_DECAY, log=True),
            label_smoothing=trial.suggest_categorical("label_smoothing", self._smoothings()),
            dropout=trial.suggest_float("dropout", *_DROPOUT),
            mix=mix,
            mix_alpha=alpha,
        )
        cut = self.cuts[0] if len(self.cuts) == 1 else trial.suggest_categorical("cut", self.cuts)
        views = trial.suggest_int("views", 1, self.views) if self.views > 1 else self.views
        return recipe, cut, views

    def first(self) -> dict[str, Any]:
        """The default by the names of ``draw``; a number outside of its range becomes the nearest one within."""
        recipe = self.default
        rate, head = _RATES[recipe.optimizer]
        found: dict[str, Any] = {
            "mix": _mix_name(recipe.mix, recipe.mix_alpha),
            "learning_rate": _within(recipe.learning_rate, rate),
            "head_learning_rate": _within(recipe.head_learning_rate, head),
            "weight_decay": _within(recipe.weight_decay, _DECAY),
            "label_smoothing": recipe.label_smoothing,
            "dropout": _within(recipe.dropout, _DROPOUT),
        }
        if len(self.cuts) > 1:
            found["cut"] = self.cuts[0]
        if self.views > 1:
            found["views"] = self.views
        return found

    def _mixes(self) -> list[tuple[str, tuple[Any, float]]]:
        mine = (self.default.mix, self.default.mix_alpha)
        return list({_mix_name(*one): one for one in (mine, *_MIXES)}.items())

    def _smoothings(self) -> list[float]:
        return sorted({*_SMOOTHING, self.default.label_smoothing})


def adopt(recipe: Recipe, found: Recipe) -> Recipe:
    """A recipe with all that a search may change taken from another one."""
    return replace(
        recipe,
        learning_rate=found.learning_rate,
        head_learning_rate=found.head_learning_rate,
        weight_decay=found.weight_decay,
        label_smoothing=found.label_smoothing,
        dropout=found.dropout,
        mix=found.mix,
        mix_alpha=found.mix_alpha,
    )


def values_of(recipe: Recipe, cut: str, views: int) -> Mapping[str, float | int | str]:
    """What a search chooses, by name, as JSON values."""
    return {
        "learning_rate": recipe.learning_rate,
        "head_learning_rate": recipe.head_learning_rate,
        "weight_decay": recipe.weight_decay,
        "label_smoothing": recipe.label_smoothing,
        "mix": _mix_name(recipe.mix, recipe.mix_alpha),
        "dropout": recipe.dropout,
        "cut": cut,
        "views": views,
    }


def _mix_name(mix: str, alpha: float) -> str:
    return mix if mix == "none" else f"{mix} {alpha:g}"


def _within(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])
