"""``greffon compare``: backbones side by side on your own images."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Activations, Engine, Store, Tap, chosen_engine, compute
from greffon.backbones import Backbone
from greffon.backbones.describe import describe_plan
from greffon.backbones.imported import find_entry
from greffon.datasets import Scan, scan_for_folds
from greffon.errors import BackboneError, DataError, ModelError, OptionError, WeightsError
from greffon.heads import HEADS
from greffon.model import is_model_folder, load_any_backbone, versions
from greffon.progress import Progress, Silent
from greffon.report import check_results_folder, plot_comparison, write_results
from greffon.transfer.inductive import (
    BackboneFigures,
    Contender,
    Cost,
    is_fine_tuned,
    predict_out_of_fold,
    side_by_side,
)

__all__ = ["Absent", "CompareResult", "compare"]

#: Said of stages that greffon has trained.
_KNOWS = "its stages were fine-tuned; where that was on some of these images, what is measured here is flattered"


@final
@dataclass(frozen=True, slots=True)
class Absent:
    """A backbone that could not be compared, and why."""

    name: str
    reason: str
    hint: str = ""


@final
@dataclass(frozen=True, slots=True, eq=False)
class CompareResult:
    """Backbones side by side, the most accurate first, and how they were measured.

    Parameters
    ----------
    rows
        One a backbone.
    absent
        Those whose weights are not to be had, or that cannot run on these images.
    scan
        The images: those of a test split are not among them.
    folds, seed, head
        As they were asked for.
    unreadable
        Files set aside, with the reason.
    files
        What was written.
    seconds
        Of all of it.
    """

    rows: tuple[BackboneFigures, ...]
    absent: tuple[Absent, ...]
    scan: Scan
    folds: int
    seed: int
    head: str
    unreadable: tuple[tuple[Path, str], ...]
    files: tuple[Path, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``compare.json``, and of ``compare --json``."""
        return {
            "backbones": [row.to_dict() for row in self.rows],
            "absent": [{"name": one.name, "reason": one.reason} for one in self.absent],
            "n": self.rows[0].n,
            "folds": self.folds,
            "seed": self.seed,
            "head": self.head,
            "classes": list(self.scan.dataset.classes),
            "data": self.scan.dataset.fingerprint(self.scan.digests),
            "near_duplicates": self.scan.near_duplicates,
            "unreadable": [{"path": str(path), "reason": reason} for path, reason in self.unreadable],
            "cores": os.cpu_count(),
            "versions": versions(),
        }


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Pass:
    """What is kept of a backbone after its frozen pass: the network itself may be large."""

    name: str
    found: Activations
    widths: tuple[int, ...]
    cost: Cost


