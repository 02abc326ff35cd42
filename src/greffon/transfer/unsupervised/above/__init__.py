"""Self-supervised training above the cut, by the one loop."""

from greffon.transfer.unsupervised.above.clustering import DeepCluster, cluster_labels
from greffon.transfer.unsupervised.above.contrastive import SimCLR
from greffon.transfer.unsupervised.above.judging import judge_epoch
from greffon.transfer.unsupervised.above.method import SelfSupervised, projector
from greffon.transfer.unsupervised.above.pretraining import (
    LEAST_IMAGES,
    SELF_SUPERVISED,
    features_above,
    pretrain_above,
    ready_to_pretrain,
)
from greffon.transfer.unsupervised.above.redundancy import BarlowTwins, VICReg

__all__ = [
    "LEAST_IMAGES",
    "SELF_SUPERVISED",
    "BarlowTwins",
    "DeepCluster",
    "SelfSupervised",
    "SimCLR",
    "VICReg",
    "cluster_labels",
    "features_above",
    "judge_epoch",
    "pretrain_above",
    "projector",
    "ready_to_pretrain",
]
