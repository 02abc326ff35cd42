"""How an epoch of self-supervised training is judged, and whether it has gained anything: by figures without labels.

What epochs are compared by is the steadiness of neighbours between views: a photo's nearest others should be the same ones
whichever view of it is looked at. The rank guards it, for features that all say the same are steady too. The other figures are
shown and do not choose: alone, the rank is highest before anything was trained, and a view finds its photo the better the longer
the training goes on, also where a probe with labels has long fallen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from greffon.training import FeatureRow, Looked
from greffon.transfer.unsupervised.measures import (
    alpha_req,
    found_again,
    neighbour_agreement,
    neighbour_shares,
    rank_me,
)

__all__ = ["judge_epoch"]

#: Below this share of the rank that the pretrained network has, the features have collapsed. On flowers and paintings trainings that
#: a probe with labels gained from went down to half of it.
_LEAST_RANK = 1 / 3
#: So many standard errors of its mean an epoch must be above the pretrained network: noise is no gain.
_ERRORS = 2.0


def judge_epoch(looked: Looked, loss: float | None, before: Sequence[FeatureRow]) -> FeatureRow:
    """The row of an epoch; the first row of ``before`` is of the pretrained network.

    The score is the share of neighbours that the plain view and the one that was not trained on have in common; of an epoch after the
    pretrained network two standard errors less. Ten neighbours of each photo are looked at, or a fifth of all.
    """
    plain, other = looked.plain.cpu().numpy(), looked.other.cpu().numpy()
    k = min(10, max(1, len(plain) // 5))
    rank, shares = rank_me(plain), neighbour_shares(plain, other, k)
    error = float(shares.std(ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else 0.0
    agreement = float(shares.mean())
    return FeatureRow(
        loss=loss,
        decay=alpha_req(plain),
        rank=rank,
        found=found_again(plain, other),
        agreement=agreement,
        steadiness=None if looked.before is None else neighbour_agreement(looked.before.cpu().numpy(), plain, k),
        score=agreement - (_ERRORS * error if before else 0.0),
        collapsed=bool(before) and rank < _LEAST_RANK * before[0].rank,
    )
