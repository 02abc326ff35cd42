"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AbstainOption",
    "BackboneOption",
    "ExcludeOption",
    "FoldsOption",
    "JsonOption",
    "LangOption",
    "PrecisionOption",
    "QuietOption",
    "SeedOption",
    "SetsOption",
    "SizeOption",
    "ViewsOption",
    "WeightsOption",
]

BackboneOption = Annotated[str, typer.Option(help="A network of 'greffon backbones', or a model folder.")]
WeightsOption = Annotated[Path | None, typer.Option(help="A weight file, instead of looking for one.")]
SizeOption = Annotated[
    int, typer.Option(min=0, max=4096, help="Pixels that the network sees; 0: what it was trained with.")
]
PrecisionOption = Annotated[str, typer.Option(help="Of the frozen part: auto, int8, bfloat16 or float32.")]
ViewsOption = Annotated[
    int, typer.Option(min=1, max=64, help="Average over so many views of each photo: itself, mirrored, crops.")
]
ExcludeOption = Annotated[
    Path | None, typer.Option(help="A list of files to leave out: exclude.csv of audit --fix quarantine.")
]
FoldsOption = Annotated[int, typer.Option(help="Of the cross-validation; every class needs as many images.")]
SeedOption = Annotated[int, typer.Option(min=0, help="The same seed gives the same folds.")]
SetsOption = Annotated[
    float, typer.Option(help="Sets of classes that hold the true one so often: 0.9, say. They may be empty. 0: none.")
]
AbstainOption = Annotated[
    float,
    typer.Option(
        metavar="[SHARE]",
        help="Say \"I don't know\" of photos unlike the training's: answer so many of the known kind; 0.95 without a number. 0: all.",
    ),
]
LangOption = Annotated[str, typer.Option(help="Of the report: en or fr.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No bars and no notes; warnings alone.")]
