"""``Recipe``: every choice of a training run, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, final

from greffon.errors import OptionError

__all__ = ["Recipe"]

#: The least and the greatest value of every number.
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "batch": (1, 65_536),
    "learning_rate": (0, 1e3),
    "head_learning_rate": (0, 1e3),
    "stage_decay": (0, 1),
    "weight_decay": (0, 1e3),
    "momentum": (0, 1),
    "warmup": (0, 1),
    "label_smoothing": (0, 0.999),
    "mix_alpha": (0, 1e3),
    "dropout": (0, 0.999),
    "clip": (0, 1e6),
    "l2_sp": (0, 1e6),
    "ema": (0, 0.999999),
    "patience": (0, 100_000),
    "gradual": (0, 100_000),
    "seed": (0, 2**63 - 1),
}
_WHOLE = ("epochs", "batch", "patience", "gradual", "seed")
_WORDS: dict[str, tuple[str, ...]] = {
    "optimizer": ("adamw", "sgd"),
    "mix": ("none", "mixup", "cutmix"),
    "batch_norm": ("frozen", "trained"),
    "precision": ("float32", "bfloat16"),
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the stages above the cut and the head are trained. Travels with the model, as JSON.

    Parameters
    ----------
    epochs
        In each, every training image comes once, in one of its views.
    batch
        Images in a step.
    optimizer
        ``"adamw"`` (Loshchilov and Hutter 2019) or ``"sgd"`` with Nesterov's ``momentum``.
    learning_rate
        Of the topmost stage. Each stage further down has ``stage_decay`` times that of the one above it (discriminative
        rates: Howard and Ruder 2018, arXiv:1801.06146, section 3.2).
    head_learning_rate
        Of the head.
    weight_decay
        Not of biases and of normalisation.
    warmup
        The share of all steps in which the rate rises linearly from 0; it falls as half a cosine afterwards.
    label_smoothing
        See ``losses.classification_loss``.
    balanced
        Whether every class counts alike, however many images it has.
    mix, mix_alpha
        ``"mixup"`` (Zhang et al. 2018) or ``"cutmix"`` (Yun et al. 2019) of the activations at the cut, with a share
        drawn from Beta(alpha, alpha); ``"none"``.
    dropout
        Of the features, before the head.
    clip
        The largest norm of the gradient; 0: any.
    l2_sp
        Strength of the pull towards the pretrained weights (``losses.l2_sp``); 0: none.
    ema
        Decay of the exponential moving average of the weights, which is then what is validated and kept; 0: none.
    patience
        Epochs without a better validation after which training stops; 0: never.
    gradual
        Gradual unfreezing: the head is trained alone for so many epochs, then each stage joins it after as many again,
        the topmost first; 0: all from the start.
    batch_norm
        ``"frozen"``: BatchNorm above the cut keeps the statistics that it came with, which small data cannot improve.
    winograd
        Whether 3 × 3 convolutions of stride 1 are computed by ``training.winograd``: the same to some 1e-5, in fewer
        multiplications.
    precision
        ``"float32"``, or ``"bfloat16"``: mixed, the weights stay in float32.
    seed
        Of order, views, mixing and dropout.
    """

    epochs: int = 10
    batch: int = 32
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-4
    head_learning_rate: float = 3e-3
    stage_decay: float = 0.5
    weight_decay: float = 0.01
    momentum: float = 0.9
    warmup: float = 0.1
    label_smoothing: float = 0.0
    balanced: bool = False
    mix: Literal["none", "mixup", "cutmix"] = "none"
    mix_alpha: float = 0.2
    dropout: float = 0.0
    clip: float = 1.0
    l2_sp: float = 0.0
    ema: float = 0.0
    patience: int = 0
    gradual: int = 0
    batch_norm: Literal["frozen", "trained"] = "frozen"
    winograd: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            whole = name in _WHOLE
            kind = int if whole else (int, float)
            # Comparing refuses NaN and infinity too, and takes whole numbers of any length.
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
                number = "a whole number" if whole else "a number"
                raise OptionError(f"Recipe: {name} must be {number} from {least:g} to {most:g}, got {value!r}")
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise OptionError(f"Recipe: {name} must be one of {', '.join(words)}, got {getattr(self, name)!r}")
        for name in ("balanced", "winograd"):
            if type(getattr(self, name)) is not bool:
                raise OptionError(f"Recipe: {name} must be true or false, got {getattr(self, name)!r}")
        if self.mix != "none" and not self.mix_alpha > 0:
            raise OptionError(f"Recipe: mix_alpha must be positive for {self.mix}, got {self.mix_alpha!r}")
        if self.batch_norm == "trained" and self.batch < 3:  # parts of nearly one size: of three, none has a single image
            raise OptionError(f"Recipe: batch must be 3 or more where BatchNorm is trained, got {self.batch}",
                              hint="A single image has no variance.")  # fmt: skip
        if self.winograd and self.precision != "float32":
            raise OptionError(f"Recipe: winograd computes in float32 alone, got precision {self.precision!r}")

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The inverse of ``to_dict``. Raises OptionError for a key that is not known, or a value that cannot be."""
        known = {field.name for field in fields(cls)}
        strange = sorted(set(values) - known)
        if strange:
            raise OptionError(f"Recipe: unknown key {strange[0]!r}; the keys are {', '.join(sorted(known))}")
        return cls(**values)
