"""The gradient loop over stored activations, and what it is made of."""

from greffon.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from greffon.training.finder import RateCurve, find_rate
from greffon.training.grown import Grown
from greffon.training.loop import EpochRow, Samples, Trained, class_weights, fit
from greffon.training.recipe import Recipe
from greffon.training.source import FirstViews, RecomputedViews, Source, StoredViews, as_tensor
from greffon.training.winograd import WinogradConv2d, can_be_winograd, winograd_convolutions

__all__ = [
    "Checkpoint",
    "EpochRow",
    "FirstViews",
    "Grown",
    "RateCurve",
    "Recipe",
    "RecomputedViews",
    "Samples",
    "Source",
    "StoredViews",
    "Trained",
    "WinogradConv2d",
    "as_tensor",
    "can_be_winograd",
    "class_weights",
    "find_rate",
    "fit",
    "load_checkpoint",
    "save_checkpoint",
    "winograd_convolutions",
]
