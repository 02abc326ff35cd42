"""``greffon suggest``: the command that asks for labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from greffon.cli.options import BackboneOption, JsonOption, PrecisionOption, QuietOption, SizeOption, WeightsOption
from greffon.cli.terminal import listener

if TYPE_CHECKING:
    from greffon.jobs.suggest import SuggestResult

__all__ = ["suggest"]


def suggest(
    photos: Annotated[Path, typer.Argument(help="Photos without labels: a folder, however deep, or a table.")],
    out: Annotated[Path, typer.Option(help="The folder to write: suggestions.csv, .html to label in, .png.")],
    budget: Annotated[int, typer.Option(help="How many photos are to be labelled next.")] = 50,
    labelled: Annotated[
        list[Path] | None,
        typer.Option(
            "--labelled", "--labels", help="What is labelled so far: a folder per class, or a table that was filled in. May be repeated."
        ),
    ] = None,
    backbone: BackboneOption = "vgg16",
    weights: WeightsOption = None,
    size: SizeOption = 0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same suggestions.")] = 0,
    precision: PrecisionOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say which photos are worth labelling first, and make a page to label them in.

    Example: greffon suggest photos/ --budget 50 --out to-label
    """
    from greffon.cli.terminal import out as console
    from greffon.jobs.suggest import suggest as job

    with listener(quiet) as progress:
        result = job(photos, out=out, budget=budget, labelled=labelled or (), backbone=backbone, weights=weights, size=size, seed=seed,
                     precision=precision, progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    for line in _lines(result):
        console().print(line, markup=False)


def _lines(result: SuggestResult, most: int = 5) -> list[str]:
    """What is printed after photos were suggested."""
    given = result.labelled_by_class()
    lines = []
    if given:
        some = ", ".join(f"{name} {count}" for name, count in list(given.items())[:12])
        lines.append(f"labelled so far: {some}{' and others' if len(given) > 12 else ''}")
    lines += [f"{one.rank:>4}  {one.path}  ({one.why})" for one in result.photos[:most]]
    if len(result.photos) > most:
        lines.append(f"      and {len(result.photos) - most} more")
    lines.append(f"{len(result.photos)} of {result.pool} photos are worth labelling first"
                 + (f"; {len(result.unreadable)} unreadable" if result.unreadable else ""))  # fmt: skip
    lines.append(f"label in: {result.folder / 'suggestions.html'}    or fill in: {result.folder / 'suggestions.csv'}"
                 f"    {result.seconds:.1f} s")  # fmt: skip
    return lines
