"""Faults of the data: what a person should look at before a model is trained on it."""

from greffon.auditing.contents import Contents, by_content
from greffon.auditing.copies import CopySet, copy_findings, find_copies
from greffon.auditing.findings import KINDS, Finding, Kind
from greffon.auditing.labels import Suspects, confident_joint, find_suspects, suspicion
from greffon.auditing.oddities import is_grey, robust_scores
from greffon.auditing.predicting import LOOKS, Guesses, guess_out_of_fold
from greffon.auditing.separating import ClassPair, informedness, separations
from greffon.auditing.shortcuts import CUES, Cue, cues_of, measure_cues
from greffon.auditing.training import audit_training
from greffon.auditing.whole import Audit, Labelling, audit_contents, in_order, label_findings

__all__ = [
    "CUES",
    "KINDS",
    "LOOKS",
    "Audit",
    "ClassPair",
    "Contents",
    "CopySet",
    "Cue",
    "Finding",
    "Guesses",
    "Kind",
    "Labelling",
    "Suspects",
    "audit_contents",
    "audit_training",
    "by_content",
    "confident_joint",
    "copy_findings",
    "cues_of",
    "find_copies",
    "find_suspects",
    "guess_out_of_fold",
    "in_order",
    "informedness",
    "is_grey",
    "label_findings",
    "measure_cues",
    "robust_scores",
    "separations",
    "suspicion",
]
