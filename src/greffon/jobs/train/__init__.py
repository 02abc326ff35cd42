"""``greffon train``: a folder of photos becomes a classifier."""

from greffon.jobs.train.job import TrainResult, train
from greffon.jobs.train.wishes import FineTuning

__all__ = ["FineTuning", "TrainResult", "train"]
