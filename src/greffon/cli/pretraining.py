"""The command of self-supervised training: ``pretrain``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greffon.cli.options import BackboneOption, JsonOption, PrecisionOption, QuietOption, SizeOption, WeightsOption
from greffon.cli.terminal import listener, percent

if TYPE_CHECKING:
    from greffon.jobs.pretrain import PretrainResult

__all__ = ["pretrain"]


def pretrain(
    photos: Annotated[Path, typer.Argument(help="Photos: a folder, however deep, or a table. Labels are not read.")],
    out: Annotated[Path, typer.Option(help="The folder to write: a network that may stand for a backbone's name.")],
    method: Annotated[str, typer.Option(help="auto, simclr, vicreg, barlow or deepcluster.")] = "auto",
    backbone: BackboneOption = "vgg16",
    weights: WeightsOption = None,
    size: SizeOption = 0,
    unfreeze: Annotated[str, typer.Option(help="The first stage that is trained; empty: the last one.")] = "",
    views: Annotated[int, typer.Option(help="Of each photo; the first is plain, the last judges and is not trained on.")] = 6,
    policy: Annotated[str, typer.Option(help="Of the views: flip, light, standard or strong.")] = "strong",
    epochs: Annotated[int, typer.Option(help="In each, every photo comes once, in two of its views.")] = 3,
    batch: Annotated[int, typer.Option(help="Photos in a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Of the topmost stage.")] = 1e-4,
    l2_sp: Annotated[float, typer.Option(help="Pull towards the pretrained weights.")] = 0.0,
    ema: Annotated[float, typer.Option(help="Decay of an average of the weights, 0.99 say; 0: none.")] = 0.0,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient; 0: any.")] = 1.0,
    patience: Annotated[int, typer.Option(help="Stop after so many epochs without a better score; 0: never.")] = 0,
    keep: Annotated[str, typer.Option(help="What activations are kept in: bfloat16, float16 or float32.")] = "bfloat16",
    minutes: Annotated[float, typer.Option(help="How long the run should take: fewer epochs; 0: any.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same network.")] = 0,
    precision: PrecisionOption = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in --out.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train the upper stages of a network on photos without labels.

    Example: greffon pretrain photos/ --out my-network --unfreeze block5
    """
    from greffon.cli.terminal import out as console
    from greffon.jobs.pretrain import Pretraining
    from greffon.jobs.pretrain import pretrain as job
    from greffon.training import Recipe

    recipe = Recipe(epochs=epochs, batch=batch, learning_rate=learning_rate, l2_sp=l2_sp, ema=ema, clip=clip, patience=patience)
    wishes = Pretraining(method=method, unfreeze=unfreeze, views=views, policy=policy, keep=keep, minutes=minutes, recipe=recipe)
    with listener(quiet) as progress:
        result = job(photos, out=out, backbone=backbone, weights=weights, size=size, precision=precision, wishes=wishes,
                     resume=resume, seed=seed, progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    for line in _lines(result):
        console().print(line, markup=False) if isinstance(line, str) else console().print(line)


def _lines(result: PretrainResult) -> list[Any]:
    """What is printed at the end."""
    from rich.table import Table

    table = Table(title="what can be said without labels", title_justify="left")
    for name in ("epoch", "loss", "score", "found again", "agreement", "steadiness", "rank", "exponent"):
        table.add_column(name, justify="right")
    for row in result.history:
        told = row.features
        if told is None:
            continue
        mark = " *" if row.epoch == result.best_epoch else ""
        loss, steady = "" if told.loss is None else f"{told.loss:.3f}", "" if told.steadiness is None else percent(told.steadiness)
        table.add_row(f"{row.epoch}{mark}", loss, f"{told.score:.3f}", percent(told.found), percent(told.agreement), steady,
                      f"{told.rank:.1f}", f"{told.decay:.2f}")  # fmt: skip
    verdict = f"trained by {result.method}" if result.gained else "no gain, kept the pretrained network"
    return [
        table,
        f"{verdict}: {result.why}",
        f"{len(result.paths)} photos" + (f"; {len(result.unreadable)} unreadable" if result.unreadable else "")
        + "; no label was looked at: to know what it is worth, label some photos and run greffon compare",
        f"network: {result.folder}    use it: --backbone {result.folder}    look: {result.folder / 'report.html'}"
        f"    {result.seconds:.1f} s",
    ]  # fmt: skip
