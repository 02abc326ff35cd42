"""A model on a test split, looked at from several sides: the only reader of test labels."""

from greffon.evaluation.abstaining import AbstainFigures, UnknownFigures, abstain_figures, unknown_figures
from greffon.evaluation.figures import ClassFigures, Evaluation, ReliabilityBin, evaluate_probabilities
from greffon.evaluation.growth import Growth, GrowthPoint, PowerLaw, measure_growth
from greffon.evaluation.pairs import PairedFigures, compare_predictions
from greffon.evaluation.sizes import SizeGroup, accuracy_by_size

__all__ = [
    "AbstainFigures",
    "ClassFigures",
    "Evaluation",
    "Growth",
    "GrowthPoint",
    "PairedFigures",
    "PowerLaw",
    "ReliabilityBin",
    "SizeGroup",
    "UnknownFigures",
    "abstain_figures",
    "accuracy_by_size",
    "compare_predictions",
    "evaluate_probabilities",
    "measure_growth",
    "unknown_figures",
]
