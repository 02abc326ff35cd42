"""``greffon evaluate``: a model on labelled photos."""

from greffon.jobs.evaluate.job import evaluate
from greffon.jobs.evaluate.result import Difference, EvaluateResult, Rival, SetFigures

__all__ = ["Difference", "EvaluateResult", "Rival", "SetFigures", "evaluate"]
