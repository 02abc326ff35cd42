"""``greffon adapt``: labelled photos here, unlabelled photos there."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import numpy as np

from greffon.activations import Executor, Store
from greffon.errors import OptionError
from greffon.jobs.adapt.above import Above, adapt_stages
from greffon.jobs.adapt.features import adapt_on_features
from greffon.jobs.adapt.outcome import Outcome, Task
from greffon.jobs.adapt.pair import Pair, find_pair, find_target
from greffon.jobs.adapt.plan import CHECKPOINT_FILE, PLAN_FILE
from greffon.jobs.adapt.result import AdaptResult
from greffon.model import is_model_folder, load_any_backbone, load_model, save_model, write_json
from greffon.progress import Progress, Silent
from greffon.report import (
    adaptation_report,
    check_folder_is_free,
    check_results_folder,
    path_in_table,
    write_card,
    write_table,
)
from greffon.transfer.transductive import ABOVE, METHODS, concerns

__all__ = ["adapt"]


def adapt(
    source: Path | str,
    *,
    target: Path | str,
    out: Path | str,
    method: str = "auto",
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    precision: str = "auto",
    above: Above | None = None,
    resume: bool = False,
    seed: int = 0,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> AdaptResult:
    """Make a classifier for photos without labels from labelled ones of another domain.

    No label of the target is looked at: names of its folders, and labels in a table, are not read. The folder ``out``
    becomes an ordinary model folder, with ``predictions.csv``, ``adapt.json`` and ``report.html`` in it.

    Parameters
    ----------
    source
        As for ``train``: a folder per class, or a table. With ``method="shot"`` a model folder: its photos are not needed.
    target
        A folder of photos, or a table with the column ``path``.
    method
        On features: ``"auto"`` or a name of ``transductive.METHODS``. Above the cut: a name of ``transductive.ABOVE``.
    backbone, weights, size, precision
        As for ``train``.
    above
        The wishes for a method above the cut.
    resume
        Go on with an interrupted run of a method above the cut: it ends as if it had not been interrupted.
    seed
        The same seed on the same machine gives the same model.
    store
        Where activations are kept, by default greffon's cache.
    executor
        Where the frozen part runs; this process, if None.

    Raises
    ------
    GreffonError
        Of the kind that says what is wrong. What was computed before stays in the store.
    """
    started = time.perf_counter()
    listener = progress or Silent()
    kept = store or Store()
    folder = Path(out)
    if method != "auto" and method not in METHODS and method not in ABOVE:
        raise OptionError(f"--method must be auto or one of {', '.join((*METHODS, *ABOVE))}, got {method!r}")
    trains = method in ABOVE
    if not trains and (above is not None and above != Above()):
        listener.warn(
            f"--method {method} works on features and trains no stage: the options of training have no effect"
        )
    if resume and not trains:
        raise OptionError(f"--resume: --method {method} works on features, and what is computed is kept anyhow",
                          hint="Leave --resume away.")  # fmt: skip
    free = trains and not ABOVE[method].objective().labelled
    base = load_model(source) if is_model_folder(source) else None
    if base is not None and not free:
        raise OptionError(f"{source}: is a model folder, and --method {method} learns from the source's photos",
                          hint="Give the folder of labelled photos, or --method shot, which needs the model alone.")  # fmt: skip
    if free and base is None:
        raise OptionError(
            f"--method {method} adapts a model without the source's photos, and {source} is no model folder",
            hint=f"Train one first: greffon train {source} --out my-model --norm standard --pool mean --stages last",
        )
    for data in (Path(source), Path(target)):
        check_results_folder(folder, data)
    check_folder_is_free(folder, ("model.json", PLAN_FILE))
    if base is not None:
        network = base.backbone
        pair = Pair(None, find_target(target, book=kept, progress=listener), 0)
    else:
        network = load_any_backbone(backbone, weights=weights, size=size, progress=listener)
        pair = find_pair(source, target, book=kept, progress=listener)
    task = Task(pair, network, folder, method, precision, seed, kept, listener, executor)
    outcome = adapt_stages(task, above or Above(), base, resume=resume) if trains else adapt_on_features(task)
    for path, reason in outcome.failed.items():
        listener.warn(f"set aside: {path}: {reason}")
    result = _result(
        task,
        outcome,
        _command(source, target, folder, method, backbone, seed, precision),
        time.perf_counter() - started,
    )
    for sentence in result.warnings:
        listener.warn(sentence)
    _write(result, listener)
    return result


def _command(
    source: Path | str, target: Path | str, out: Path, method: str, backbone: str, seed: int, precision: str
) -> str:
    """What repeats the run, but for the options of training, which stand in ``model.json``."""
    words = [
        "greffon",
        "adapt",
        str(source),
        "--target",
        str(target),
        "--out",
        str(out),
        "--method",
        method,
        "--backbone",
        backbone,
    ]
    return shlex.join([*words, "--seed", str(seed), "--precision", precision])


def _result(task: Task, outcome: Outcome, command: str, seconds: float) -> AdaptResult:
    source, target, classes = task.pair.source, task.pair.target, outcome.model.classes
    share = outcome.proportions if outcome.proportions is not None else outcome.probabilities.mean(0)
    said = list(concerns(outcome.probabilities, outcome.source_labels, classes, outcome.agreement))
    if source is not None and task.pair.shared == len(target.digests) and task.pair.shared:
        said.append("all photos of the target stand in the source as well: there is nothing to adapt to")
    unreadable = (*(source.unreadable if source else ()), *target.unreadable, *outcome.failed.items())
    return AdaptResult(
        folder=task.folder,
        model=outcome.model,
        source=source,
        target=target,
        method=outcome.method,
        adapted=outcome.adapted,
        why=outcome.why,
        positions=outcome.positions,
        probabilities=outcome.probabilities,
        source_only=outcome.source_only,
        source_labels=outcome.source_labels,
        source_features=outcome.after[0],
        target_features=outcome.after[1],
        raw_source_features=outcome.before[0],
        raw_target_features=outcome.before[1],
        evidence=outcome.evidence,
        history=outcome.history,
        agreement=outcome.agreement,
        distance=outcome.distance,
        proportions={name: float(value) for name, value in zip(classes, share, strict=True)},
        warnings=tuple(said),
        shared=task.pair.shared,
        unreadable=tuple(unreadable),
        plan=outcome.plan,
        computed=outcome.computed,
        reused=outcome.reused,
        command=command,
        seconds=seconds,
    )


def _write(result: AdaptResult, listener: Progress) -> None:
    """The model first, then what is for people."""
    folder = result.folder
    save_model(result.model, folder)
    write_card(folder, result.model)
    try:
        write_json(folder / "adapt.json", result.to_dict())
        _predictions(result, folder / "predictions.csv")
    except OSError as error:
        raise OptionError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    listener.say("writing the report")
    adaptation_report(
        folder / "report.html",
        result.model.classes,
        result.to_dict(),
        [result.target.dataset.paths[i] for i in result.positions.tolist()],
        result.probabilities,
        result.source_only,
        result.source_labels,
        (result.raw_source_features, result.raw_target_features),
        (result.source_features, result.target_features),
        command=result.command,
    )
    # Only now: up to here an interrupted run can go on.
    for name in (CHECKPOINT_FILE, PLAN_FILE):
        (folder / name).unlink(missing_ok=True)


def _predictions(result: AdaptResult, file: Path) -> None:
    """A row for every photo of the target that could be read: copies say what their original says."""
    there, classes = result.target.dataset, result.model.classes
    twins: dict[Path, list[Path]] = {}
    for copy, original in result.target.repeated:
        twins.setdefault(original, []).append(copy)
    rows = []
    for place, told, before in zip(result.positions.tolist(), result.probabilities, result.source_only, strict=True):
        order = np.argsort(-told, kind="stable")
        path, second = there.paths[place], classes[int(order[1])] if len(order) > 1 else ""
        told_of = (classes[int(order[0])], f"{told[order[0]]:.4f}", second, classes[int(before.argmax())])
        rows += [(path_in_table(one), *told_of) for one in (path, *twins.get(path, ()))]
    write_table(file, ("path", "label", "confidence", "second", "source_only"), rows)
