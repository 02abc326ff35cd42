"""What can be said of a network on images without labels, and which epoch is kept where the target has none.

Nothing here sees a label of the target. The epoch that is kept is by default the last one whose answers have not collapsed,
because the methods raise the weight of the adaptation as they go, so that the earlier epochs are adapted less; because the
source's validation only falls behind as the two domains are made alike, and says nothing of the target; and because the
two figures without labels reward what goes wrong most often: the images of several classes taken for one class are sure,
and lie densely. That one fault they can be trusted to show, by the entropy of the predicted classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor
from torch.nn import functional

from greffon.losses import information_maximisation, neighbourhood_density

__all__ = ["FeatureRow", "Judge", "Keep", "Looked", "TargetRow", "is_better", "judge_target"]

#: How the epoch is chosen: the last one, or by one of the two figures; of those that have not collapsed.
Keep = Literal["last", "information", "density"]

#: Images at most of which the density is taken: it wants all pairs.
_MOST = 2000


@final
@dataclass(frozen=True, slots=True)
class TargetRow:
    """An epoch as the target's images show it, without their labels.

    Parameters
    ----------
    loss
        What the method made small, its mean over the epoch; None before the first one.
    information
        ``losses.information_maximisation`` of the scores: the lower, the more they tell.
    density
        ``losses.neighbourhood_density`` of the probabilities: the higher, the denser; 0 of one image.
    spread
        The entropy of the classes that the images are taken for, each for its likeliest; in nats.
    collapsed
        Whether classes have vanished: see ``judge_target``.
    """

    loss: float | None
    information: float
    density: float
    spread: float
    collapsed: bool


@final
@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """The features of images without labels at the end of an epoch, float32 (m, d) each, row by row of one image.

    Parameters
    ----------
    plain
        Of the plain view.
    other
        Of the last view, which is not trained on; of the plain one again where there is no other.
    before
        Of the plain view an epoch earlier; None before the first.
    """

    plain: Tensor
    other: Tensor
    before: Tensor | None


@final
@dataclass(frozen=True, slots=True)
class FeatureRow:
    """An epoch as the features of images without labels show it, where there are no classes to give answers.

    Parameters
    ----------
    loss
        What the method made small, its mean over the epoch; None before the first one.
    decay
        How fast the eigenvalues of the features' covariance fall (alpha-ReQ).
    rank
        In how many dimensions the features lie (RankMe).
    found
        The share of images whose own plain view is the nearest to a view that was not trained on.
    agreement
        The share of neighbours that the two views have in common.
    steadiness
        The share of neighbours that an image has kept since the epoch before; None before the first one.
    score
        What epochs are compared by: the higher, the better.
    collapsed
        Whether the features have lost what they had: such an epoch is never kept in the place of one that has not.
    """

    loss: float | None
    decay: float
    rank: float
    found: float
    agreement: float
    steadiness: float | None
    score: float
    collapsed: bool


#: From what was looked at, the method's loss and the rows of the epochs before to the row of this one.
Judge = Callable[[Looked, float | None, Sequence[FeatureRow]], FeatureRow]


def judge_target(logits: Tensor, loss: float | None, before: Sequence[TargetRow]) -> TargetRow:
    """Judge an epoch by its scores of the plain target images, (m, c), and the epochs before it.

    The answers have collapsed where all images are taken for one class, or where the entropy of the predicted classes is below half
    of the highest that it had in an earlier epoch. A target may have fewer classes than the source, or other shares of
    them: so the run is compared with itself alone.
    """
    logits = logits.double()
    probabilities = functional.softmax(logits, dim=1)
    some = probabilities[torch.linspace(0, len(logits) - 1, min(len(logits), _MOST)).long()]
    shares = torch.bincount(logits.argmax(1), minlength=logits.shape[1]).double() / len(logits)
    spread = float(-torch.special.xlogy(shares, shares).sum())
    highest = max((row.spread for row in before), default=0.0)
    single = min(logits.shape) > 1 and not spread > 0
    return TargetRow(
        loss=loss,
        information=float(information_maximisation(logits)),
        density=float(neighbourhood_density(some)) if len(some) > 1 else 0.0,
        spread=max(0.0, spread),
        collapsed=single or spread < 0.5 * highest,
    )


def is_better(row: TargetRow | FeatureRow, best: TargetRow | FeatureRow, keep: Keep) -> bool:
    """Whether a later epoch is kept in the place of the best one up to it. Where all have collapsed, the choice is among them.

    Epochs that are judged by their features are compared by their score, whatever ``keep`` says.
    """
    if row.collapsed != best.collapsed:
        return best.collapsed
    if isinstance(row, FeatureRow) or isinstance(best, FeatureRow):
        return isinstance(row, FeatureRow) and isinstance(best, FeatureRow) and row.score > best.score
    if keep == "information":
        return row.information < best.information
    if keep == "density":
        return row.density > best.density
    return True

