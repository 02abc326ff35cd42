"""``greffon predict``, ``classify``, ``evaluate`` and ``embed``: what a network or a model says of photos."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from greffon.cli.distributing import RayOption, RayWorkersOption, executor_of
from greffon.cli.options import (
    AbstainOption,
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
from greffon.cli.terminal import listener
from greffon.errors import OptionError

__all__ = ["classify", "embed", "evaluate", "predict"]


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
    abstain: AbstainOption = 0.0,
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
        guesses = job(model, names, precision=precision, views=views, sets=sets, abstain=abstain, executor=executor,
                      progress=progress)  # fmt: skip
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
                    writer.writerow(["path", "label", "probability", *guess.probabilities, *(["set"] if sets else []),
                                     *(["novelty", "known"] if abstain else [])])  # fmt: skip
                held = [] if guess.classes is None else ["|".join(guess.classes)]
                new = [] if guess.novelty is None else [guess.novelty, str(guess.known).lower()]
                label = guess.label if guess.known else ""
                writer.writerow([guess.path, label, guess.probability, *guess.probabilities.values(), *held, *new])
            else:
                others = sorted(guess.probabilities.items(), key=lambda item: -item[1])[1:3]
                rest = ", ".join(f"{name} {100 * p:.1f} %" for name, p in others)
                held = "" if guess.classes is None else f"\tset: {', '.join(guess.classes) or 'no class is sure enough'}"
                if not guess.known:
                    print(f"{guess.path}\tI don't know\tnovelty {guess.novelty:.3f}\t(else {guess.label},"
                          f" {100 * guess.probability:.1f} %){held}")  # fmt: skip
                    continue
                print(f"{guess.path}\t{guess.label}\t{100 * guess.probability:.1f} %\t({rest}){held}")
    if failed and failed == len(names):
        raise typer.Exit(2)


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
    abstain: AbstainOption = 0.0,
    unknown: Annotated[
        list[str] | None, typer.Option(help="Photos of no class of the model: how many are refused. May be given several times.")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="Another model folder, compared on the same photos.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for evaluation.json and the reliability diagram.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Measure a model on labelled photos that it has not seen.

    Example: greffon evaluate my-model other-photos/
    """
    from greffon.cli.evaluation_tables import abstain_lines, rival_lines, sizes_table
    from greffon.cli.terminal import accuracy_line, difference_line, evaluation_tables, sets_line
    from greffon.cli.terminal import out as console
    from greffon.jobs.evaluate import evaluate as job

    with listener(quiet) as progress:
        result = job(model, data, precision=precision, views=views, exclude=exclude, sets=sets, abstain=abstain,
                     unknown=unknown or None, against=against, out=out, progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    sizes = sizes_table(result)
    for table in (*evaluation_tables(result.evaluation), *([] if sizes is None else [sizes])):
        console().print(table)
    averaged = f", averaged over {views} views of each" if views > 1 else ""
    console().print(accuracy_line(result.evaluation) + averaged, markup=False)
    if result.difference is not None:
        console().print(difference_line(result.difference), markup=False)
    if result.sets is not None:
        console().print(sets_line(result.sets), markup=False)
    for line in (*abstain_lines(result), *([] if result.rival is None else rival_lines(result.rival))):
        console().print(line, markup=False, soft_wrap=True)


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


def _lines_of_stdin() -> list[str]:
    return [line for line in (raw.rstrip("\n") for raw in sys.stdin) if line]
