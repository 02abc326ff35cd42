"""``greffon pretrain``: the upper stages of a network move towards photos that nobody has labelled."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Engine, Store, Tap, chosen_engine
from greffon.backbones import Backbone
from greffon.backbones.describe import describe_plan
from greffon.datasets import Scan, read_photos, scan
from greffon.errors import BackboneError, DataError, OptionError
from greffon.images import View, views
from greffon.jobs.pretrain.result import PretrainResult
from greffon.jobs.pretrain.wishes import PLAN_FILE, Plan, Pretraining, read_plan
from greffon.model import load_any_backbone, save_network, write_json
from greffon.progress import Progress, Silent
from greffon.report import check_folder_is_free, check_results_folder, pretraining_report
from greffon.training import Grown, Recipe, Trained
from greffon.transfer.inductive import Frozen, Layout, frozen_part, time_training, tuned_backbone
from greffon.transfer.unsupervised import LEAST_IMAGES, features_above, pretrain_above, ready_to_pretrain

__all__ = ["pretrain"]

#: Their names in the folder: of the checkpoint, which is gone once the network is there, and of the evidence.
_CHECKPOINT, _EVIDENCE = "checkpoint.safetensors", "pretrain.json"


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Ground:
    """The photos after the frozen pass. Positions are those of the scan's data set."""

    looked: Scan
    images: np.ndarray
    grown: Grown
    frozen: Frozen
    engine: Engine
    plan: Plan
    looks: tuple[View, ...]


def pretrain(
    photos: Path | str,
    *,
    out: Path | str,
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    precision: str = "auto",
    wishes: Pretraining | None = None,
    resume: bool = False,
    seed: int = 0,
    store: Store | None = None,
    progress: Progress | None = None,
) -> PretrainResult:
    """Train the upper stages of a network on photos without labels: views of one photo are to be alike, those of others not.

    The folder ``out`` becomes a model folder without a head, which may stand wherever a backbone's name may; beside the network lie
    ``pretrain.json`` (the evidence, epoch by epoch) and ``report.html``. Where the figures without labels show no gain, the pretrained
    network is kept, and that is said.

    Parameters
    ----------
    photos
        A folder, however deep, or a table with the column ``path``. Names of folders, and labels in a table, are not read.
    backbone, weights, size, precision
        As for ``train``.
    wishes
        The method, the stages, the views, the recipe.
    resume
        Go on with an interrupted run in ``out``: it ends as if it had not been interrupted.
    seed
        The same seed on the same machine gives the same network.
    store
        Where activations are kept, by default greffon's cache.

    Raises
    ------
    GreffonError
        Of the kind that says what is wrong. What was computed before stays in the store.
    """
    started = time.perf_counter()
    listener, kept, folder = progress or Silent(), store or Store(), Path(out)
    wanted = wishes or Pretraining()
    check_results_folder(folder, Path(photos))
    check_folder_is_free(folder, (_EVIDENCE, PLAN_FILE))
    earlier = read_plan(folder) if resume else None
    network = load_any_backbone(backbone, weights=weights, size=size, progress=listener)
    cut = _cut(network, wanted.unfreeze)
    looked = _look(photos, kept, listener)
    ground = _pass(network, cut, looked, wanted, earlier, precision, seed, kept, listener, started)
    for place, reason in sorted(ground.frozen.failed.items()):
        listener.warn(f"set aside: {looked.dataset.paths[place]}: {reason}")
    checkpoint = folder / _CHECKPOINT
    _begin_folder(folder, ground.plan, checkpoint, resume, listener)
    began = time.perf_counter()
    trained = pretrain_above(
        ground.grown,
        ground.frozen.source,
        ground.images,
        wanted.chosen,
        ground.plan.recipe,
        progress=listener,
        configuration=_configuration(network, cut, ground),
        checkpoint=checkpoint,
        resume=resume,
    )
    gained, why = _verdict(trained)
    tuned = tuned_backbone(network, cut, ground.grown, labels=False) if gained else network
    result = PretrainResult(
        folder=folder,
        network=tuned,
        cut=cut,
        method=wanted.chosen,
        gained=gained,
        why=why,
        scan=looked,
        paths=tuple(looked.dataset.paths[i] for i in ground.images.tolist()),
        before=features_above(network, cut, ground.frozen.source, ground.images),
        after=features_above(tuned, cut, ground.frozen.source, ground.images),
        history=trained.history,
        best_epoch=trained.best_epoch,
        stopped=trained.stopped,
        training=_about(network, cut, wanted, ground, trained, gained, why, time.perf_counter() - began),
        plan=ground.plan.engine,
        computed=ground.frozen.computed,
        reused=ground.frozen.reused,
        unreadable=(*looked.unreadable, *((looked.dataset.paths[i], reason) for i, reason in sorted(ground.frozen.failed.items()))),
        seconds=time.perf_counter() - started,
    )
    _write(result, listener)
    return result


