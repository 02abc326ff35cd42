"""Transductive transfer: the source has labels, the target has none."""

from greffon.transfer.transductive.above import ABOVE, Method, adapt_above, suggested_rates
from greffon.transfer.transductive.adapting import (
    CorrelationAlignment,
    FeatureMethod,
    JointDistributions,
    PerDomainStatistics,
    SourceOnly,
    SubspaceAlignment,
    TransferComponents,
)
from greffon.transfer.transductive.agreeing import consensus
from greffon.transfer.transductive.aligning import coral, per_domain, subspace_alignment, transfer_components
from greffon.transfer.transductive.choosing import VOTERS, Adapted, Evidence, adapt_features, temperature_for
from greffon.transfer.transductive.concerns import concerns
from greffon.transfer.transductive.domains import Labelled, Unlabelled
from greffon.transfer.transductive.graphs import LabelPropagation, ManifoldAlignment, a_distance
from greffon.transfer.transductive.labelling import Labelling, label_by_spreading
from greffon.transfer.transductive.methods import LOOKS, METHODS, Domains, look_at
from greffon.transfer.transductive.mixtures import ShiftedMixture
from greffon.transfer.transductive.spreading import class_mass_normalised, influence, neighbour_graph, spread
from greffon.transfer.transductive.spreading_choice import GRID, Spreading, choose_spreading, class_prior
from greffon.transfer.transductive.structured import SelfTraining, StructuredPrediction, surest
from greffon.transfer.transductive.transport import OptimalTransport, has_pot
from greffon.transfer.transductive.validating import (
    density_ratio,
    information_maximisation,
    soft_neighbourhood_density,
    weighted_validation,
)

__all__ = [
    "ABOVE",
    "GRID",
    "LOOKS",
    "METHODS",
    "VOTERS",
    "Adapted",
    "CorrelationAlignment",
    "Domains",
    "Evidence",
    "FeatureMethod",
    "JointDistributions",
    "LabelPropagation",
    "Labelled",
    "Labelling",
    "ManifoldAlignment",
    "Method",
    "OptimalTransport",
    "PerDomainStatistics",
    "SelfTraining",
    "ShiftedMixture",
    "SourceOnly",
    "Spreading",
    "StructuredPrediction",
    "SubspaceAlignment",
    "TransferComponents",
    "Unlabelled",
    "a_distance",
    "adapt_above",
    "adapt_features",
    "choose_spreading",
    "class_mass_normalised",
    "class_prior",
    "concerns",
    "consensus",
    "coral",
    "density_ratio",
    "has_pot",
    "influence",
    "information_maximisation",
    "label_by_spreading",
    "look_at",
    "neighbour_graph",
    "per_domain",
    "soft_neighbourhood_density",
    "spread",
    "subspace_alignment",
    "suggested_rates",
    "surest",
    "temperature_for",
    "transfer_components",
    "weighted_validation",
]
