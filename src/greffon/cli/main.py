"""The commands. Each one's docstring is its page; an example stands in each."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from greffon.cli.auditing import audit
from greffon.cli.clustering import cluster
from greffon.cli.distributing import RayOption, RayWorkersOption, executor_of, with_addresses
from greffon.cli.exporting import export
from greffon.cli.inductive import compare, probe, train
from greffon.cli.options import (
    BackboneOption,
    ExcludeOption,
    JsonOption,
    PrecisionOption,
    QuietOption,
    SetsOption,
    SizeOption,
    ViewsOption,
    WeightsOption,
)
from greffon.cli.pretraining import pretrain
from greffon.cli.searching import duplicates, index, map_photos, outliers, search
from greffon.cli.serving import serve
from greffon.cli.suggesting import suggest
from greffon.cli.terminal import listener
from greffon.cli.transductive import adapt, label
from greffon.cli.weights import weights as weights_app
from greffon.errors import GreffonError, OptionError
from greffon.settings import cache_root

__all__ = [
    "adapt",
    "app",
    "audit",
    "backbones",
    "cache",
    "classify",
    "cluster",
    "compare",
    "describe",
    "duplicates",
    "embed",
    "evaluate",
    "export",
    "index",
    "label",
    "main",
    "map_photos",
    "outliers",
    "predict",
    "pretrain",
    "probe",
    "search",
    "serve",
    "suggest",
    "train",
    "views",
]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Transfer learning for image classification: a trained CNN is kept, and a small new part is grown on it.",
)

app.add_typer(weights_app, name="weights")


app.command()(train)
app.command()(adapt)
app.command()(label)
app.command()(suggest)
app.command()(audit)
app.command()(index)
app.command()(search)
app.command()(duplicates)
app.command()(outliers)
app.command("map")(map_photos)
app.command()(cluster)
app.command()(pretrain)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    images: Annotated[list[str], typer.Argument(help="Files, folders, patterns, or - for a list on standard input.")],
    as_json: JsonOption = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV: path, label, probability, one column a class.")
    ] = False,
    precision: Annotated[str, typer.Option(help="exact (float32) or bfloat16 instead of the training's.")] = "",
    views: ViewsOption = 1,
    sets: SetsOption = 0.0,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = 0,
    quiet: QuietOption = False,
) -> None:
    """Say what is on photos.

    Example: greffon predict my-model new/*.jpg --json
    """
    from greffon.jobs.predict import predict as job

    names = [line for name in images for line in (_lines_of_stdin() if name == "-" else [name])]
    failed = 0
    with listener(quiet) as progress, executor_of(ray, ray_workers) as executor:
        guesses = job(model, names, precision=precision, views=views, sets=sets, executor=executor, progress=progress)
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
                    writer.writerow(["path", "label", "probability", *guess.probabilities, *(["set"] if sets else [])])
                held = [] if guess.classes is None else ["|".join(guess.classes)]
                writer.writerow([guess.path, guess.label, guess.probability, *guess.probabilities.values(), *held])
            else:
                others = sorted(guess.probabilities.items(), key=lambda item: -item[1])[1:3]
                rest = ", ".join(f"{name} {100 * p:.1f} %" for name, p in others)
                held = "" if guess.classes is None else f"\tset: {', '.join(guess.classes) or 'no class is sure enough'}"
                print(f"{guess.path}\t{guess.label}\t{100 * guess.probability:.1f} %\t({rest}){held}")
    if failed and failed == len(names):
        raise typer.Exit(2)


@app.command()
def classify(
    images: Annotated[list[str], typer.Argument(help="Files, folders, patterns, or - for a list on standard input.")],
    backbone: Annotated[str, typer.Option(help="A network whose weights come with its classifier.")] = "vgg16",
    weights: WeightsOption = None,
    size: SizeOption = 0,
    top: Annotated[int, typer.Option(min=1, help="So many classes of each photo.")] = 5,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Name what photos show, with the ImageNet classes that a network was trained on.

    Example: greffon classify photo.jpg --backbone efficientnet-lite0
    """
    from greffon.cli.terminal import out as console
    from greffon.cli.weight_tables import ranking_lines
    from greffon.jobs.classify import classify as job

    names = [line for name in images for line in (_lines_of_stdin() if name == "-" else [name])]
    failed = count = 0
    with listener(quiet) as progress:
        for one in job(names, backbone=backbone, weights=weights, size=size, top=top, progress=progress):
            count, failed = count + 1, failed + bool(one.fault)
            if as_json:
                print(json.dumps(one.to_dict(), ensure_ascii=False))
            elif one.fault:
                progress.warn(f"{one.path}: {one.fault}")
            else:
                for line in ranking_lines(one):
                    console().print(line, markup=False, soft_wrap=True)
    if failed and failed == count:
        raise typer.Exit(2)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    data: Annotated[Path, typer.Argument(help="Labelled photos: their test split, or all where there is none.")],
    as_json: JsonOption = False,
    precision: Annotated[
        str, typer.Option(help="exact: in float32, telling what the training's precision changes; or bfloat16.")
    ] = "",
    views: ViewsOption = 1,
    exclude: ExcludeOption = None,
    sets: SetsOption = 0.0,
    out: Annotated[Path | None, typer.Option(help="A folder for evaluation.json and the reliability diagram.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Measure a model on labelled photos that it has not seen.

    Example: greffon evaluate my-model other-photos/
    """
    from greffon.cli.terminal import accuracy_line, difference_line, evaluation_tables, sets_line
    from greffon.cli.terminal import out as console
    from greffon.jobs.evaluate import evaluate as job

    with listener(quiet) as progress:
        result = job(model, data, precision=precision, views=views, exclude=exclude, sets=sets, out=out,
                     progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    for table in evaluation_tables(result.evaluation):
        console().print(table)
    averaged = f", averaged over {views} views of each" if views > 1 else ""
    console().print(accuracy_line(result.evaluation) + averaged, markup=False)
    if result.difference is not None:
        console().print(difference_line(result.difference), markup=False)
    if result.sets is not None:
        console().print(sets_line(result.sets), markup=False)


@app.command()
def embed(
    data: Annotated[str, typer.Argument(help="Photos, with or without labels; with --ray also shards and addresses (s3://...).")],
    out: Annotated[str, typer.Option(help="The Parquet file to write: path, label, features; with --ray a folder.")],
    backbone: BackboneOption = "vgg16",
    weights: WeightsOption = None,
    size: SizeOption = 0,
    stages: Annotated[str, typer.Option(help="last or all.")] = "last",
    pool: Annotated[str, typer.Option(help="mean, max, mean+max or flatten.")] = "mean",
    precision: PrecisionOption = "auto",
    exclude: ExcludeOption = None,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = 0,
    quiet: QuietOption = False,
) -> None:
    """Write the features of photos to a Parquet file; with --ray to a folder of them.

    Example: greffon embed photos/ --out features.parquet
    """
    if ray is not None:
        from greffon.cli.distributing import embed_on_cluster

        if exclude is not None:
            raise OptionError("--exclude: photos are left out on one machine alone, not with --ray",
                              hint="Leave --ray away, or leave the files out of the data.")  # fmt: skip
        embed_on_cluster(str(data), out=str(out), address=ray, workers=ray_workers, backbone=backbone, weights=weights, size=size,
                         stages=stages, pool=pool, precision=precision, quiet=quiet)  # fmt: skip
        return
    from greffon.jobs.embed import embed as job

    with listener(quiet) as progress:
        result = job(data, out=out, backbone=backbone, weights=weights, size=size, stages=stages, pool=pool,
                     precision=precision, exclude=exclude, progress=progress)  # fmt: skip
    print(f"{result.file}: {result.images} rows of {result.features} features")


app.command()(probe)
app.command()(compare)
app.command()(export)
app.command()(serve)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


def _lines_of_stdin() -> list[str]:
    return [line for line in (raw.rstrip("\n") for raw in sys.stdin) if line]


def main() -> None:
    """Run the command line. Exit codes: 0, done; 2, something that the user gave is not right; 130, interrupted."""
    # The process is ours: Pillow's remarks on odd files are not for the user, who is told what matters of them;
    # nor is anything sent anywhere.
    warnings.filterwarnings("ignore", module="PIL")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Matplotlib keeps its list of fonts beside our things, not in a folder of its own in the user's home, and builds it
    # without a word.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_root() / "matplotlib"))
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # A file name that is not UTF-8 is printed with escapes, which JSON reads back as the same name.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app(with_addresses(sys.argv[1:]))
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
