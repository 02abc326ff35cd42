"""The commands of transductive transfer: ``adapt`` between domains, ``label`` within one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from greffon.cli.distributing import RayOption, RayWorkersOption, executor_of
from greffon.cli.options import BackboneOption, JsonOption, PrecisionOption, QuietOption, SizeOption, WeightsOption
from greffon.cli.terminal import listener

__all__ = ["adapt", "label"]


def _above(text: str) -> Any:
    """An option of the methods above the cut, in a part of the help of its own."""
    return typer.Option(help=text, rich_help_panel="Above the cut")


def adapt(
    source: Annotated[Path, typer.Argument(help="Labelled photos, as for train; with --method shot a model folder.")],
    target: Annotated[
        Path, typer.Option(help="Photos of the other domain: a folder, however deep, or a table. Labels are not read.")
    ],
    out: Annotated[Path, typer.Option(help="The model folder to write, with predictions.csv and report.html.")],
    method: Annotated[
        str,
        typer.Option(
            help="auto, or on features: source-only, per-domain, coral, subspace, tca, jda, bda, optimal-transport, label-propagation,"
            " self-training, meda, spl, mixture; above the cut: deep-coral, dan, jan, dann, cdan, cdan+e, mcc, afn, shot."
        ),
    ] = "auto",
    backbone: BackboneOption = "vgg16",
    weights: WeightsOption = None,
    size: SizeOption = 0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")] = 0,
    precision: PrecisionOption = "auto",
    unfreeze: Annotated[str, _above("The first stage that is trained; empty: the last one.")] = "",
    epochs: Annotated[int, _above("In each, every source photo comes once.")] = 10,
    batch: Annotated[int, _above("Photos of each domain in a step.")] = 32,
    views: Annotated[int, _above("Augmented views of each photo that are kept; the first is plain.")] = 4,
    policy: Annotated[str, _above("Of the views: none, flip, light, standard or strong.")] = "standard",
    keep: Annotated[str, _above("What activations are kept in: bfloat16, float16 or float32.")] = "bfloat16",
    learning_rate: Annotated[float, _above("Of the topmost stage; 0: what suits the method.")] = 0.0,
    head_learning_rate: Annotated[float, _above("Of the head; 0: what suits the method.")] = 0.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run in --out.", rich_help_panel="Above the cut")
    ] = False,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a classifier for photos without labels, from labelled ones of another domain.

    Example: greffon adapt photos/ --target paintings/ --out for-paintings
    """
    from greffon.cli.terminal import out as console
    from greffon.cli.transductive_tables import adapt_lines
    from greffon.jobs.adapt import Above
    from greffon.jobs.adapt import adapt as job
    from greffon.training import Recipe

    recipe = Recipe(epochs=epochs, batch=batch, learning_rate=learning_rate, head_learning_rate=head_learning_rate)
    above = Above(unfreeze=unfreeze, views=views, policy=policy, keep=keep, recipe=recipe)
    with listener(quiet) as progress, executor_of(ray, ray_workers) as executor:
        result = job(source, target=target, out=out, method=method, backbone=backbone, weights=weights, size=size, seed=seed,
                     precision=precision, above=above, resume=resume, executor=executor, progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    for line in adapt_lines(result):
        console().print(line, markup=False) if isinstance(line, str) else console().print(line)


def label(
    photos: Annotated[Path, typer.Argument(help="Photos without labels: a folder, however deep, or a table.")],
    labelled: Annotated[
        Path, typer.Option(help="A few labelled ones of the same kind: a folder per class, or a table.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write: labels.csv, dataset.csv, labels.html, model/.")],
    backbone: BackboneOption = "vgg16",
    weights: WeightsOption = None,
    size: SizeOption = 0,
    threshold: Annotated[
        float, typer.Option(help="How probable a label must be to be given; others are left open.")
    ] = 0.6,
    prior: Annotated[
        str, typer.Option(help="Shares of the classes among the photos, where known: cat=0.7,dog=0.3.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same labels.")] = 0,
    precision: PrecisionOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Label photos from a few labelled ones, and leave the unsure ones open.

    Example: greffon label photos/ --labelled few/ --out labelled
    """
    from greffon.cli.reading import named_shares_of
    from greffon.cli.terminal import out as console
    from greffon.cli.transductive_tables import label_lines
    from greffon.jobs.label import label as job

    with listener(quiet) as progress:
        result = job(photos, labelled=labelled, out=out, backbone=backbone, weights=weights, size=size, threshold=threshold,
                     prior=named_shares_of("--prior", prior), seed=seed, precision=precision, progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    for line in label_lines(result):
        console().print(line, markup=False) if isinstance(line, str) else console().print(line)
