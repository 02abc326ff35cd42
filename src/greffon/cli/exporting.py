"""The command that takes a model out of greffon: ``export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from greffon.cli.options import JsonOption, QuietOption
from greffon.cli.terminal import listener

__all__ = ["export"]


def export(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    out: Annotated[Path, typer.Option(help="The folder to write: the file, export.json and run.py.")],
    to: Annotated[str, typer.Option(help="onnx, openvino or torch.")] = "onnx",
    precision: Annotated[str, typer.Option(help="Of the network: float32, float16 or int8.")] = "float32",
    check: Annotated[
        list[str] | None, typer.Option(help="Photos to compare the file with the model on: a file, folder or pattern; may be repeated.")
    ] = None,
    calibrate: Annotated[
        list[str] | None, typer.Option(help="Photos that the ranges of int8 are taken from; else half of those of --check.")
    ] = None,
    maps: Annotated[bool, typer.Option("--maps/--no-maps", help="Class activation maps as an output, where they are exact.")] = True,
    examples: Annotated[
        bool, typer.Option("--examples/--no-examples", help="What the model remembers of its training photos, if it does, goes along.")
    ] = True,
    tolerance: Annotated[float, typer.Option(help="The most that a probability may be off; 0: as usual in the precision.")] = 0.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a model as one file that takes raw photos, and keep it only if it agrees with the model.

    Example: greffon export my-model --to onnx --out exported --check photos/
    """
    from greffon.cli.terminal import out as console
    from greffon.jobs.export import export as job

    with listener(quiet) as progress:
        result = job(model, out=out, to=to, precision=precision, check=check or (), calibrate=calibrate or (), maps=maps,
                     examples=examples, tolerance=tolerance, progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    for one in result.parity.undecided:
        console().print(f"undecided: {one.image}: {one.file} instead of {one.model}, {one.gap:.2g} apart", markup=False)
    console().print(f"{result.folder / result.files[0]}: {result.bytes / 1e6:,.1f} MB, {result.precision}; {result.parity}",
                    markup=False, soft_wrap=True)  # fmt: skip
    program = result.folder / result.files[-1]
    console().print(f"python {program} PHOTO...   says what is on photos, without greffon", markup=False, soft_wrap=True)
