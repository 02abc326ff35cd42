"""``greffon describe``, ``backbones``, ``cache`` and ``views``: what there is, before anything is trained."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from greffon.cli.options import BackboneOption, JsonOption, SizeOption
from greffon.settings import cache_root

__all__ = ["backbones", "cache", "describe", "views"]


def describe(
    names: Annotated[list[str], typer.Argument(help="Backbones; two or more are put side by side.")],
    size: SizeOption = 0,
    svg: Annotated[Path | None, typer.Option(help="Draw them into this SVG file.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw them into this PNG file.")] = None,
    cut: Annotated[str | None, typer.Option(help="Mark the cut below this stage in the drawing.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a network's stages: output shapes, parameters, multiply-adds, receptive field.

    Example: greffon describe vgg16 vgg19 --png vgg.png --cut block5
    """
    from dataclasses import asdict

    from greffon.cli.terminal import description_table, side_by_side_table
    from greffon.cli.terminal import out as console
    from greffon.jobs.describe import describe as job
    from greffon.jobs.describe import draw_into

    found = [job(name, size=size) for name in names]
    for file in draw_into(found, svg=svg, png=png, cut=cut):
        print(file, file=sys.stderr)
    if as_json:
        for one in found:
            print(json.dumps(asdict(one)))
        return
    for one in found:
        console().print(description_table(one))
    if len(found) > 1:
        console().print(side_by_side_table(found))


def backbones(
    pattern: Annotated[str, typer.Argument(help="A part of the name, or a pattern such as 'resnet*'.")] = "*",
    as_json: JsonOption = False,
) -> None:
    """List the networks that can be used.

    Example: greffon backbones vgg
    """
    from dataclasses import asdict

    from rich.table import Table

    from greffon.cli.terminal import out as console
    from greffon.jobs.backbones import backbones as job

    rows = job(pattern)
    if as_json:
        for row in rows:
            print(json.dumps(asdict(row)))
        return
    table = Table()
    for column in ("name", "input", "weights", "licence", "on this machine"):
        table.add_column(column)
    for row in rows:
        table.add_row(row.name, str(row.size), row.weights_of, row.licence, "yes" if row.here else "")
    console().print(table)


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete the stored activations.")] = False,
    backbone: Annotated[str, typer.Option(help="With --clear: of this backbone alone.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show what is stored on disk, or delete it. Weights are kept.

    Example: greffon cache --clear --backbone vgg16
    """
    from greffon.cli.terminal import out as console
    from greffon.jobs.cache import cache as job
    from greffon.jobs.cache import clear_cache

    if clear:
        print(f"freed {clear_cache(backbone) / 2**20:,.1f} MiB")
        return
    shelves = job()
    if as_json:
        for shelf in shelves:
            print(json.dumps({"folder": str(shelf.folder), "backbone": shelf.backbone, "view": shelf.view, "tap": shelf.tap,
                              "engine": shelf.engine, "records": shelf.records, "bytes": shelf.bytes}))  # fmt: skip
        return
    from rich.table import Table

    table = Table(title=str(cache_root()), title_justify="left")
    for column in ("backbone", "view", "what", "engine"):
        table.add_column(column)
    for column in ("images", "MiB"):
        table.add_column(column, justify="right")
    for shelf in shelves:
        engine = shelf.engine if len(shelf.engine) <= 40 else f"{shelf.engine[:39]}…"  # the whole of it: --json
        table.add_row(
            shelf.backbone, shelf.view, shelf.tap, engine, f"{shelf.records:,}", f"{shelf.bytes / 2**20:,.1f}"
        )
    console().print(table)


def views(
    photo: Annotated[Path, typer.Argument(help="An image file.")],
    out: Annotated[Path, typer.Option(help="The PNG file to write.")],
    policy: Annotated[str, typer.Option(help="none, flip, light, standard or strong.")] = "standard",
    count: Annotated[int, typer.Option(min=1, max=256, help="Views, the plain one included.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other views.")] = 0,
    backbone: BackboneOption = "vgg16",
    size: SizeOption = 0,
) -> None:
    """Draw the augmented views of a photo, as a network gets them. The first is the photo itself.

    Example: greffon views photo.jpg --out views.png --policy strong
    """
    from greffon.jobs.views import views as job

    result = job(photo, out=out, policy=policy, count=count, seed=seed, backbone=backbone, size=size)
    print(
        f"{result.file}: {', '.join(view.name for view in result.views)}; {result.height} × {result.width} pixels each"
    )
