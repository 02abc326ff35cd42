"""What training makes small: pure functions of tensors."""

from greffon.losses.adversarial import domain_loss, multilinear_map, random_multilinear_map, reverse_gradient
from greffon.losses.alignment import coral, gaussian_kernels, joint_mmd, median_bandwidth, mmd, stepwise_norm
from greffon.losses.classification import classification_loss, l2_sp
from greffon.losses.confidence import class_confusion, entropies, information_maximisation, pseudo_labels
from greffon.losses.contrastive import nt_xent
from greffon.losses.neighbourhood import neighbourhood_density
from greffon.losses.redundancy import barlow_twins, vicreg

__all__ = [
    "barlow_twins",
    "class_confusion",
    "classification_loss",
    "coral",
    "domain_loss",
    "entropies",
    "gaussian_kernels",
    "information_maximisation",
    "joint_mmd",
    "l2_sp",
    "median_bandwidth",
    "mmd",
    "multilinear_map",
    "neighbourhood_density",
    "nt_xent",
    "pseudo_labels",
    "random_multilinear_map",
    "reverse_gradient",
    "stepwise_norm",
    "vicreg",
]
