"""``greffon curve``: would more photos help?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from greffon.cli.options import (
    BackboneOption,
    ExcludeOption,
    JsonOption,
    PrecisionOption,
    QuietOption,
    SeedOption,
    SizeOption,
    WeightsOption,
)
from greffon.cli.terminal import listener

__all__ = ["curve"]


def curve(
    data: Annotated[Path, typer.Argument(help="Labelled photos, as for train. A test split is not looked at.")],
    backbone: BackboneOption = "vgg16",
    weights: WeightsOption = None,
    size: SizeOption = 0,
    head: Annotated[str, typer.Option(help="logistic, svm, ridge, centroid or knn.")] = "logistic",
    repeats: Annotated[int, typer.Option(help="How often the photos are dealt into folds.")] = 4,
    seed: SeedOption = 0,
    precision: PrecisionOption = "auto",
    exclude: ExcludeOption = None,
    out: Annotated[Path | None, typer.Option(help="A folder for curve.json, curve.png and curve.svg.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show how the accuracy grows with the number of photos, and foretell what twice as many would bring.

    Example: greffon curve photos/ --out curve
    """
    from greffon.cli.evaluation_tables import growth_table
    from greffon.cli.terminal import out as console
    from greffon.jobs.curve import curve as job

    with listener(quiet) as progress:
        result = job(data, backbone=backbone, weights=weights, size=size, head=head, repeats=repeats, seed=seed,
                     precision=precision, exclude=exclude, out=out, progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    growth = result.growth
    console().print(f"{result.backbone}: {growth.repeats} × {growth.folds} folds over {growth.images} images ({result.recipe})",
                    markup=False)  # fmt: skip
    console().print(growth_table(result))
    console().print(growth.sentence, markup=False, soft_wrap=True)
    if result.files:
        console().print(" ".join(str(file) for file in result.files), markup=False, soft_wrap=True)
