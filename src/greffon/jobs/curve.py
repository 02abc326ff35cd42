"""``greffon curve``: accuracy against the number of training images; would more photos help?"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Store, Tap, chosen_engine, compute
from greffon.datasets import Scan, read_dataset, scan, without_excluded
from greffon.errors import DataError, OptionError
from greffon.evaluation import Growth, measure_growth
from greffon.heads import HEADS
from greffon.model import load_any_backbone, versions
from greffon.progress import Progress, Silent
from greffon.report import check_results_folder, plot_growth, write_results
from greffon.transfer.inductive import fit_probe, is_fine_tuned

__all__ = ["CurveResult", "curve"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class CurveResult:
    """The curve, and how it was measured.

    Parameters
    ----------
    growth
        The points and what they foretell.
    backbone, engine
        The network's name, and the fingerprint of the engine that ran it.
    recipe
        Of the heads, in words.
    scan
        The images: those of a test split are not among them.
    unreadable
        Files set aside, with the reason.
    files
        What was written.
    seconds
        Of all of it.
    """

    growth: Growth
    backbone: str
    engine: str
    recipe: str
    scan: Scan
    seed: int
    unreadable: tuple[tuple[Path, str], ...]
    files: tuple[Path, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``curve.json``, and of ``curve --json``."""
        return {
            "backbone": self.backbone,
            "recipe": self.recipe,
            **self.growth.to_dict(),
            "classes": list(self.scan.dataset.classes),
            "seed": self.seed,
            "engine": self.engine,
            "data": self.scan.dataset.fingerprint(self.scan.digests),
            "unreadable": [{"path": str(path), "reason": reason} for path, reason in self.unreadable],
            "versions": versions(),
        }


def curve(
    data: Path | str,
    *,
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    head: str = "logistic",
    repeats: int = 4,
    seed: int = 0,
    precision: str = "auto",
    exclude: Path | str | None = None,
    out: Path | str | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> CurveResult:
    """Measure how the accuracy grows with the number of training images, and foretell what twice as many would bring.

    One frozen pass; features and strength are chosen once, as ``train`` chooses them, and heads are fitted on ever larger parts of the
    images (see ``evaluation.measure_growth``). So the curve is that of feature extraction. Where the data has a test split, that is not
    looked at.

    Parameters
    ----------
    data, exclude
        As for ``train``.
    backbone, weights, size, head, precision
        As for ``train``.
    repeats
        How often the images are dealt into folds.
    seed
        The same seed gives the same parts.
    out
        A folder for ``curve.json``, ``curve.png`` and ``curve.svg``, or None.

    Raises
    ------
    GreffonError
        Of the kind that says what is wrong.
    """
    started = time.perf_counter()
    listener, kept = progress or Silent(), store or Store()
    if head not in HEADS:
        raise OptionError(f"curve: head must be one of {', '.join(HEADS)}, got {head!r}")
    if not 1 <= repeats <= 100:
        raise OptionError(f"--repeats must be from 1 to 100, got {repeats}")
    if out is not None:
        check_results_folder(Path(out), Path(data))
    looked = _learned(data, exclude, kept, listener)
    dataset = looked.dataset
    network = load_any_backbone(backbone, weights=weights, size=size, progress=listener)
    if is_fine_tuned(network):
        listener.warn(f"{backbone}: its stages were fine-tuned; where that was on some of these images, the curve is flattered")
    engine, _ = chosen_engine(network, Tap("pooled"), precision, dataset.paths, listener, labels=dataset.labels)
    found = compute(dataset.paths, network, Tap("pooled"), engine, store=kept, progress=listener, digests=looked.digests)
    failed = tuple((dataset.paths[i], reason) for i, reason in sorted(found.failed.items()))
    for path, reason in failed:
        listener.warn(f"set aside: {path}: {reason}")
    good = np.array([i for i in range(len(dataset)) if i not in found.failed], np.int64)
    pooled, labels, groups = found.batch(good), dataset.labels[good], looked.groups[good]
    probe = fit_probe(pooled, network.widths(), labels, len(dataset.classes), groups=groups, head=head, seed=seed, progress=listener)
    growth = measure_growth(
        probe.representation.take(pooled, network.widths()),
        labels,
        len(dataset.classes),
        groups,
        head=head,
        strength=probe.strength,
        norm=probe.representation.norm,
        balanced=probe.balanced,
        repeats=repeats,
        seed=seed,
        progress=listener,
    )
    result = CurveResult(
        growth=growth,
        backbone=network.name,
        engine=engine.fingerprint,
        recipe=f"{head} on the {probe.representation}, strength {probe.strength:g}",
        scan=looked,
        seed=seed,
        unreadable=(*looked.unreadable, *failed),
        files=(),
        seconds=time.perf_counter() - started,
    )
    if out is None:
        return result
    title = f"{Path(data).name}: accuracy by the number of training images, {network.name}"
    files = write_results(Path(out), "curve", result.to_dict(), lambda path: plot_growth(growth, path, title=title))
    return replace(result, files=files, seconds=time.perf_counter() - started)


def _learned(data: Path | str, exclude: Path | str | None, book: Store, listener: Progress) -> Scan:
    """The images that may be learned from, looked at."""
    dataset = without_excluded(read_dataset(data), exclude)
    tested = len(dataset.where("test"))
    if tested == len(dataset):
        raise DataError(f"{dataset.root}: there is nothing but a test split, which is not looked at here")
    if tested:
        listener.say(f"the {tested} images of the test split are not looked at")
        dataset = dataset.take(np.flatnonzero([role != "test" for role in dataset.splits]))
    looked = scan(dataset, book=book, progress=listener)
    looked.tell(listener)
    return replace(looked, dataset=looked.dataset.without_empty_classes())
