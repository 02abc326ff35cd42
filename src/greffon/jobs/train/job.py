"""``greffon train``: a folder of photos becomes a classifier."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Choice, Executor, Store
from greffon.auditing import Finding, audit_training
from greffon.backbones import Backbone, load_backbone
from greffon.conformal import conformal_scores
from greffon.datasets import SPLITS, Dataset, Scan, read_dataset, scan, split, without_excluded
from greffon.errors import DataError, GreffonError, OptionError
from greffon.evaluation import Evaluation, evaluate_probabilities
from greffon.exporting import export_model, ready_to_export
from greffon.heads import HEADS
from greffon.jobs.train.automatic import choose_strategy
from greffon.jobs.train.command import command_words
from greffon.jobs.train.extraction import extract
from greffon.jobs.train.noting import asked_configuration, note_end
from greffon.jobs.train.outcome import Outcome, Task
from greffon.jobs.train.plan import PLAN_FILE
from greffon.jobs.train.reporting import write_report
from greffon.jobs.train.searching import SEARCH_FILE, SEARCH_PICTURE
from greffon.jobs.train.tuning import CHECKPOINT_FILE, tune
from greffon.jobs.train.wishes import FineTuning
from greffon.model import MOST_EXAMPLES, Model, is_model_folder, load_any_backbone, save_model, write_json
from greffon.progress import Progress, Silent
from greffon.report import check_folder_is_free, check_language, learning_curves, rate_finder, write_card
from greffon.tracking import Wish, open_tracker, ready_to_track
from greffon.training import EpochRow, RateCurve
from greffon.transfer.inductive import Launcher, Probe, Search, representations

__all__ = ["TrainResult", "train"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class TrainResult:
    """What a training run made, and what it saw on its way."""

    model: Model
    evaluation: Evaluation | None
    scan: Scan
    dataset: Dataset  # with the role of every image
    unreadable: tuple[tuple[Path, str], ...]
    plan: Choice  # of the engine
    computed: int  # records of the frozen part
    reused: int
    seconds: float  # with the report and the export; those of the training alone stand in metrics.json
    probe: Probe | None  # of feature extraction
    history: tuple[EpochRow, ...]  # of fine-tuning
    curve: RateCurve | None
    search: Search | None  # where hyperparameters were searched for now
    findings: tuple[Finding, ...]  # of the data: possible label errors, copies in several splits, few images


def train(
    data: Path | str,
    *,
    out: Path | str | None = None,
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    unfreeze: str = "none",
    head: str = "logistic",
    pool: str = "auto",
    stages: str = "auto",
    norm: str = "auto",
    class_weights: str = "auto",
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    precision: str = "auto",
    min_fidelity: float = 0.999,
    slim: bool = False,
    export: str = "",
    tuning: FineTuning | None = None,
    resume: bool = False,
    plan: Path | None = None,
    exclude: Path | str | None = None,
    examples: int = MOST_EXAMPLES,
    thumbnails: bool = False,
    lang: str = "en",
    store: Store | None = None,
    executor: Executor | None = None,
    launcher: Launcher | None = None,
    track: str = "",
    track_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a classifier on labelled images, evaluate it on its test split, and save it.

    Parameters
    ----------
    data
        A folder per class, ``train/val/test`` folders, or a CSV or Parquet file; see ``read_dataset``.
    out
        The model folder to write, or None.
    backbone, weights, size
        See ``load_backbone``. ``backbone`` may also be a model folder.
    unfreeze
        Where the cut stands. ``"none"``: above the last stage (feature extraction). A stage: it and those above it are
        trained (fine-tuning). ``"all"``: everything is. ``"auto"``: a probe of each depth says which stages, and fine-tuning
        is kept only if it wins on the validation split beyond noise.
    head
        One of ``heads.HEADS``; of fine-tuning always ``"logistic"``.
    pool, stages, norm
        Of the representation; what is ``"auto"`` is chosen by cross-validation on the training images, and in fine-tuning
        it is ``transfer.inductive.TRAINED``: the mean of the last stage, at length 1.
    class_weights
        ``"balanced"``, ``"none"``, or ``"auto"``: balanced where the largest class has twice the images of the smallest.
    fractions
        Of train, val and test, where the data has no split of its own. As feature extraction makes no choice on the val
        images, its head is fitted on those of a drawn split too.
    seed
        The same seed on the same machine gives the same model.
    precision
        ``"auto"``, ``"int8"``, ``"bfloat16"`` or ``"float32"``: of the frozen part; see ``chosen_engine``.
    min_fidelity
        The least mean cosine to float32, on a sample of these images, with which a cheaper precision is used.
    slim
        Save without the backbone's weights; only of feature extraction.
    export
        A format of ``export``, in which the model is written as well, in float32, into a folder of that name in ``out``.
    tuning
        The wishes for fine-tuning.
    resume
        Go on with an interrupted fine-tuning in the folder ``out``: it ends as if it had not been interrupted.
    plan
        Of an earlier fine-tuning: what the clock decided there (engine, views, cut) is done again.
    exclude
        A list of files that are left out, such as ``audit(fix="quarantine")`` writes; see ``without_excluded``.
    examples
        Of how many training photos at most the model keeps the features, as many of each class as far as it goes: so it can say "I don't
        know". 0: of none. They take no more than 32 MiB.
    thumbnails
        Whether it keeps their names and small pictures, too, as evidence. Whoever has the model then sees these photos.
    lang
        Of the report: ``"en"`` or ``"fr"``.
    store
        Where activations are kept, by default greffon's cache.
    executor
        Where the frozen part runs; this process, if None.
    launcher
        Starts the processes that fine-tune together; this one alone, if None.
    track, track_dir
        ``"tensorboard"`` or ``"mlflow"``: the run is written down for it, into this folder, by default ``runs`` or ``mlruns``.

    Raises
    ------
    GreffonError
        Of the kind that says what is wrong. What was computed before stays in the store.
    """
    started = time.perf_counter()
    listener = progress or Silent()
    kept = store or Store()
    wishes = tuning or FineTuning()
    check_language(lang)
    representations(pool, stages, norm)
    if head not in HEADS:
        raise OptionError(f"train: head must be one of {', '.join(HEADS)}, got {head!r}")
    if unfreeze != "none" and head != "logistic":
        raise OptionError(f"train: fine-tuning trains a logistic head, got {head!r}", hint="Leave --head away.")
    if unfreeze != "none" and slim:
        raise OptionError("train: a fine-tuned model holds weights of its own, so it cannot be saved slim", hint="Leave --slim away.")
    if unfreeze == "none" and wishes.tune_minutes:
        raise OptionError(
            "train: --tune searches the hyperparameters of fine-tuning, got --unfreeze none",
            hint="Give --unfreeze a stage, all or auto; of feature extraction, cross-validation chooses all that is auto.",
        )
    if unfreeze == "none" and wishes != FineTuning():
        listener.warn("with --unfreeze none no stage is trained: the options of fine-tuning have no effect")
    if wishes.minutes and unfreeze not in ("none", "auto"):
        listener.warn("--minutes bounds --unfreeze auto alone, and has no effect here")
    if class_weights not in ("auto", "balanced", "none"):
        raise OptionError(f"train: class_weights must be auto, balanced or none, got {class_weights!r}")
    if not 0 <= examples <= 10**6:
        raise OptionError(f"--examples must be from 0 to 1000000, got {examples}")
    if thumbnails and not examples:
        raise OptionError("--thumbnails: are those of the examples, got --examples 0", hint="Leave one away.")
    folder = Path(out) if out is not None else None
    tracked = Wish(track, Path(track_dir) if track_dir is not None else None)
    ready_to_track(tracked, Path(data))
    if export:
        ready_to_export(export)
    if folder is not None:
        check_folder_is_free(folder, ("model.json", PLAN_FILE))
    if resume and (folder is None or not (folder / PLAN_FILE).is_file()):
        raise OptionError(f"--resume: there is no interrupted fine-tuning in {folder}", hint="Start without --resume.")
    network = load_any_backbone(backbone, weights=weights, size=size, progress=listener)
    if slim and (weights is not None or is_model_folder(backbone)):
        _check_found_again(network, f"--weights {weights}" if weights is not None else f"--backbone {backbone}")
    if unfreeze != "auto":
        network.position(unfreeze)  # a stage that is not there is told before the images are looked at
    given = without_excluded(read_dataset(data), exclude)
    looked = scan(given, book=kept, progress=listener)
    looked.tell(listener)
    dataset = split(looked.dataset.without_empty_classes(), looked.groups, fractions=fractions, seed=seed)
    _tell_rare(dataset, listener)
    drawn = not any(looked.dataset.splits)
    tracker = open_tracker(tracked, folder, resume=resume, progress=listener)
    task = Task(dataset, looked, network, drawn, folder, fractions, class_weights, seed, precision, min_fidelity, kept, listener, executor,
                examples, thumbnails, tracker if tracker.active else None, launcher)  # fmt: skip
    asked = {"head": head, "pool": pool, "stages": stages, "norm": norm}
    with tracker.running(lambda: asked_configuration(task, unfreeze, asked, wishes)):
        if unfreeze == "none":
            outcome = extract(task, head=head, pool=pool, stages=stages, norm=norm)
        elif unfreeze == "auto":
            outcome = choose_strategy(task, wishes, pool=pool, stages=stages, norm=norm, resume=resume, plan_from=plan)
        else:
            outcome = tune(task, unfreeze, wishes, pool=pool, stages=stages, norm=norm, resume=resume, plan_from=plan)
    failed = tuple((dataset.paths[i], reason) for i, reason in sorted(outcome.failed.items()))
    for path, reason in failed:
        listener.warn(f"set aside: {path}: {reason}")
    evaluation = None
    if len(outcome.test):
        evaluation = evaluate_probabilities(dataset.labels[outcome.test], outcome.probabilities, dataset.classes,
                                            temperature=outcome.model.head.temperature)  # fmt: skip
    else:
        listener.warn("there is no test split, so no figure can be given")
    held_out, told = outcome.held_out or (outcome.test[:0], outcome.probabilities[:0])
    conformal = conformal_scores(told, dataset.labels[held_out]) if len(held_out) else None
    command = command_words(
        data,
        wishes,
        options=(("--backbone", backbone, "vgg16"), ("--weights", weights, None), ("--size", size, 0), ("--unfreeze", unfreeze, "none"),
                 ("--head", head, "logistic"), ("--pool", pool, "auto"), ("--stages", stages, "auto"), ("--norm", norm, "auto"),
                 ("--class-weights", class_weights, "auto"), ("--seed", seed, 0), ("--precision", precision, "auto"),
                 ("--plan", plan, None), ("--exclude", exclude, None), ("--examples", examples, MOST_EXAMPLES),
                 ("--export", export, ""), ("--lang", lang, "en"), ("--track", track, ""), ("--track-dir", track_dir, None)),
        fractions=fractions,
        flags=(("--slim", slim), ("--thumbnails", thumbnails)),
    )  # fmt: skip
    model = replace(outcome.model, figures=evaluation.to_dict() if evaluation else {}, conformal=conformal,
                    training={**outcome.model.training, "command": command})  # fmt: skip
    findings = audit_training(given, looked, dataset, np.concatenate([held_out, outcome.test]),
                              np.concatenate([told, outcome.probabilities]))  # fmt: skip
    seconds = time.perf_counter() - started
    note_end(tracker, model, outcome, evaluation)
    unreadable = (*looked.unreadable, *failed)
    if folder is not None:
        _save(model, outcome, evaluation, folder, unreadable, looked, findings, seconds, slim, lang, listener)
    if folder is not None and export:
        tested = outcome.dataset.take(outcome.test) if len(outcome.test) else outcome.dataset
        export_model(model, folder / export, to=export, check=tested.paths, progress=listener)
    return TrainResult(
        model=model,
        evaluation=evaluation,
        scan=looked,
        dataset=outcome.dataset,
        unreadable=unreadable,
        plan=outcome.plan,
        computed=outcome.computed,
        reused=outcome.reused,
        seconds=time.perf_counter() - started,
        probe=outcome.probe,
        history=outcome.history,
        curve=outcome.curve,
        search=outcome.search,
        findings=findings,
    )


