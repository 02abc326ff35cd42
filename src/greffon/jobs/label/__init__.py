"""``greffon label``: a few labelled photos, and just these unlabelled ones of the same kind."""

from greffon.jobs.label.job import label
from greffon.jobs.label.result import LabelledPhoto, LabelResult

__all__ = ["LabelResult", "LabelledPhoto", "label"]
