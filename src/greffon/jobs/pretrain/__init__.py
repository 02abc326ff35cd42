"""``greffon pretrain``: the upper stages of a network move towards photos that nobody has labelled."""

from greffon.jobs.pretrain.job import pretrain
from greffon.jobs.pretrain.result import PretrainResult
from greffon.jobs.pretrain.wishes import Pretraining

__all__ = ["PretrainResult", "Pretraining", "pretrain"]