def _check_found_again(network: Backbone, given: str) -> None:
    """Whether the catalogue leads to these weights by the network's name, which is all that a slim model keeps of them."""
    try:
        known = load_backbone(network.plan.entry.name).fingerprint == network.fingerprint
    except GreffonError:
        known = False
    if not known:
        raise OptionError(
            f"train: --slim leaves the backbone's weights out, and nothing would lead to those of {given} again",
            hint="Leave --slim away; or give weights a name of their own first: greffon weights import FILE --name NAME.",
        )


def _save(
    model: Model,
    outcome: Outcome,
    evaluation: Evaluation | None,
    folder: Path,
    unreadable: Sequence[tuple[Path, str]],
    looked: Scan,
    findings: Sequence[Finding],
    seconds: float,
    slim: bool,
    lang: str,
    listener: Progress,
) -> None:
    """The model folder: the model last of its parts that predictions need, then what is for people."""
    save_model(model, folder, slim=slim)
    write_card(folder, model)
    if evaluation is not None:
        try:
            write_json(folder / "metrics.json", _metrics(evaluation, outcome, unreadable, looked, findings, seconds))
        except OSError as error:
            raise OptionError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    if outcome.history:
        learning_curves(outcome.history, folder / "learning.png")
    else:
        (folder / PLAN_FILE).unlink(missing_ok=True)  # of an earlier run, which was not this one
    if outcome.curve is not None:
        rate_finder(outcome.curve, folder / "learning_rate.png")
    if not model.training.get("search"):
        for name in (SEARCH_FILE, SEARCH_PICTURE):
            (folder / name).unlink(missing_ok=True)  # of an earlier run, or of a fine-tuning that did not win
    write_report(folder, model, outcome, evaluation, unreadable, looked, findings, seconds=seconds, lang=lang, progress=listener)
    # Only now: up to here an interrupted run can go on.
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def _tell_rare(dataset: Dataset, progress: Progress) -> None:
    for i, name in enumerate(dataset.classes):
        counts = {
            role: int(((dataset.labels == i) & np.array([s == role for s in dataset.splits])).sum()) for role in SPLITS
        }
        if sum(counts.values()) == 1:
            progress.warn(
                f"the class {name!r} has one image: it {'is learned but not tested' if counts['train'] else 'cannot be learned'}"
            )
        elif not counts["train"]:
            progress.warn(f"the class {name!r} has no image in the training split")
    if not len(dataset.where("train")):
        raise DataError(f"{dataset.root}: the training split is empty")


def _metrics(
    evaluation: Evaluation,
    outcome: Outcome,
    unreadable: Sequence[tuple[Path, str]],
    looked: Scan,
    findings: Sequence[Finding],
    seconds: float,
) -> dict[str, Any]:
    return {
        **evaluation.to_dict(),
        "split": "test",
        "strategy": outcome.model.training["strategy"],
        "timing": {**outcome.timing, "total_seconds": round(seconds, 2)},
        "unreadable": [{"path": str(path), "reason": reason} for path, reason in unreadable],
        "conflicting": [[str(path) for path in paths] for paths in looked.conflicting],
        "near_duplicates": looked.near_duplicates,
        "audit": [one.to_dict() for one in findings],
        "seconds": round(seconds, 2),
    }
