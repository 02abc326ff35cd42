"""The command that looks for faults in photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greffon.cli.options import (
    BackboneOption,
    ExcludeOption,
    JsonOption,
    PrecisionOption,
    QuietOption,
    SizeOption,
    WeightsOption,
)
from greffon.cli.terminal import interval_of, listener, percent

if TYPE_CHECKING:
    from greffon.jobs.audit import AuditResult

__all__ = ["audit", "audit_lines"]


def audit(
    data: Annotated[Path, typer.Argument(help="Photos, as for train; labels are not needed.")],
    out: Annotated[Path, typer.Option(help="The folder to write: audit.json, audit.csv, audit.html.")],
    fix: Annotated[
        str, typer.Option(help="quarantine: write exclude.csv too, for train --exclude. Nothing is moved.")
    ] = "",
    backbone: BackboneOption = "vgg16",
    weights: WeightsOption = None,
    size: SizeOption = 0,
    exclude: ExcludeOption = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed finds the same.")] = 0,
    precision: PrecisionOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Look for faults in photos: copies, probable label errors, outliers, signs of a shortcut.

    Example: greffon audit photos/ --out audit --fix quarantine
    """
    from greffon.cli.terminal import out as console
    from greffon.jobs.audit import audit as job

    with listener(quiet) as progress:
        result = job(data, out=out, fix=fix, backbone=backbone, weights=weights, size=size, exclude=exclude, seed=seed,
                     precision=precision, progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    for line in audit_lines(result):
        console().print(line, markup=False, soft_wrap=True) if isinstance(line, str) else console().print(line)


def audit_lines(result: AuditResult, most: int = 10) -> list[Any]:
    """What is printed of an audit: the kinds of faults, the labels that are the most probably wrong, and where to look."""
    from rich.markup import escape
    from rich.table import Table

    from greffon.auditing import KINDS

    figures, told = result.to_dict(), result.audit
    lines: list[Any] = [f"{figures['files']} files, {figures['contents']} different contents, {len(figures['images_by_class'])} classes"]
    table = Table()
    table.add_column("found")
    table.add_column("how many", justify="right")
    table.add_column("what to do")
    for kind, count in told.counts().items():
        table.add_row(KINDS[kind].title, str(count), KINDS[kind].advice)
    lines.append(table if table.row_count else "nothing was found")
    lines += [f"note: {one}" for one in told.notes]
    for one in told.findings:
        if one.kind in ("shortcut", "confused-classes", "imbalance", "small-images"):
            about = f"{one.label}, {one.suggested}: " if one.suggested else ""
            lines.append(f"{KINDS[one.kind].title}: {about}{one.reason}")
    wrong = [one for one in told.findings if one.kind == "label-error"][:most]
    if wrong:
        suspects = Table(title=f"The labels that are the most probably wrong ({len(wrong)} of {told.counts()['label-error']})",
                         title_justify="left")  # fmt: skip
        for name in ("photo", "label", "suggested"):
            suspects.add_column(name)
        suspects.add_column("suspicion", justify="right")
        for one in wrong:
            suspects.add_row(escape(str(one.path)), escape(one.label), escape(one.suggested), f"{one.score:.3f}")
        lines.append(suspects)
    labels = figures["labels"]
    if labels:
        lines.append(f"out of fold, {percent(labels['agreement'])} of {labels['judged']} labels are the most probable class"
                     f" (95 % interval {interval_of(labels['agreement_interval'])})")  # fmt: skip
    where = f"look: {result.folder / 'audit.html'}    act: {result.folder / 'audit.csv'}" if result.folder else ""
    if result.folder and result.fixed:
        where += f"    train without {len(figures['excluded'])} files: --exclude {result.folder / 'exclude.csv'}"
    lines.append(f"{where}    {result.seconds_of_audit:.1f} s after the pass, {result.seconds:.1f} s in all".lstrip())
    return lines
