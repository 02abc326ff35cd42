"""What ``greffon audit`` found: as JSON, as a table to act on, and as a page to look at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Choice
from greffon.auditing import KINDS, LOOKS, Audit
from greffon.datasets import path_in_table
from greffon.errors import OptionError
from greffon.metrics import wilson_interval
from greffon.model import versions, write_json
from greffon.progress import Progress
from greffon.report import audit_report, write_table

__all__ = ["AuditResult", "write_audit"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class AuditResult:
    """The findings, and how they came about.

    Parameters
    ----------
    folder
        What was written into, or None.
    audit
        The findings.
    plan
        Of the engine.
    fixed
        ``"quarantine"`` or "".
    computed, reused
        Records of the frozen part that were computed, and that were known.
    seconds_of_audit, seconds
        Without the pass and the look at the files, and of all of it.
    """

    folder: Path | None
    audit: Audit
    backbone: str
    plan: Choice
    seed: int
    fixed: str
    computed: int
    reused: int
    seconds_of_audit: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: ``audit.json``."""
        told = self.audit
        contents = told.contents
        dataset = contents.dataset
        counts = np.bincount(contents.labels[contents.labels >= 0], minlength=len(dataset.classes))
        return {
            "data": str(dataset.root),
            "files": len(dataset),
            "contents": len(contents),
            "images_by_class": {name: int(count) for name, count in zip(dataset.classes, counts, strict=True)},
            "counts": told.counts(),
            "notes": list(told.notes),
            "findings": [one.to_dict() for one in told.findings],
            "copies": [
                {"files": [path_in_table(dataset.paths[i]) for i in one.files], "exact": one.exact, "across": one.across}
                for one in told.copies
            ],
            "labels": self._labels(),
            "confused": list(self._pairs()),
            "shortcuts": [
                {
                    "cue": one.name,
                    "class": dataset.classes[one.label],
                    "found": one.found,
                    "others": one.others,
                    "informedness": one.informedness,
                    "interval": list(one.interval),
                    "p_value": None if math.isnan(one.p_value) else one.p_value,
                    "telling": one.telling,
                }
                for one in told.cues
            ],
            "excluded": [path_in_table(path) for path in told.excluded()],
            "backbone": self.backbone,
            "plan": self.plan.to_dict(),
            "seed": self.seed,
            "versions": versions(),
            "seconds_of_audit": round(self.seconds_of_audit, 2),
            "seconds": round(self.seconds, 2),
        }

    def _labels(self) -> dict[str, Any] | None:
        one = self.audit.labelling
        if one is None:
            return None
        return {
            "judged": one.n,
            "agree": one.right,
            "agreement": one.right / one.n if one.n else None,
            "agreement_interval": list(wilson_interval(one.right, one.n)),
            "suspects": int(one.suspects.suspected.sum()),
            "confident_suspects": int(one.suspects.confident.sum()),
            "estimated_errors": one.suspects.estimated,
            "confident_joint": one.suspects.joint.tolist(),
            "heads": [{"features": str(look), "strength": c} for look, c in zip(LOOKS, one.guesses.strengths, strict=True)],
        }

    def _pairs(self, most: int = 50) -> Iterator[dict[str, Any]]:
        classes = self.audit.contents.dataset.classes
        for one in (self.audit.labelling.pairs if self.audit.labelling else ())[:most]:
            yield {
                "classes": [classes[one.first], classes[one.second]],
                "n": list(one.n),
                "mistaken": list(one.mistaken),
                "separation": one.separation,
                "interval": list(one.interval),
            }


def write_audit(result: AuditResult, listener: Progress) -> None:
    """Everything into the folder; ``audit.csv``, by which it is known as ours, first.

    Raises OptionError or ModelError where something cannot be written.
    """
    folder = result.folder
    if folder is None:
        raise OptionError("write_audit: needs a folder to write into, got None")
    columns = ("path", "finding", "class", "suggested", "score", "reason")
    told = result.audit
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rows = ((path_in_table(one.path), one.kind, one.label, one.suggested, f"{one.score:.4f}", one.reason)
                for one in told.findings if one.path is not None)  # fmt: skip
        write_table(folder / "audit.csv", columns, rows)
        write_json(folder / "audit.json", result.to_dict())
        if result.fixed == "quarantine":
            listed = told.excluded().items()
            write_table(folder / "exclude.csv", columns, (
                (path_in_table(path), one.kind, one.label, one.suggested, f"{one.score:.4f}", one.reason) for path, one in listed
            ))  # fmt: skip
    except OSError as error:
        raise OptionError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    listener.say("writing audit.html")
    audit_report(folder / "audit.html", told, KINDS, result.to_dict())
