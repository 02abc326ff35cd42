"""The command that shows why a model says what it says: ``explain``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from greffon.cli.options import JsonOption, QuietOption
from greffon.cli.terminal import listener

__all__ = ["explain"]


def explain(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    photos: Annotated[list[str], typer.Argument(help="Files, folders or patterns.")],
    out: Annotated[Path, typer.Option(help="The folder to write: explanations.html, explanations.json, and a PNG for each photo.")],
    method: Annotated[
        str, typer.Option(help="auto, cam, gradcam, gradcam++, occlusion or integrated-gradients.")
    ] = "auto",
    label: Annotated[str, typer.Option("--class", help="The class to explain; else the most probable one of each photo.")] = "",
    nearest: Annotated[int, typer.Option(help="So many of the nearest training photos are shown beside each.")] = 6,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show which places of photos speak for a class.

    Example: greffon explain my-model new/*.jpg --out why
    """
    from greffon.jobs.explain import explain as job

    with listener(quiet) as progress:
        result = job(model, photos, out=out, method=method, label=label, nearest=nearest, progress=progress)
        for one in result.photos:
            if one.fault:
                progress.warn(f"{one.path}: {one.fault}")
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    explained = [one for one in result.photos if not one.fault]
    print(f"{result.folder / 'explanations.html'}: {len(explained)} photos by {result.method.title}")
