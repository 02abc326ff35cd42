"""The commands of inductive transfer: ``train``, and what helps to choose: ``probe`` by depth, ``compare`` by network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from greffon.cli.distributing import RayOption, RayWorkersOption, executor_of, helpers_of, launcher_of
from greffon.cli.options import (
    BackboneOption,
    ExcludeOption,
    FoldsOption,
    JsonOption,
    LangOption,
    PrecisionOption,
    QuietOption,
    SeedOption,
    SizeOption,
    WeightsOption,
)
from greffon.cli.terminal import listener

__all__ = ["compare", "probe", "train"]


def _tuned(text: str) -> Any:
    """An option of fine-tuning, in a part of the help of its own."""
    return typer.Option(help=text, rich_help_panel="Fine-tuning")


def train(
    data: Annotated[
        Path, typer.Argument(help="A folder per class, train/val/test folders, a CSV or Parquet file; or what embed --ray wrote.")
    ],
    out: Annotated[Path, typer.Option(help="The model folder to write.")],
    backbone: BackboneOption = "vgg16",
    weights: WeightsOption = None,
    size: SizeOption = 0,
    unfreeze: Annotated[
        str, typer.Option(help="none: feature extraction. A stage (block5): train it and those above. all. auto.")
    ] = "none",
    head: Annotated[str, typer.Option(help="logistic, svm, ridge, centroid or knn.")] = "logistic",
    pool: Annotated[str, typer.Option(help="auto, mean, max, mean+max or flatten.")] = "auto",
    stages: Annotated[str, typer.Option(help="auto, last or all: whose outputs are the features.")] = "auto",
    norm: Annotated[str, typer.Option(help="auto, standard, l2 or sqrt-l2.")] = "auto",
    class_weights: Annotated[str, typer.Option(help="auto, balanced or none.")] = "auto",
    split: Annotated[
        str, typer.Option(help="Shares of train, val and test, where the data has no split.")
    ] = "0.7,0.15,0.15",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")] = 0,
    precision: PrecisionOption = "auto",
    exclude: ExcludeOption = None,
    slim: Annotated[bool, typer.Option("--slim", help="Leave the frozen stages out of the model folder.")] = False,
    examples: Annotated[
        int, typer.Option(min=0, help="Keep the features of so many training photos, to know what is unlike them; 0: of none.")
    ] = 2000,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Keep their names and small pictures too. Whoever has the model sees them.")
    ] = False,
    lang: LangOption = "en",
    export: Annotated[str, typer.Option(help="Export the model as well: onnx, openvino or torch, into a folder in --out.")] = "",
    track: Annotated[str, typer.Option(help="Write the run down for another tool: tensorboard or mlflow.")] = "",
    track_dir: Annotated[Path | None, typer.Option(help="Where to; by default runs (tensorboard) or mlruns (mlflow).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted fine-tuning in --out.")] = False,
    plan: Annotated[Path | None, typer.Option(help="plan.json of an earlier run: decide as it did.")] = None,
    epochs: Annotated[int, _tuned("Of the fine-tuning.")] = 10,
    batch: Annotated[int, _tuned("Images in a step.")] = 32,
    views: Annotated[int, _tuned("Augmented views of each training image that are kept; the first is plain.")] = 4,
    policy: Annotated[str, _tuned("Of the views: none, flip, light, standard or strong.")] = "standard",
    keep: Annotated[str, _tuned("What activations are kept in: bfloat16, float16 or float32.")] = "bfloat16",
    cache_budget: Annotated[str, _tuned("The most that they may take on disk: 500MB, 20GB; empty: any.")] = "",
    minutes: Annotated[float, _tuned("With --unfreeze auto: how long the run should take; 0: any.")] = 0.0,
    tune: Annotated[float, _tuned("Search for better hyperparameters, for so many minutes.")] = 0.0,
    learning_rate: Annotated[str, _tuned("Of the topmost stage: a number, auto, or find (a range test).")] = "auto",
    head_learning_rate: Annotated[float, _tuned("Of the head; 0: what suits the optimiser.")] = 0.0,
    stage_decay: Annotated[float, _tuned("Each stage further down has so much of the rate above it.")] = 0.5,
    optimizer: Annotated[str, _tuned("adamw or sgd.")] = "adamw",
    weight_decay: Annotated[float, _tuned("Not of biases and norms.")] = 0.01,
    warmup: Annotated[float, _tuned("The share of steps in which the rate rises.")] = 0.1,
    label_smoothing: Annotated[float, _tuned("Share of the target spread over all classes.")] = 0.0,
    mix: Annotated[str, _tuned("none, mixup or cutmix of the activations at the cut.")] = "none",
    mix_alpha: Annotated[float, _tuned("Of the Beta distribution of the mixing share.")] = 0.2,
    dropout: Annotated[float, _tuned("Of the features before the head.")] = 0.0,
    clip: Annotated[float, _tuned("Largest norm of the gradient; 0: any.")] = 1.0,
    l2_sp: Annotated[float, _tuned("Pull towards the pretrained weights.")] = 0.0,
    ema: Annotated[float, _tuned("Decay of an average of the weights, 0.99 say; 0: none.")] = 0.0,
    patience: Annotated[int, _tuned("Stop after so many epochs without a better validation; 0: never.")] = 0,
    gradual: Annotated[int, _tuned("Unfreeze stage by stage, so many epochs apart, the head first; 0: at once.")] = 0,
    batch_norm: Annotated[str, _tuned("frozen or trained: the statistics of BatchNorm above the cut.")] = "frozen",
    training_precision: Annotated[str, _tuned("Above the cut: auto, float32 or bfloat16.")] = "auto",
    winograd: Annotated[str, _tuned("auto, on or off: 3 × 3 convolutions in fewer multiplications.")] = "auto",
    ray: RayOption = None,
    ray_workers: RayWorkersOption = 0,
    quiet: QuietOption = False,
) -> None:
    """Train a classifier on labelled photos.

    Example: greffon train photos/ --out my-model --unfreeze block5
    """
    if (data / "_manifest.json").is_file():
        from greffon.cli.distributing import train_from_features
        from greffon.errors import OptionError

        if track:
            raise OptionError(f"--track {track}: a head on the features of embed --ray is not tracked", hint="Leave --track away.")

        train_from_features(data, out=out, backbone=backbone, weights=weights, class_weights=class_weights, seed=seed, quiet=quiet)
        return
    from greffon.cli.reading import bytes_of, number_of, shares_of
    from greffon.cli.terminal import out as console
    from greffon.cli.terminal import train_summary
    from greffon.jobs.train import FineTuning
    from greffon.jobs.train import train as job
    from greffon.training import Recipe

    found = learning_rate == "find"
    recipe = Recipe(
        epochs=epochs,
        batch=batch,
        optimizer=optimizer,  # type: ignore[arg-type]  # it checks its values itself
        learning_rate=0.0 if found or learning_rate == "auto" else number_of("--learning-rate", learning_rate),
        head_learning_rate=head_learning_rate,
        stage_decay=stage_decay,
        weight_decay=weight_decay,
        warmup=warmup,
        label_smoothing=label_smoothing,
        mix=mix,  # type: ignore[arg-type]  # as above
        mix_alpha=mix_alpha,
        dropout=dropout,
        clip=clip,
        l2_sp=l2_sp,
        ema=ema,
        patience=patience,
        gradual=gradual,
        batch_norm=batch_norm,  # type: ignore[arg-type]  # as above
    )
    wishes = FineTuning(
        views=views,
        policy=policy,
        keep=keep,
        cache_budget=bytes_of("--cache-budget", cache_budget),
        minutes=minutes,
        tune_minutes=tune,
        find_rate=found,
        training_precision=training_precision,  # type: ignore[arg-type]  # as above
        winograd=winograd,  # type: ignore[arg-type]  # as above
        recipe=recipe,
    )
    with helpers_of(unfreeze, ray) as helpers, listener(quiet) as progress, executor_of(ray, ray_workers) as executor:
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
            fractions=shares_of("--split", split),
            seed=seed,
            precision=precision,
            slim=slim,
            export=export,
            tuning=wishes,
            resume=resume,
            plan=plan,
            exclude=exclude,
            examples=examples,
            thumbnails=thumbnails,
            lang=lang,
            executor=executor,
            launcher=helpers or (launcher_of(executor) if executor is not None else None),
            track=track,
            track_dir=track_dir,
            progress=progress,
        )
    for line in train_summary(result):
        console().print(line, markup=False) if isinstance(line, str) else console().print(line)
    console().print(f"model: {out}    report: {out / 'report.html'}    {result.seconds:.1f} s", markup=False)


def probe(
    data: Annotated[Path, typer.Argument(help="Labelled photos, as for train. A test split is not looked at.")],
    backbone: BackboneOption = "vgg16",
    weights: WeightsOption = None,
    size: SizeOption = 0,
    head: Annotated[str, typer.Option(help="logistic, svm, ridge, centroid or knn.")] = "logistic",
    folds: FoldsOption = 5,
    seed: SeedOption = 0,
    precision: PrecisionOption = "auto",
    out: Annotated[Path | None, typer.Option(help="A folder for depth.json, depth.png and depth.svg.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show where in a network the classes separate: the accuracy of each stage, and which cut to use.

    Example: greffon probe photos/ --out depth
    """
    from greffon.cli.terminal import depth_table
    from greffon.cli.terminal import out as console
    from greffon.jobs.probe import probe as job

    with listener(quiet) as progress:
        result = job(data, backbone=backbone, weights=weights, size=size, head=head, folds=folds, seed=seed,
                     precision=precision, out=out, progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    console().print(depth_table(result))
    suggestion = result.figures.suggestion
    console().print(f"suggested cut: {suggestion.cut}\n  {suggestion.reason}", markup=False, soft_wrap=True)
    if result.files:
        console().print(" ".join(str(file) for file in result.files), markup=False, soft_wrap=True)


def compare(
    data: Annotated[Path, typer.Argument(help="Labelled photos, as for train. A test split is not looked at.")],
    backbones: Annotated[str, typer.Option(help="Names of 'greffon backbones' or model folders, with commas between.")],
    size: SizeOption = 0,
    head: Annotated[str, typer.Option(help="logistic, svm, ridge, centroid or knn.")] = "logistic",
    folds: FoldsOption = 5,
    seed: SeedOption = 0,
    precision: PrecisionOption = "auto",
    out: Annotated[Path | None, typer.Option(help="A folder for compare.json, compare.png and compare.svg.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Put networks side by side on your photos: accuracy, seconds, size.

    Example: greffon compare photos/ --backbones vgg16,efficientnet-lite0 --out comparison
    """
    from greffon.cli.terminal import comparison_table
    from greffon.cli.terminal import out as console
    from greffon.jobs.compare import compare as job

    with listener(quiet) as progress:
        result = job(data, backbones=backbones.split(","), size=size, head=head, folds=folds, seed=seed,
                     precision=precision, out=out, progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    console().print(comparison_table(result))
    for one in result.absent:
        console().print(f"not compared: {one.name}: {one.reason.splitlines()[0]}", markup=False)
    if result.files:
        console().print(" ".join(str(file) for file in result.files), markup=False, soft_wrap=True)
