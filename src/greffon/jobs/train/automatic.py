"""``--unfreeze auto``: where to cut, in how much time, and whether fine-tuning pays at all."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from greffon.activations import Tap, chosen_engine, compute
from greffon.jobs.train.extraction import extract
from greffon.jobs.train.outcome import Outcome, Task
from greffon.jobs.train.plan import PLAN_FILE
from greffon.jobs.train.tuning import tune
from greffon.jobs.train.wishes import FineTuning
from greffon.metrics import paired_difference
from greffon.transfer.inductive import depth_figures, estimate_for_minutes, fit_probe, representations, with_val

__all__ = ["choose_strategy"]


def choose_strategy(
    task: Task, wishes: FineTuning, *, pool: str, stages: str, norm: str, resume: bool, plan_from: Path | None
) -> Outcome:
    """Probe every depth on the training images, fine-tune from the cut that this suggests, and keep it if it wins.

    It wins where its accuracy on the validation images is more than one standard error of the paired difference above
    that of a head on frozen features which was fitted on the same training images. Else feature extraction is kept, and
    its head is fitted as ever. The test images have no part in it.
    """
    began = time.perf_counter()
    listener, network = task.progress, task.network
    with_validation = replace(task, dataset=with_val(task.dataset, task.scan.groups, task.fractions[1], task.seed))
    dataset = with_validation.dataset
    learned = task.learned()
    engine, _ = chosen_engine(
        network,
        Tap("pooled"),
        task.precision,
        [dataset.paths[i] for i in learned],
        listener,
        least=task.min_fidelity,
        images=len(dataset),
        labels=dataset.labels[learned],
    )
    digests = [task.scan.digests[i] for i in learned]
    paths = [dataset.paths[i] for i in learned]
    pooled = compute(paths, network, Tap("pooled"), engine, store=task.store, progress=listener, digests=digests,
                     executor=task.executor)  # fmt: skip
    place = {position: row for row, position in enumerate(learned) if row not in pooled.failed}
    train, val = (np.array([i for i in dataset.where(role).tolist() if i in place], np.int64) for role in ("train", "val"))
    records = {role: pooled.batch([place[i] for i in some.tolist()]) for role, some in (("train", train), ("val", val))}
    balanced = None if task.class_weights == "auto" else task.class_weights == "balanced"
    figures = depth_figures(
        records["train"],
        network.widths(),
        network.stages,
        dataset.labels[train],
        len(dataset.classes),
        groups=task.scan.groups[train],
        seed=task.seed,
        progress=listener,
    )
    suggestion = figures.suggestion
    listener.say(f"cut: {suggestion.cut}: {suggestion.reason}")
    reasons: list[str] = [suggestion.reason]
    cut = suggestion.cut if suggestion.cut != "none" else network.stages[-1]
    if not len(val):
        return _extracted(task, pool, stages, norm, [*reasons, "there is no validation split to compare the two on"])
    planned = plan_from is not None or (resume and task.folder is not None and (task.folder / PLAN_FILE).is_file())
    # Where there is a plan, the clock has had its say before.
    timed_run = bool(wishes.minutes) and not planned
    left = (wishes.minutes - wishes.tune_minutes) * 60 - (time.perf_counter() - began) if timed_run else math.inf
    others, epochs = len(dataset) - len(train), wishes.recipe.epochs
    fitted, why = estimate_for_minutes(network, engine, cut, len(train), others, wishes.views, epochs, left)
    if why:
        listener.say(why)
        reasons.append(why)
    if fitted is None:
        return _extracted(task, pool, stages, norm, reasons)
    timed = replace(wishes, views=fitted[0], recipe=replace(wishes.recipe, epochs=fitted[1]))
    # The representation that fine-tuning has is its own; what is frozen may have the one that suits it best.
    tuned_norm, tuned_pool = ("auto" if norm == "sqrt-l2" else norm), ("auto" if pool == "flatten" else pool)
    outcome = tune(with_validation, cut, timed, pool=tuned_pool, stages=stages, norm=tuned_norm, resume=resume, plan_from=plan_from)
    probe = fit_probe(
        records["train"],
        network.widths(),
        dataset.labels[train],
        len(dataset.classes),
        groups=task.scan.groups[train],
        representations=representations("auto" if pool == "flatten" else pool, stages, norm),
        balanced=balanced,
        seed=task.seed,
        progress=listener,
    )
    frozen_right = probe.probabilities(records["val"], network.widths()).argmax(1) == dataset.labels[val]
    told = outcome.validated
    assert told is not None
    tuned_right = {int(i): bool(ok) for i, ok in zip(told[0], told[1], strict=True)}
    both = [row for row, i in enumerate(val.tolist()) if i in tuned_right]
    first = np.array([tuned_right[int(val[row])] for row in both])
    gain, interval = paired_difference(first, frozen_right[both])
    error = float(np.std(first.astype(float) - frozen_right[both], ddof=1)) / math.sqrt(len(both)) if len(both) > 1 else 1.0
    verdict = (
        f"on {len(both)} validation images fine-tuning from {cut} reaches {100 * first.mean():.1f} %, the frozen network"
        f" {100 * frozen_right[both].mean():.1f} %: a difference of {100 * gain:+.1f} points"
        f" (95 %: {100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})"
    )
    searched = outcome.model.training.get("search")
    if searched:
        verdict += f"; this flatters fine-tuning, which was chosen among {searched['trials']} trials on the same images"
    if gain > error:
        listener.say(f"fine-tuning is kept: {verdict}")
        training = {**outcome.model.training, "unfreeze": "auto", "automatic": [*reasons, verdict, "fine-tuning is kept"]}
        return replace(outcome, model=replace(outcome.model, training=training))
    return _extracted(task, pool, stages, norm, [*reasons, f"{verdict}, which is not beyond noise (one standard error)"])


def _extracted(task: Task, pool: str, stages: str, norm: str, reasons: list[str]) -> Outcome:
    task.progress.say(f"feature extraction is kept: {reasons[-1]}")
    outcome = extract(task, head="logistic", pool=pool, stages=stages, norm=norm)
    training = {**outcome.model.training, "unfreeze": "auto", "automatic": [*reasons, "feature extraction is kept"]}
    return replace(outcome, model=replace(outcome.model, training=training))
