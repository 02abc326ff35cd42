"""``greffon adapt``: labelled photos here, unlabelled photos there."""

from greffon.jobs.adapt.above import Above
from greffon.jobs.adapt.job import adapt
from greffon.jobs.adapt.result import AdaptResult

__all__ = ["Above", "AdaptResult", "adapt"]
