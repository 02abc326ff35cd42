"""Unsupervised transfer: the user's data has no labels."""

from greffon.transfer.unsupervised.above import (
    LEAST_IMAGES,
    SELF_SUPERVISED,
    SelfSupervised,
    features_above,
    pretrain_above,
    ready_to_pretrain,
)
from greffon.transfer.unsupervised.measures import (
    alpha_req,
    found_again,
    neighbour_agreement,
    neighbour_shares,
    rank_me,
)

__all__ = [
    "LEAST_IMAGES",
    "SELF_SUPERVISED",
    "SelfSupervised",
    "alpha_req",
    "features_above",
    "found_again",
    "neighbour_agreement",
    "neighbour_shares",
    "pretrain_above",
    "rank_me",
    "ready_to_pretrain",
]
