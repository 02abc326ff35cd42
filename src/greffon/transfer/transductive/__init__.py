"""Transductive transfer: the source has labels, the target has none."""

from greffon.transfer.transductive.domains import Labelled, Unlabelled
from greffon.transfer.transductive.labelling import Labelling, label_by_spreading
from greffon.transfer.transductive.spreading import class_mass_normalised, influence, neighbour_graph, spread
from greffon.transfer.transductive.spreading_choice import GRID, Spreading, choose_spreading, class_prior

__all__ = [
    "GRID",
    "Labelled",
    "Labelling",
    "Spreading",
    "Unlabelled",
    "choose_spreading",
    "class_mass_normalised",
    "class_prior",
    "influence",
    "label_by_spreading",
    "neighbour_graph",
    "spread",
]
