"""What the user says about fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, final

import numpy as np
import torch

from greffon.activations import KEEPS, best_precision
from greffon.errors import OptionError
from greffon.images import POLICIES
from greffon.training import Recipe
from greffon.transfer.inductive import should_balance

__all__ = ["FineTuning"]

#: Learning rates of the topmost stage and of the head, where none is given.
_RATES = {"adamw": (1e-4, 3e-3), "sgd": (3e-3, 3e-2)}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """The wishes of a user who fine-tunes.

    Parameters
    ----------
    views, policy
        How many views of each training image are kept, and of which policy (``images.POLICIES``); the first one is plain.
    keep
        In what the activations at the cut are kept: ``"bfloat16"``, ``"float16"`` or ``"float32"``.
    cache_budget
        The most bytes that they may take on disk; 0: any.
    minutes
        How long the run should take, for ``unfreeze="auto"``: fewer views and epochs are taken until it fits; 0: any.
    tune_minutes
        How long to search for better hyperparameters first; 0: not at all. A part of ``minutes``, where both are given.
    find_rate
        Whether a range test finds the learning rate.
    winograd
        See ``training.Recipe``: ``"auto"`` is on a processor, where training is in float32.
    training_precision
        Of the stages that are trained: ``"auto"`` is bfloat16 where the processor or the GPU has fast instructions for
        it.
    recipe
        The rest. A learning rate of 0 stands for the one that suits the optimiser.
    """

    views: int = 4
    policy: str = "standard"
    keep: str = "bfloat16"
    cache_budget: int = 0
    minutes: float = 0.0
    tune_minutes: float = 0.0
    find_rate: bool = False
    winograd: Literal["auto", "on", "off"] = "auto"
    training_precision: Literal["auto", "float32", "bfloat16"] = "auto"
    recipe: Recipe = field(default_factory=lambda: Recipe(learning_rate=0.0, head_learning_rate=0.0))

    def __post_init__(self) -> None:
        if not 1 <= self.views <= 1000:
            raise OptionError(f"--views must be from 1 to 1000, got {self.views}")
        if self.policy not in POLICIES:
            raise OptionError(f"--policy must be one of {', '.join(POLICIES)}, got {self.policy!r}")
        if self.keep not in KEEPS:
            raise OptionError(f"--keep must be one of {', '.join(KEEPS)}, got {self.keep!r}")
        for name in ("cache_budget", "minutes", "tune_minutes"):
            if not 0 <= getattr(self, name) < 1e18:
                raise OptionError(f"--{name.replace('_', '-')} must be 0 or more, got {getattr(self, name)}")
        if self.tune_minutes and self.find_rate:
            raise OptionError("--tune searches the learning rate itself, got --learning-rate find as well", hint="Leave one away.")
        if self.minutes and self.tune_minutes >= self.minutes:
            raise OptionError(f"--tune must be less than --minutes, {self.minutes:g}, of which it is a part, got {self.tune_minutes:g}")
        for name, words in (("winograd", ("auto", "on", "off")), ("training_precision", ("auto", "float32", "bfloat16"))):
            if getattr(self, name) not in words:
                raise OptionError(f"--{name.replace('_', '-')} must be one of {', '.join(words)}, got {getattr(self, name)!r}")

    def settled(self, labels: np.ndarray, class_weights: str, seed: int) -> Recipe:
        """The recipe with nothing left open, for training images with these labels, int64 (n,)."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        precision = best_precision(device) if self.training_precision == "auto" else self.training_precision
        winograd = precision == "float32" and device == "cpu" if self.winograd == "auto" else self.winograd == "on"
        upper, head = _RATES[self.recipe.optimizer]
        return replace(
            self.recipe,
            learning_rate=self.recipe.learning_rate or upper,
            head_learning_rate=self.recipe.head_learning_rate or head,
            balanced=should_balance(labels) if class_weights == "auto" else class_weights == "balanced",
            precision="bfloat16" if precision == "bfloat16" else "float32",
            winograd=winograd and precision == "float32",
            seed=seed,
        )
