"""Inductive transfer: the target has labels."""

from greffon.transfer.inductive.comparison import BackboneFigures, Contender, Cost, pareto_front, side_by_side
from greffon.transfer.inductive.depth import ALL_STAGES, Depth, DepthFigures, Suggestion, depth_figures, suggest_cut
from greffon.transfer.inductive.finetuning import FineTuned, fine_tune, is_fine_tuned, suggested_rate, tuned_backbone
from greffon.transfer.inductive.nested import OutOfFold, predict_out_of_fold
from greffon.transfer.inductive.ordering import JoinedViews, Launcher, TrainingOrder
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
from greffon.transfer.inductive.running import (
    Frozen,
    TunedRun,
    frozen_part,
    run_tuning,
    samples_of,
    tuned_probabilities,
    with_val,
)
from greffon.transfer.inductive.searching import Ground, Search, SearchTrial, load_optuna, search
from greffon.transfer.inductive.space import SearchSpace, Suggestions, adopt, values_of
from greffon.transfer.inductive.starting import TRAINED, Start, check_trainable, grown_on, prepare

__all__ = [
    "ALL_STAGES",
    "CANDIDATES",
    "TRAINED",
    "BackboneFigures",
    "Contender",
    "Cost",
    "Costs",
    "Depth",
    "DepthFigures",
    "FineTuned",
    "Frozen",
    "Ground",
    "JoinedViews",
    "Launcher",
    "Layout",
    "OutOfFold",
    "Probe",
    "Search",
    "SearchSpace",
    "SearchTrial",
    "Start",
    "Suggestion",
    "Suggestions",
    "TrainingOrder",
    "Trial",
    "TunedRun",
    "adopt",
    "check_trainable",
    "cross_validate",
    "depth_figures",
    "estimate",
    "estimate_for_minutes",
    "fine_tune",
    "fit_probe",
    "frozen_part",
    "grown_on",
    "is_fine_tuned",
    "load_optuna",
    "pareto_front",
    "predict_out_of_fold",
    "prepare",
    "record_shape",
    "representations",
    "run_tuning",
    "samples_of",
    "search",
    "should_balance",
    "side_by_side",
    "suggest_cut",
    "suggested_rate",
    "time_pass",
    "time_training",
    "tuned_backbone",
    "tuned_probabilities",
    "values_of",
    "with_val",
    "within_budget",
]
