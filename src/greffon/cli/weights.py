"""``greffon weights ...``: the commands for weight files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from greffon.cli.terminal import listener

__all__ = ["export", "import_", "list_", "show", "verify", "weights"]

weights = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Weight files: import, list, show, verify, export.")

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@weights.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Keras, Caffe, NumPy, PyTorch, safetensors or ONNX, told from its content.")],
    network: Annotated[str, typer.Option("--as", help="The network that they belong to; empty: found out.")] = "",
    name: Annotated[str, typer.Option(help="What to call it, where the weights are not the published ones.")] = "",
    preprocess: Annotated[
        str, typer.Option(help="How images are prepared: caffe, torch, tf, a backbone's name, or a JSON file.")
    ] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace an imported network of that name.")] = False,
    as_json: _Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes; warnings alone.")] = False,
) -> None:
    """Read a weight file of any known format, tell what it holds, and make it known under a name.

    Example: greffon weights import vgg16.npy --as vgg16
    """
    from greffon.cli.terminal import out as console
    from greffon.cli.weight_tables import import_lines
    from greffon.jobs.weights import import_weights as job

    with listener(quiet) as progress:
        result = job(file, network=network, name=name, preprocess=preprocess, replace_old=replace, progress=progress)
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    for line in import_lines(result):
        console().print(line, markup=False, highlight=False, soft_wrap=True)


@weights.command("list")
def list_(as_json: _Json = False) -> None:
    """List the weights on this machine, published and imported.

    Example: greffon weights list
    """
    from greffon.cli.terminal import out as console
    from greffon.cli.weight_tables import stored_table
    from greffon.jobs.weights import list_weights as job

    found = job()
    if as_json:
        for one in found:
            print(json.dumps(one.to_dict(), ensure_ascii=False))
        return
    console().print(stored_table(found))


@weights.command()
def show(name: Annotated[str, typer.Argument(help="As 'weights list' has it.")], as_json: _Json = False) -> None:
    """Show the weights of a network tensor by tensor, where they come from, and their preprocessing.

    Example: greffon weights show vgg16
    """
    from greffon.cli.terminal import out as console
    from greffon.cli.weight_tables import tensor_table
    from greffon.jobs.weights import show_weights as job

    found = job(name)
    if as_json:
        print(json.dumps(found.to_dict(), ensure_ascii=False))
        return
    for line in tensor_table(found):
        console().print(line, markup=False, soft_wrap=True) if isinstance(line, str) else console().print(line)


@weights.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="As 'weights list' has them; none: all.")] = None,
    as_json: _Json = False,
) -> None:
    """Compute the fingerprints of weights again. Exit code 2 where one is damaged.

    Example: greffon weights verify
    """
    from greffon.jobs.weights import verify_weights as job

    found = job(names or [])
    for one in found:
        told = f"{one.name}: {one.fault or f'whole, fingerprint {one.fingerprint[:16]}…'}"
        print(json.dumps(one.to_dict(), ensure_ascii=False) if as_json else told)
    if any(one.fault for one in found):
        raise typer.Exit(2)


@weights.command()
def export(
    name: Annotated[str, typer.Argument(help="As 'weights list' has it.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    to: Annotated[str, typer.Option(help="safetensors, torch, torchvision, keras-h5 or npy.")] = "safetensors",
) -> None:
    """Write the weights of a network into a file for other programs.

    Example: greffon weights export vgg16 --to keras-h5 --out vgg16.h5
    """
    from greffon.jobs.weights import export_weights as job

    print(job(name, out, to=to))
