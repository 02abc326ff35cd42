"""``greffon suggest``: which photos are worth labelling first."""

from greffon.jobs.suggest.job import suggest
from greffon.jobs.suggest.result import SuggestedPhoto, SuggestResult

__all__ = ["SuggestResult", "SuggestedPhoto", "suggest"]
