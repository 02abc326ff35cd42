"""The gradient loop over stored activations, and what it is made of."""

from greffon.training.adapting import Adaptation, Objective, Seen
from greffon.training.checkpoint import Checkpoint, load_checkpoint, peek_progress, save_checkpoint
from greffon.training.finder import RateCurve, find_rate
from greffon.training.grown import Grown
from greffon.training.judging import FeatureRow, Judge, Keep, Looked, TargetRow, judge_target
from greffon.training.loop import fit
from greffon.training.pace import chosen_training
from greffon.training.ranks import Ranks
from greffon.training.recipe import Recipe
from greffon.training.source import FirstViews, RecomputedViews, Source, StoredViews, as_tensor
from greffon.training.values import EpochListener, EpochRow, Samples, Trained, class_weights
from greffon.training.winograd import WinogradConv2d, can_be_winograd, winograd_convolutions

__all__ = [
    "Adaptation",
    "Checkpoint",
    "EpochListener",
    "EpochRow",
    "FeatureRow",
    "FirstViews",
    "Grown",
    "Judge",
    "Keep",
    "Looked",
    "Objective",
    "Ranks",
    "RateCurve",
    "Recipe",
    "RecomputedViews",
    "Samples",
    "Seen",
    "Source",
    "StoredViews",
    "TargetRow",
    "Trained",
    "WinogradConv2d",
    "as_tensor",
    "can_be_winograd",
    "chosen_training",
    "class_weights",
    "find_rate",
    "fit",
    "judge_target",
    "load_checkpoint",
    "peek_progress",
    "save_checkpoint",
    "winograd_convolutions",
]
