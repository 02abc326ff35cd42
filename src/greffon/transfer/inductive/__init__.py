"""Inductive transfer: the target has labels."""

from greffon.transfer.inductive.comparison import BackboneFigures, Contender, Cost, pareto_front, side_by_side
from greffon.transfer.inductive.depth import ALL_STAGES, Depth, DepthFigures, Suggestion, depth_figures, suggest_cut
from greffon.transfer.inductive.finetuning import (
    FineTuned,
    Start,
    fine_tune,
    grown_on,
    prepare,
    suggested_rate,
    tuned_backbone,
)
from greffon.transfer.inductive.nested import OutOfFold, predict_out_of_fold
from greffon.transfer.inductive.planning import (
    Costs,
    Layout,
    estimate,
    estimate_for_minutes,
    record_shape,
    time_pass,
    time_training,
    within_budget,
)
from greffon.transfer.inductive.probing import (
    CANDIDATES,
    Probe,
    Trial,
    cross_validate,
    fit_probe,
    representations,
    should_balance,
)
from greffon.transfer.inductive.running import Frozen, TunedRun, frozen_part, run_tuning, tuned_probabilities, with_val

__all__ = [
    "ALL_STAGES",
    "CANDIDATES",
    "BackboneFigures",
    "Contender",
    "Cost",
    "Costs",
    "Depth",
    "DepthFigures",
    "FineTuned",
    "Frozen",
    "Layout",
    "OutOfFold",
    "Probe",
    "Start",
    "Suggestion",
    "Trial",
    "TunedRun",
    "cross_validate",
    "depth_figures",
    "estimate",
    "estimate_for_minutes",
    "fine_tune",
    "fit_probe",
    "frozen_part",
    "grown_on",
    "pareto_front",
    "predict_out_of_fold",
    "prepare",
    "record_shape",
    "representations",
    "run_tuning",
    "should_balance",
    "side_by_side",
    "suggest_cut",
    "suggested_rate",
    "time_pass",
    "time_training",
    "tuned_backbone",
    "tuned_probabilities",
    "with_val",
    "within_budget",
]
