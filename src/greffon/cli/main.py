"""The commands. Each one's docstring is its page; an example stands in each."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from greffon.cli.terminal import Terminal
from greffon.errors import GreffonError

__all__ = ["app", "backbones", "cache", "describe", "embed", "evaluate", "main", "predict", "train"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Transfer learning for image classification: a trained CNN is kept, and a small new part is grown on it.",
)

_Backbone = Annotated[str, typer.Option(help="A network of 'greffon backbones', or a model folder.")]
_Weights = Annotated[Path | None, typer.Option(help="A weight file, instead of looking for one.")]
_Size = Annotated[int, typer.Option(min=0, max=4096, help="Pixels that the network sees; 0: what it was trained with.")]
_Precision = Annotated[str, typer.Option(help="Of the frozen part: auto, int8, bfloat16 or float32.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No bars and no notes; warnings alone.")]


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="A folder per class, train/val/test folders, or a CSV or Parquet file.")],
    out: Annotated[Path, typer.Option(help="The model folder to write.")],
    backbone: _Backbone = "vgg16",
    weights: _Weights = None,
    size: _Size = 0,
    unfreeze: Annotated[str, typer.Option(help="none: feature extraction.")] = "none",
    head: Annotated[str, typer.Option(help="logistic, svm, ridge, centroid or knn.")] = "logistic",
    pool: Annotated[str, typer.Option(help="auto, mean, max, mean+max or flatten.")] = "auto",
    stages: Annotated[str, typer.Option(help="auto, last or all: whose outputs are the features.")] = "auto",
    norm: Annotated[str, typer.Option(help="auto, standard, l2 or sqrt-l2.")] = "auto",
    class_weights: Annotated[str, typer.Option(help="auto, balanced or none.")] = "auto",
    split: Annotated[
        str, typer.Option(help="Shares of train, val and test, where the data has no split.")
    ] = "0.7,0.15,0.15",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")] = 0,
    precision: _Precision = "auto",
    min_fidelity: Annotated[
        float, typer.Option(min=0, max=1, help="The least cosine to float32 with which a cheaper precision is used.")
    ] = 0.999,
    slim: Annotated[bool, typer.Option("--slim", help="Leave the frozen stages out of the model folder.")] = False,
    quiet: _Quiet = False,
) -> None:
    """Train a classifier on labelled photos.

    Example: greffon train photos/ --out my-model
    """
    from greffon.cli.terminal import out as console
    from greffon.cli.terminal import train_summary
    from greffon.errors import OptionError
    from greffon.jobs.train import train as job

    try:
        fractions = tuple(float(part) for part in split.split(","))
    except ValueError as error:
        raise OptionError(f"--split must be three numbers such as 0.7,0.15,0.15, got {split!r}") from error
    with _listener(quiet) as progress:
        result = job(
            data,
            out=out,
            backbone=backbone,
            weights=weights,
            size=size,
            unfreeze=unfreeze,
            head=head,
            pool=pool,
            stages=stages,
            norm=norm,
            class_weights=class_weights,
            fractions=fractions,
            seed=seed,
            precision=precision,
            min_fidelity=min_fidelity,
            slim=slim,
            progress=progress,
        )
    for line in train_summary(result):
        console().print(line, markup=False) if isinstance(line, str) else console().print(line)
    console().print(f"model: {out}    report: {out / 'report.html'}    {result.seconds:.1f} s", markup=False)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    images: Annotated[list[str], typer.Argument(help="Files, folders, patterns, or - for a list on standard input.")],
    as_json: _Json = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV: path, label, probability, one column a class.")
    ] = False,
    precision: Annotated[str, typer.Option(help="exact (float32) or bfloat16 instead of the training's.")] = "",
    quiet: _Quiet = False,
) -> None:
    """Say what is on photos.

    Example: greffon predict my-model new/*.jpg --json
    """
    from greffon.jobs.predict import predict as job

    names = [line for name in images for line in (_lines_of_stdin() if name == "-" else [name])]
    failed = 0
    with _listener(quiet) as progress:
        guesses = job(model, names, precision=precision, progress=progress)
        writer = csv.writer(sys.stdout)
        for number, guess in enumerate(guesses):
            failed += bool(guess.fault)
            if as_json:
                print(json.dumps(guess.to_dict(), ensure_ascii=False))
                continue
            if guess.fault:
                progress.warn(f"{guess.path}: {guess.fault}")
                continue
            if as_csv:
                if number == failed:
                    writer.writerow(["path", "label", "probability", *guess.probabilities])
                writer.writerow([guess.path, guess.label, guess.probability, *guess.probabilities.values()])
            else:
                others = sorted(guess.probabilities.items(), key=lambda item: -item[1])[1:3]
                rest = ", ".join(f"{name} {100 * p:.1f} %" for name, p in others)
                print(f"{guess.path}\t{guess.label}\t{100 * guess.probability:.1f} %\t({rest})")
    if failed and failed == len(names):
        raise typer.Exit(2)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    data: Annotated[Path, typer.Argument(help="Labelled photos: their test split, or all where there is none.")],
    as_json: _Json = False,
    precision: Annotated[
        str, typer.Option(help="exact: in float32, telling what the training's precision changes; or bfloat16.")
    ] = "",
    quiet: _Quiet = False,
) -> None:
    """Measure a model on labelled photos that it has not seen.

    Example: greffon evaluate my-model other-photos/
    """
    from greffon.cli.terminal import accuracy_line, difference_line, evaluation_tables
    from greffon.cli.terminal import out as console
    from greffon.jobs.evaluate import evaluate as job

    with _listener(quiet) as progress:
        result = job(model, data, precision=precision, progress=progress)
    if as_json:
        unreadable = [{"path": str(path), "reason": reason} for path, reason in result.unreadable]
        figures = {**result.evaluation.to_dict(), "unreadable": unreadable}
        if result.difference is not None:
            figures["difference"] = result.difference.to_dict()
        print(json.dumps(figures, ensure_ascii=False))
        return
    for table in evaluation_tables(result.evaluation):
        console().print(table)
    console().print(accuracy_line(result.evaluation), markup=False)
    if result.difference is not None:
        console().print(difference_line(result.difference), markup=False)


@app.command()
def embed(
    data: Annotated[Path, typer.Argument(help="Photos, with or without labels.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write: path, label, features.")],
    backbone: _Backbone = "vgg16",
    weights: _Weights = None,
    size: _Size = 0,
    stages: Annotated[str, typer.Option(help="last or all.")] = "last",
    pool: Annotated[str, typer.Option(help="mean, max, mean+max or flatten.")] = "mean",
    precision: _Precision = "auto",
    quiet: _Quiet = False,
) -> None:
    """Write the features of photos to a Parquet file.

    Example: greffon embed photos/ --out features.parquet
    """
    from greffon.jobs.embed import embed as job

    with _listener(quiet) as progress:
        result = job(data, out=out, backbone=backbone, weights=weights, size=size, stages=stages, pool=pool,
                     precision=precision, progress=progress)  # fmt: skip
    print(f"{result.file}: {result.images} rows of {result.features} features")


@app.command()
def describe(
    names: Annotated[list[str], typer.Argument(help="Backbones.")],
    size: _Size = 0,
    svg: Annotated[Path | None, typer.Option(help="Draw them into this SVG file.")] = None,
    cut: Annotated[str | None, typer.Option(help="Mark the cut below this stage in the drawing.")] = None,
    as_json: _Json = False,
) -> None:
    """Show a network's stages: output shapes, parameters, multiply-adds, receptive field.

    Example: greffon describe vgg16 vgg19 --svg vgg.svg --cut block5
    """
    from dataclasses import asdict

    from greffon.backbones.drawing import draw
    from greffon.cli.terminal import description_table
    from greffon.cli.terminal import out as console
    from greffon.errors import OptionError
    from greffon.jobs.describe import describe as job

    found = [job(name, size=size) for name in names]
    if svg is not None:
        try:
            svg.write_text(draw(found, cut=cut), encoding="utf-8")
        except OSError as error:
            raise OptionError(f"--svg {svg}: cannot be written ({error.strerror})") from error
    for one in found:
        if as_json:
            print(json.dumps(asdict(one)))
        else:
            console().print(description_table(one))


@app.command()
def backbones(
    pattern: Annotated[str, typer.Argument(help="A part of the name, or a pattern such as 'resnet*'.")] = "*",
    as_json: _Json = False,
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


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete the stored activations.")] = False,
    backbone: Annotated[str, typer.Option(help="With --clear: of this backbone alone.")] = "",
    as_json: _Json = False,
) -> None:
    """Show what is stored on disk, or delete it. Weights are kept.

    Example: greffon cache --clear --backbone vgg16
    """
    from greffon.cli.terminal import out as console
    from greffon.jobs.cache import cache as job
    from greffon.jobs.cache import clear_cache
    from greffon.settings import cache_root

    if clear:
        print(f"freed {clear_cache(backbone) / 2**20:,.1f} MiB")
        return
    shelves = job()
    if as_json:
        for shelf in shelves:
            print(json.dumps({"folder": str(shelf.folder), "backbone": shelf.backbone, "tap": shelf.tap, "engine": shelf.engine,
                              "records": shelf.records, "bytes": shelf.bytes}))  # fmt: skip
        return
    from rich.table import Table

    table = Table(title=str(cache_root()), title_justify="left")
    for column in ("backbone", "what", "engine"):
        table.add_column(column)
    for column in ("images", "MiB"):
        table.add_column(column, justify="right")
    for shelf in shelves:
        table.add_row(shelf.backbone, shelf.tap, shelf.engine, f"{shelf.records:,}", f"{shelf.bytes / 2**20:,.1f}")
    console().print(table)


def _lines_of_stdin() -> list[str]:
    return [line for line in (raw.rstrip("\n") for raw in sys.stdin) if line]


@contextlib.contextmanager
def _listener(quiet: bool) -> Iterator[Terminal]:
    terminal = Terminal(quiet=quiet)
    try:
        yield terminal
    finally:
        terminal.close()


def main() -> None:
    """Run the command line. Exit codes: 0, done; 2, something that the user gave is not right; 130, interrupted."""
    # The process is ours: Pillow's remarks on odd files are not for the user, who is told what matters of them;
    # nor is anything sent anywhere.
    warnings.filterwarnings("ignore", module="PIL")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # A file name that is not UTF-8 is printed with escapes, which JSON reads back as the same name.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app()
    except GreffonError as error:
        print(f"error: {error.what}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; what was computed is kept", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe has gone (head, less): no fault, and nothing more to say.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
