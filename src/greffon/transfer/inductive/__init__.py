"""Inductive transfer: the target has labels."""

from greffon.transfer.inductive.comparison import BackboneFigures, Contender, Cost, pareto_front, side_by_side
from greffon.transfer.inductive.depth import ALL_STAGES, Depth, DepthFigures, Suggestion, depth_figures, suggest_cut
from greffon.transfer.inductive.nested import OutOfFold, predict_out_of_fold
from greffon.transfer.inductive.probing import (
    CANDIDATES,
    Probe,
    Trial,
    cross_validate,
    fit_probe,
    representations,
    should_balance,
)

__all__ = [
    "ALL_STAGES",
    "CANDIDATES",
    "BackboneFigures",
    "Contender",
    "Cost",
    "Depth",
    "DepthFigures",
    "OutOfFold",
    "Probe",
    "Suggestion",
    "Trial",
    "cross_validate",
    "depth_figures",
    "fit_probe",
    "pareto_front",
    "predict_out_of_fold",
    "representations",
    "should_balance",
    "side_by_side",
    "suggest_cut",
]