def _cut(network: Backbone, unfreeze: str) -> str:
    """The stage from which is trained: as wished, or the last one."""
    cut = unfreeze or network.stages[-1]
    if cut in ("none", "auto"):
        raise BackboneError(f"--unfreeze {cut}: above the last stage there is nothing to train",
                            hint=f"Give one of {', '.join(network.stages)}, or all; by default it is the last.")  # fmt: skip
    network.position(cut)
    return cut


def _look(photos: Path | str, book: Store, listener: Progress) -> Scan:
    """The photos, in the order of their contents: what folders they lie in, and what they are called, changes nothing."""
    looked = scan(read_photos(photos), book=book, progress=listener)
    looked.tell(listener)
    different = len(np.unique(looked.groups))
    if different < LEAST_IMAGES:
        told = f"{len(looked.digests)} readable photos, {different} of them different from each other"
        raise DataError(f"{photos}: has {told}; self-supervised training needs {LEAST_IMAGES} or more",
                        hint="Each photo is told from the others: some hundred are a good beginning.")  # fmt: skip
    order = sorted(range(len(looked.digests)), key=looked.digests.__getitem__)
    return replace(
        looked,
        dataset=looked.dataset.take(order),
        digests=tuple(looked.digests[i] for i in order),
        facts=tuple(looked.facts[i] for i in order),
        groups=looked.groups[order],
    )


def _pass(
    network: Backbone,
    cut: str,
    looked: Scan,
    wanted: Pretraining,
    earlier: Plan | None,
    precision: str,
    seed: int,
    store: Store,
    listener: Progress,
    started: float,
) -> _Ground:
    """Run the frozen part over every view of the photos, and settle what the clock has a part in."""
    layout, recipe = Layout(cut, wanted.views, wanted.keep), wanted.settled(seed)
    _must_be_the_same(layout, earlier)
    dataset = replace(looked.dataset, splits=("train",) * len(looked.dataset))
    engine, choice = chosen_engine(
        network,
        Tap("map", cut),
        precision,
        dataset.paths,
        listener,
        images=len(dataset) * layout.views,
        keep=layout.keep,
        plan=None if earlier is None else earlier.engine,
    )
    looks = views(wanted.policy, layout.views, seed)
    frozen = frozen_part(network, engine, layout, looks, dataset, looked.digests, store=store, progress=listener)
    images = np.array([i for i in range(len(dataset)) if i not in frozen.failed], np.int64)
    grown = ready_to_pretrain(network, cut, frozen.source, images)
    if earlier is not None:
        before = earlier.recipe
        recipe = replace(recipe, winograd=before.winograd, precision=before.precision)
        epochs = earlier.epochs if wanted.minutes else recipe.epochs
    else:
        spent = time.perf_counter() - started
        epochs = _epochs_in(network, cut, grown, len(images), recipe, wanted.minutes, spent, listener)
    plan = Plan(layout, choice, epochs, replace(recipe, epochs=epochs))
    return _Ground(looked, images, grown, frozen, engine, plan, tuple(looks))


def _must_be_the_same(layout: Layout, earlier: Plan | None) -> None:
    if earlier is not None and earlier.layout != layout:
        raise OptionError(f"--resume: the run was laid out as {earlier.layout.to_dict()}, this one as {layout.to_dict()}",
                          hint="Give the options of the first run, or start again without --resume.")  # fmt: skip


