"""How an epoch of self-supervised training is judged, and whether it has gained anything: by figures without labels."""

from __future__ import annotations

from collections.abc import Sequence

from greffon.training import FeatureRow, Looked
from greffon.transfer.unsupervised.measures import alpha_req, found_again, neighbour_agreement, rank_me

__all__ = ["judge_epoch"]

#: Below this share of the rank that the pretrained network has, the features have collapsed.
_LEAST_RANK = 0.5


def judge_epoch(looked: Looked, loss: float | None, before: Sequence[FeatureRow]) -> FeatureRow:
    """The row of an epoch; the first row of ``before`` is of the pretrained network."""
    plain, other = looked.plain.cpu().numpy(), looked.other.cpu().numpy()
    rank = rank_me(plain)
    found, agreement = found_again(plain, other), neighbour_agreement(plain, other)
    return FeatureRow(
        loss=loss,
        decay=alpha_req(plain),
        rank=rank,
        found=found,
        agreement=agreement,
        steadiness=None if looked.before is None else neighbour_agreement(looked.before.cpu().numpy(), plain),
        score=agreement,
        collapsed=bool(before) and rank < _LEAST_RANK * before[0].rank,
    )
