"""The report of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from greffon.auditing import Finding
from greffon.datasets import Scan
from greffon.errors import DataError
from greffon.evaluation import Evaluation, Growth, measure_growth
from greffon.jobs.train.outcome import Outcome, Task
from greffon.jobs.train.searching import SEARCH_PICTURE
from greffon.model import Model
from greffon.progress import Progress
from greffon.report import RunReport, mistake_maps, run_report
from greffon.transfer.inductive import Probe

__all__ = ["REPORT_FILE", "grown", "write_report"]

#: Its name in the model folder.
REPORT_FILE = "report.html"
#: More images than this are not asked for a learning curve here: ``greffon curve`` does, and takes its time.
_MOST = 5_000


def grown(task: Task, probe: Probe, pooled: np.ndarray, fitted: np.ndarray) -> Growth | None:
    """The learning curve of a head, from the features that are there; None where nobody will see it, or it takes long.

    Parameters
    ----------
    pooled
        Records of the images that it was fitted on.
    fitted
        int64 (n,): their positions.
    """
    if task.folder is None or len(fitted) > _MOST:
        return None
    try:
        return measure_growth(
            probe.representation.take(pooled, task.network.widths()),
            task.dataset.labels[fitted],
            len(task.dataset.classes),
            task.scan.groups[fitted],
            head=probe.head.kind,
            strength=probe.strength,
            norm=probe.representation.norm,
            balanced=probe.balanced,
            repeats=1,
            seed=task.seed,
            progress=task.progress,
        )
    except DataError:  # too few images of a class
        return None


def write_report(
    folder: Path,
    model: Model,
    outcome: Outcome,
    evaluation: Evaluation | None,
    unreadable: Sequence[tuple[Path, str]],
    looked: Scan,
    findings: Sequence[Finding],
    *,
    seconds: float,
    lang: str,
    progress: Progress,
) -> None:
    """Write ``report.html``. The test images are those that it shows."""
    progress.say("writing the report")
    tested = outcome.dataset.take(outcome.test)
    report = RunReport(
        model=model,
        evaluation=evaluation,
        tested=tested,
        probabilities=outcome.probabilities,
        held_out=True,
        looked=looked,
        unreadable=tuple(unreadable),
        findings=tuple(findings),
        features=outcome.features,
        growth=outcome.growth,
        heat=mistake_maps(model, tested, outcome.probabilities, progress=progress),
        search=folder / SEARCH_PICTURE if model.training.get("search") else None,
    )
    run_report(folder / REPORT_FILE, report, lang=lang, seconds=seconds, progress=progress)
