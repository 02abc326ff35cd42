"""What a training run sees of the faults of its data, from figures that it has anyway."""

from __future__ import annotations

import numpy as np

from greffon.auditing.contents import Contents
from greffon.auditing.copies import copy_findings, find_copies
from greffon.auditing.findings import Finding
from greffon.auditing.labels import find_suspects
from greffon.auditing.oddities import class_findings
from greffon.auditing.whole import in_order, label_findings
from greffon.datasets import Dataset, Scan

__all__ = ["audit_training"]


def audit_training(
    given: Dataset, looked: Scan, dataset: Dataset, positions: np.ndarray, probabilities: np.ndarray
) -> tuple[Finding, ...]:
    """Probable label errors, copies in several splits of the user's own, classes with few photos or very unequal ones.

    Parameters
    ----------
    given
        As it was read.
    looked
        What the scan left of it.
    dataset
        The images of ``looked``, in their order, with the classes that were learned.
    positions, probabilities
        int64 (k,): images that were held out, of the training and of the test; float64 (k, c): what was said of them.
    """
    position = {path: i for i, path in enumerate(looked.dataset.paths)}
    position |= {copy: position[original] for copy, original in looked.repeated}
    contents = Contents(given, looked, np.array([position.get(path, -1) for path in given.paths], np.int64), looked.dataset.labels)
    column = {name: i for i, name in enumerate(given.classes)}
    spread = np.zeros((len(dataset), len(given.classes)))
    columns = np.array([column[name] for name in dataset.classes], np.int64)
    spread[positions[:, None], columns] = probabilities
    # A class that a fold could not learn has no probability: its images say nothing about their label.
    judged = np.zeros(len(dataset), bool)
    judged[positions] = spread[positions, contents.labels[positions]] > 0
    sets = [one for one in find_copies(contents, looked.groups) if one.across == "splits"]
    root = given.root if given.root.is_dir() else given.root.parent
    return in_order(
        [
            *copy_findings(contents, sets, None, root),
            *label_findings(contents, find_suspects(spread, contents.labels, judged), spread),
            *class_findings(given.classes, contents.labels, looked.groups),
        ]
    )