def _epochs_in(
    network: Backbone, cut: str, grown: Grown, images: int, recipe: Recipe, minutes: float, spent: float, listener: Progress
) -> int:
    """As many epochs as fit into what is left of the minutes, at the speed of one step: one at the least."""
    if not minutes:
        return recipe.epochs
    speed = time_training(grown, network, cut, recipe)
    adds = sum(row.multiply_adds for row in describe_plan(network.plan).stages[network.position(cut) :])
    # Two views forwards and backwards, three passes each; and two views looked at, of 2,000 images at most.
    epoch = (6 * images + 2 * min(images, 2000)) * adds / speed
    fit = int(max(1, min(recipe.epochs, (60 * minutes - spent) // max(epoch, 1e-9))))
    if fit < recipe.epochs:
        listener.say(f"--minutes {minutes:g}: some {epoch:,.0f} s an epoch, so {fit} epochs instead of {recipe.epochs}")
    return fit


def _begin_folder(folder: Path, plan: Plan, checkpoint: Path, resume: bool, listener: Progress) -> None:
    """The plan first, so that a run that goes on decides the same."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / PLAN_FILE, plan.to_dict())
        if not resume:
            checkpoint.unlink(missing_ok=True)
    except OSError as error:
        raise OptionError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    if resume and not checkpoint.exists():
        listener.say(f"there is no checkpoint in {folder}: the run begins at its beginning")


def _configuration(network: Backbone, cut: str, ground: _Ground) -> dict[str, Any]:
    """All that the training depends on: a checkpoint goes on with the same alone."""
    looked = ground.looked
    return {
        "backbone": network.fingerprint,
        "cut": cut,
        "keep": ground.plan.layout.keep,
        "engine": ground.engine.fingerprint,
        "views": [look.to_dict() for look in ground.looks],
        "photos": looked.dataset.fingerprint(looked.digests),
    }


def _verdict(trained: Trained) -> tuple[bool, str]:
    """Whether anything was gained, by figures without labels, and why."""
    stopped = f" ({trained.stopped})" if trained.stopped else ""
    if trained.best_epoch == 0:
        return False, f"no epoch is better than the pretrained network by figures without labels{stopped}: it is kept"
    first, best = (trained.history[i].features for i in (0, trained.best_epoch))
    assert first is not None
    assert best is not None
    return True, f"epoch {trained.best_epoch} has the best score without labels: {best.score:.3f} after {first.score:.3f}{stopped}"


def _about(
    network: Backbone, cut: str, wanted: Pretraining, ground: _Ground, trained: Trained, gained: bool, why: str, seconds: float
) -> dict[str, Any]:
    """What the network remembers of its training."""
    return {
        "strategy": "self-supervised training above the cut",
        "transfer": "unsupervised",
        "method": wanted.chosen,
        "gained": gained,
        "why": why,
        "unfreeze": cut,
        "stages": list(network.stages[network.position(cut) :]),
        "pretrained": {"name": network.name, "fingerprint": network.fingerprint},
        "recipe": ground.plan.recipe.to_dict(),
        "views": [look.to_dict() for look in ground.looks],
        "policy": wanted.policy,
        "best_epoch": trained.best_epoch,
        "stopped": trained.stopped,
        "seed": ground.plan.recipe.seed,
        "seconds": round(seconds, 2),
        "plan": ground.plan.engine.to_dict(),
    }


def _write(result: PretrainResult, listener: Progress) -> None:
    """The network first, then what is for people."""
    folder, looked = result.folder, result.scan
    data = {
        "fingerprint": looked.dataset.fingerprint(looked.digests),
        "images": len(result.paths),
        "unreadable": len(result.unreadable),
    }
    save_network(result.network, folder, result.training, data)
    try:
        write_json(folder / _EVIDENCE, result.to_dict())
    except OSError as error:
        raise OptionError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    listener.say("writing the report")
    pretraining_report(folder / "report.html", result.to_dict(), result.history, result.paths, result.before, result.after)
    # Only now: up to here an interrupted run can go on.
    for name in (_CHECKPOINT, PLAN_FILE):
        (folder / name).unlink(missing_ok=True)

