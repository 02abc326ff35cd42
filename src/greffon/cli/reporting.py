"""``greffon report``: a page on what a model can, where it fails, and how it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from greffon.cli.options import ExcludeOption, JsonOption, LangOption, QuietOption
from greffon.cli.terminal import listener

__all__ = ["report"]


def report(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    data: Annotated[Path, typer.Argument(help="Labelled photos; of those that it was trained on, the test split is drawn again.")],
    out: Annotated[Path, typer.Option(help="The .html file to write.")],
    lang: LangOption = "en",
    heat: Annotated[bool, typer.Option(help="Heat maps of the worst mistakes.")] = True,
    exclude: ExcludeOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write the report of a model on labelled photos: one page to look at, in English or French.

    Example: greffon report my-model photos/ --out report.html --lang fr
    """
    from greffon.cli.terminal import accuracy_line
    from greffon.cli.terminal import out as console
    from greffon.jobs.report import report as job

    with listener(quiet) as progress:
        result = job(model, data, out=out, lang=lang, heat=heat, exclude=exclude, progress=progress)
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    console().print(accuracy_line(result.evaluation), markup=False)
    console().print(f"report: {result.file}    {result.seconds:.1f} s", markup=False)