def compare(
    data: Path | str,
    *,
    backbones: Sequence[str],
    size: int = 0,
    head: str = "logistic",
    folds: int = 5,
    seed: int = 0,
    precision: str = "auto",
    out: Path | str | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> CompareResult:
    """Measure, for each backbone, its accuracy out of fold and what its frozen pass costs on this machine.

    All see the same images in the same folds. In each fold, features and strength are chosen on its training images
    alone, as ``train`` chooses them. Where the data has a test split, that is not looked at.

    Parameters
    ----------
    data
        As for ``train``.
    backbones
        Names of the catalogue, or model folders, each once. One whose weights cannot be had is named, and the others
        go on.
    size
        Pixels that every network sees; 0: each what it was trained with.
    head
        One of ``heads.HEADS``.
    folds
        How many; every class needs as many images. Near-duplicates stay in one fold.
    seed
        The same seed gives the same folds.
    precision
        Of the frozen parts; see ``train``.
    out
        A folder for ``compare.json``, ``compare.png`` and ``compare.svg``, or None.
    store
        Where activations are kept, by default greffon's cache. Times are measured on images that are run anew.

    Raises
    ------
    GreffonError
        Of the kind that says what is wrong; also where no backbone can be used.
    """
    started = time.perf_counter()
    listener = progress or Silent()
    kept = store or Store()
    names = _checked(backbones)
    if head not in HEADS:
        raise OptionError(f"compare: head must be one of {', '.join(HEADS)}, got {head!r}")
    if out is not None:
        check_results_folder(Path(out), Path(data))
    looked = scan_for_folds(data, folds, book=kept, progress=listener)
    passes: list[_Pass] = []
    absent: list[Absent] = []
    for name in names:
        try:
            passes.append(_frozen_pass(name, looked, size, precision, kept, listener))
        except (BackboneError, ModelError, WeightsError) as error:
            absent.append(Absent(name, error.what, error.hint))
            listener.warn(f"{name} is left out: {error.what.splitlines()[0]}")
    if not passes:
        raise OptionError(
            "compare: none of the backbones can be used" + "".join(f"\n  {one.name}: {one.reason}" for one in absent),
            hint=absent[0].hint,
        )
    good, failed = _seen_by_all(passes, looked, listener)
    contenders = [_contender(one, looked, good, folds, head, seed, listener) for one in passes]
    result = CompareResult(
        rows=side_by_side(contenders),
        absent=tuple(absent),
        scan=looked,
        folds=folds,
        seed=seed,
        head=head,
        unreadable=(*looked.unreadable, *failed),
        files=(),
        seconds=time.perf_counter() - started,
    )
    if out is None:
        return result
    title = f"{Path(data).name}: {len(good)} images, {folds} folds"
    files = write_results(Path(out), "compare", result.to_dict(), lambda path: plot_comparison(result.rows, path, title=title))
    return replace(result, files=files, seconds=time.perf_counter() - started)


def _checked(backbones: Sequence[str]) -> list[str]:
    """The names, each known and there once. Raises OptionError or BackboneError."""
    if isinstance(backbones, str):
        raise OptionError(f"compare: backbones must be a list of names, got the text {backbones!r}")
    names = [name.strip() for name in backbones if name.strip()]
    if not names:
        raise OptionError(
            "compare: --backbones must name one backbone or more, got none",
            hint="For instance: --backbones vgg16,resnet50.a1_in1k. All there are: greffon backbones",
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise OptionError(f"compare: --backbones must name each backbone once, got {', '.join(twice)} more than once")
    for name in names:
        if not is_model_folder(name):
            find_entry(name)
    return names


def _frozen_pass(name: str, looked: Scan, size: int, precision: str, store: Store, progress: Progress) -> _Pass:
    """Run one backbone over all images, those known left out, and measure what it costs."""
    paths = looked.dataset.paths
    network = load_any_backbone(name, size=size, progress=progress)
    tap = Tap("pooled")
    if is_fine_tuned(network):
        progress.warn(f"{name}: {_KNOWS}")
    engine, _ = chosen_engine(network, tap, precision, paths, progress, labels=looked.dataset.labels)
    found = compute(paths, network, tap, engine, store=store, progress=progress, digests=looked.digests)
    good = [i for i in range(len(paths)) if i not in found.failed]
    if not good:
        raise DataError(f"{looked.dataset.root}: no image can be read any more; {next(iter(found.failed.values()))}")
    progress.say(f"measuring the time of {name}")
    blocks = _timed_blocks(network, tap, engine, looked, good)
    about = describe_plan(network.plan)
    tensors = sum(tensor.numel() * (4 if tensor.is_floating_point() else 8) for tensor in network.tensors().values())
    cost = Cost(
        seconds_per_1000=statistics.median(blocks),
        seconds_range=(min(blocks), max(blocks)),
        precision=engine.precision,
        engine=engine.fingerprint,
        parameters=sum(stage.parameters for stage in about.stages),
        model_bytes=tensors + 4 * (network.widths()[-1] + 1) * len(looked.dataset.classes),
        multiply_adds=about.total_multiply_adds,
    )
    return _Pass(name, found, network.widths(), cost)


def _timed_blocks(
    network: Backbone, tap: Tap, engine: Engine, looked: Scan, good: Sequence[int], *, least: int = 3, most: int = 12, enough: float = 4.0
) -> list[float]:
    """Seconds per 1,000 images of some blocks of images, run anew from their files after one block to warm up.

    Blocks of 16 images or of the engine's batch, at least ``least`` of them, until they have taken ``enough`` seconds
    together. Images come again where there are too few.
    """
    order = np.random.default_rng(0).permutation(np.asarray(good))
    width = min(max(16, engine.batch), len(order))
    blocks: list[float] = []
    for number in range(most + 1):
        some = np.take(order, range(number * width, (number + 1) * width), mode="wrap")
        part = [looked.dataset.paths[i] for i in some], [looked.digests[i] for i in some]
        began = time.perf_counter()
        compute(part[0], network, tap, engine, store=None, progress=Silent(), digests=part[1])
        if number:
            blocks.append((time.perf_counter() - began) * 1000 / width)
        if len(blocks) >= least and sum(blocks) * width / 1000 >= enough:
            break
    return blocks


def _seen_by_all(passes: Sequence[_Pass], looked: Scan, progress: Progress) -> tuple[np.ndarray, tuple[tuple[Path, str], ...]]:
    """Positions of the images that no pass has failed on, int64 (n,), and the other ones with the reason."""
    faults: dict[int, str] = {}
    for one in passes:
        faults |= one.found.failed
    failed = tuple((looked.dataset.paths[i], reason) for i, reason in sorted(faults.items()))
    for path, reason in failed:
        progress.warn(f"set aside: {path}: {reason}")
    return np.array([i for i in range(len(looked.dataset)) if i not in faults], np.int64), failed


def _contender(one: _Pass, looked: Scan, good: np.ndarray, k: int, head: str, seed: int, progress: Progress) -> Contender:
    """Cross-validate one backbone; every choice is made inside the folds."""
    y = looked.dataset.labels[good]
    progress.begin(f"Cross-validating {one.name}", k)
    told = predict_out_of_fold(
        one.found.batch(good), one.widths, y, len(looked.dataset.classes), groups=looked.groups[good], k=k, head=head,
        seed=seed, progress=progress,
    )  # fmt: skip
    progress.end()
    chosen = tuple(f"{representation}, strength {strength:g}" for representation, strength in told.chosen)
    return Contender(one.name, told.predicted == y, one.cost, chosen)
