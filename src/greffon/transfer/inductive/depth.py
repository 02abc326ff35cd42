"""Accuracy by depth: what the output of each stage tells of the classes, and where to cut the network for them.

A linear probe a stage, after Alain and Bengio (2016, arXiv:1610.01644); that the upper stages are the ones that grow
special to the task they were trained on is Yosinski et al. (2014, arXiv:1411.1792).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from greffon.errors import OptionError
from greffon.heads import Representation
from greffon.metrics import paired_difference, wilson_interval
from greffon.progress import Progress
from greffon.transfer.inductive.nested import OutOfFold, predict_out_of_fold

__all__ = ["ALL_STAGES", "Depth", "DepthFigures", "Suggestion", "depth_figures", "suggest_cut"]

#: What the probe of all stages joined is called where the others have their stage's name.
ALL_STAGES = "all stages"

#: Where so few images or fewer are named wrongly, not even a model without a fault is better beyond noise: McNemar's
#: statistic of n against 0 is n, and the 95 % point of its distribution (chi-squared, 1 degree of freedom) is 3.84.
_NOTHING_TO_GAIN = 3


@final
@dataclass(frozen=True, slots=True)
class Depth:
    """What a probe of one stage's pooled output reaches out of fold. Intervals are of 95 %.

    Parameters
    ----------
    stage
        Its name, or ``ALL_STAGES``.
    features
        How many numbers the probe reads of each image.
    accuracy, interval, n
        The share of the n images that are named rightly, with Wilson's interval. (The folds' probes share images of
        training, which the interval leaves out of account, as every one of a cross-validation does.)
    to_best, to_best_interval
        Its accuracy minus that of the best single stage, on the same images (``metrics.paired_difference``).
    gain, gain_interval
        The same against the stage below; None for the lowest, and for all stages joined.
    strengths
        What each fold has chosen.
    """

    stage: str
    features: int
    accuracy: float
    interval: tuple[float, float]
    n: int
    to_best: float
    to_best_interval: tuple[float, float]
    gain: float | None = None
    gain_interval: tuple[float, float] | None = None
    strengths: tuple[float, ...] = ()

    @property
    def is_as_good(self) -> bool:
        """Whether it is as good as the best single stage within noise: the interval of the difference reaches 0."""
        return self.to_best_interval[1] >= 0

    @property
    def gains(self) -> bool:
        """Whether it is better than the stage below beyond noise; the lowest counts as better than none."""
        return self.gain_interval is None or self.gain_interval[0] > 0


@final
@dataclass(frozen=True, slots=True)
class Suggestion:
    """Where fine-tuning should begin.

    Parameters
    ----------
    cut
        A stage: it and all above it are trained. ``"none"``: the head alone.
    reason
        Why, in a sentence for people.
    """

    cut: str
    reason: str


@final
@dataclass(frozen=True, slots=True, eq=False)
class DepthFigures:
    """The probes of all depths, measured on the same images in the same folds.

    Parameters
    ----------
    stages
        From the image upwards.
    together
        The outputs of all stages joined.
    best
        The single stage with the highest accuracy; of equals, the uppermost.
    suggestion
        Where to cut.
    largest_class
        The share of the largest class: what naming it always would reach.
    folds, head, representation
        How it was measured: the same for all stages.
    right
        bool (number of stages + 1, n): whether each probe named each image rightly; all stages joined come last.
    """

    stages: tuple[Depth, ...]
    together: Depth
    best: str
    suggestion: Suggestion
    largest_class: float
    folds: int
    head: str
    representation: str
    right: np.ndarray

    @property
    def n(self) -> int:
        """How many images were measured on."""
        return self.together.n

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "stages": [{**asdict(one), "as_good_as_best": one.is_as_good} for one in self.stages],
            "all_stages": asdict(self.together),
            "best": self.best,
            "cut": self.suggestion.cut,
            "reason": self.suggestion.reason,
            "n": self.n,
            "largest_class": self.largest_class,
            "folds": self.folds,
            "head": self.head,
            "representation": self.representation,
        }


def depth_figures(
    pooled: np.ndarray,
    widths: Sequence[int],
    stage_names: Sequence[str],
    y: np.ndarray,
    classes: int,
    *,
    groups: np.ndarray | None = None,
    k: int = 5,
    head: str = "logistic",
    pool: str = "mean",
    norm: str = "standard",
    strength: float | None = None,
    seed: int = 0,
    progress: Progress,
) -> DepthFigures:
    """Probe every stage's pooled output alone, and all of them joined.

    Pooling and norm are the same for all stages. The strength is chosen in each fold, on its training images alone.

    Parameters
    ----------
    pooled
        Records of the frozen part, float32 (n, sum of 2 c): the mean and the maximum of every stage's channels.
    widths, stage_names
        The channels c and the name of each stage, from the image upwards.
    y, classes, groups, k, head, strength, seed
        See ``predict_out_of_fold``.
    pool, norm
        See ``heads.Representation``.

    Raises
    ------
    OptionError
        Records of another width, an unknown head, pool or norm, or images that cannot be dealt into folds.
    """
    if pooled.ndim != 2 or pooled.shape[1] != 2 * sum(widths) or len(widths) != len(stage_names) or not len(widths):
        raise OptionError(f"depth_figures: expected records (n, {2 * sum(widths)}) of {len(stage_names)} stages, got {pooled.shape}")
    if pool == "flatten":
        raise OptionError("depth_figures: pool must be mean, max or mean+max, got 'flatten'")
    # A record of one stage alone is that stage's part of the record; its last stage is all it has.
    one = Representation("last", pool, norm)  # type: ignore[arg-type]  # it checks its values itself
    joined = Representation("all", pool, norm)  # type: ignore[arg-type]  # as above
    ends = np.cumsum([2 * width for width in widths])
    parts = [(pooled[:, end - 2 * width : end], [width], one) for end, width in zip(ends, widths, strict=True)]
    parts.append((pooled, list(widths), joined))
    progress.begin("Probing the stages", len(parts) * k)
    found = [
        predict_out_of_fold(
            records, wide, y, classes, groups=groups, k=k, head=head, representations=(taken,),
            strength=strength, seed=seed, progress=progress,
        )
        for records, wide, taken in parts
    ]  # fmt: skip
    progress.end()
    right = np.stack([one.predicted == y for one in found])
    each = 2 if pool == "mean+max" else 1
    return _figures(stage_names, [each * width for width in widths], right, found, y, k, head, f"{pool}, {norm}")


def _figures(
    names: Sequence[str], features: Sequence[int], right: np.ndarray, found: Sequence[OutOfFold], y: np.ndarray,
    k: int, head: str, representation: str,
) -> DepthFigures:  # fmt: skip
    counts, n = right.sum(1), right.shape[1]
    best = len(names) - 1 - int(np.argmax(counts[: len(names)][::-1]))

    def depth(i: int, name: str, width: int, below: int | None) -> Depth:
        gain, gain_interval = paired_difference(right[i], right[below]) if below is not None else (None, None)
        # Against itself there is no noise.
        to_best, to_best_interval = paired_difference(right[i], right[best]) if i != best else (0.0, (0.0, 0.0))
        return Depth(
            stage=name,
            features=int(width),
            accuracy=float(counts[i] / n),
            interval=wilson_interval(int(counts[i]), n),
            n=n,
            to_best=to_best,
            to_best_interval=to_best_interval,
            gain=gain,
            gain_interval=gain_interval,
            strengths=tuple(strength for _, strength in found[i].chosen),
        )

    stages = tuple(depth(i, name, features[i], i - 1 if i else None) for i, name in enumerate(names))
    return DepthFigures(
        stages=stages,
        together=depth(len(names), ALL_STAGES, sum(features), None),
        best=names[best],
        suggestion=suggest_cut(stages),
        largest_class=float(np.unique(y, return_counts=True)[1].max() / n),
        folds=k,
        head=head,
        representation=representation,
        right=right,
    )


def suggest_cut(depths: Sequence[Depth]) -> Suggestion:
    """Where fine-tuning should begin, from the accuracies of the single stages. The first rule that holds decides:

    1. The uppermost stage names all but three images rightly, or more: ``"none"``. No retraining could be shown to help.
    2. The uppermost stage is worse than the best beyond noise: the stages above the highest one that is as good as the
       best are too special to what the network was trained on. They are to be retrained: the cut is the lowest of them.
    3. The uppermost stage is better than the one below it beyond noise: ``"none"``. Every stage still helps as it is.
    4. Else the uppermost stage: what it adds as it is does not stand out from the noise, so it is the first to be retrained.

    Few images make much noise; then rules 2 and 3 fall silent, and rule 4 retrains no more than one stage.

    Parameters
    ----------
    depths
        One a stage, from the image upwards, without that of all stages joined.

    Raises
    ------
    OptionError
        No stages.
    """
    if not depths:
        raise OptionError("suggest_cut: needs one stage or more, got none")
    last = depths[-1]
    wrong = round((1 - last.accuracy) * last.n)
    if wrong <= _NOTHING_TO_GAIN:
        return Suggestion(
            "none", f"{last.stage} as it is names all but {wrong} of {last.n} images rightly: no retraining could be shown to do better"
        )
    if not last.is_as_good:
        peak = max(i for i, one in enumerate(depths) if one.is_as_good)
        above = depths[peak + 1]
        which = above.stage if above is last else f"{above.stage} to {last.stage}"
        how = "best" if depths[peak].to_best == 0 else "as well as anywhere"
        return Suggestion(
            above.stage,
            f"the classes separate {how} at {depths[peak].stage} ({_percent(depths[peak].accuracy)}); {last.stage}"
            f" ({_percent(last.accuracy)}) is {_points(-last.to_best)} below the best, beyond noise: what lies above"
            f" {depths[peak].stage} is too special to what the network was trained on, so retrain {which}",
        )
    if last.gains:
        over = f", {_points(last.gain)} above {depths[-2].stage}, beyond noise" if last.gain is not None else ""
        return Suggestion(
            "none",
            f"the classes separate best at the last stage, {last.stage} ({_percent(last.accuracy)}{over}):"
            " every stage helps as it is, so begin with the head alone",
        )
    return Suggestion(
        last.stage,
        f"{last.stage} as it is ({_percent(last.accuracy)}) is not better than {depths[-2].stage}"
        f" ({_percent(depths[-2].accuracy)}) beyond the noise of {last.n} images: of all stages it is the first to retrain",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(difference: float | None) -> str:
    return f"{100 * (difference or 0):.1f} points"
