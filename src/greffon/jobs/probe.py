"""``greffon probe``: where in the network the classes separate, and which cut to use."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.activations import Store, Tap, chosen_engine, compute
from greffon.datasets import Scan, scan_for_folds
from greffon.errors import OptionError
from greffon.heads import HEADS
from greffon.model import load_any_backbone, versions
from greffon.progress import Progress, Silent
from greffon.report import check_results_folder, plot_depths, write_results
from greffon.transfer.inductive import DepthFigures, depth_figures, is_fine_tuned

__all__ = ["ProbeResult", "probe"]

#: Said of stages that greffon has trained.
_KNOWS = "its stages were fine-tuned; where that was on some of these images, what is measured here is flattered"


@final
@dataclass(frozen=True, slots=True, eq=False)
class ProbeResult:
    """The accuracy by depth, and how it was measured.

    Parameters
    ----------
    figures
        Of every stage, with the suggested cut.
    backbone, engine
        The network's name, and the fingerprint of the engine that ran it.
    scan
        The images: those of a test split are not among them.
    seed
        Of the folds.
    unreadable
        Files set aside, with the reason.
    computed, reused
        How many images were run through the network now, and how many were known.
    files
        What was written.
    seconds
        Of all of it.
    """

    figures: DepthFigures
    backbone: str
    engine: str
    scan: Scan
    seed: int
    unreadable: tuple[tuple[Path, str], ...]
    computed: int
    reused: int
    files: tuple[Path, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``depth.json``, and of ``probe --json``."""
        return {
            "backbone": self.backbone,
            **self.figures.to_dict(),
            "classes": list(self.scan.dataset.classes),
            "seed": self.seed,
            "engine": self.engine,
            "data": self.scan.dataset.fingerprint(self.scan.digests),
            "near_duplicates": self.scan.near_duplicates,
            "unreadable": [{"path": str(path), "reason": reason} for path, reason in self.unreadable],
            "versions": versions(),
        }


def probe(
    data: Path | str,
    *,
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    head: str = "logistic",
    folds: int = 5,
    seed: int = 0,
    precision: str = "auto",
    out: Path | str | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> ProbeResult:
    """Measure, by cross-validation, what the pooled output of each stage tells of the classes, and suggest a cut.

    One frozen pass serves all stages. The mean of every channel is read, brought to one variance; each fold chooses the
    head's strength on its own training images. Where the data has a test split, that is not looked at.

    Parameters
    ----------
    data
        As for ``train``.
    backbone, weights, size, precision
        As for ``train``.
    head
        One of ``heads.HEADS``, the same for every stage.
    folds
        How many; every class needs as many images. Near-duplicates stay in one fold.
    seed
        The same seed gives the same folds.
    out
        A folder for ``depth.json``, ``depth.png`` and ``depth.svg``, or None.
    store
        Where activations are kept, by default greffon's cache.

    Raises
    ------
    GreffonError
        Of the kind that says what is wrong. What was computed before stays in the store.
    """
    started = time.perf_counter()
    listener = progress or Silent()
    kept = store or Store()
    if head not in HEADS:
        raise OptionError(f"probe: head must be one of {', '.join(HEADS)}, got {head!r}")
    if out is not None:
        check_results_folder(Path(out), Path(data))
    looked = scan_for_folds(data, folds, book=kept, progress=listener)
    dataset = looked.dataset
    network = load_any_backbone(backbone, weights=weights, size=size, progress=listener)
    tap = Tap("pooled")
    if is_fine_tuned(network):
        listener.warn(f"{backbone}: {_KNOWS}")
    engine, _ = chosen_engine(network, tap, precision, dataset.paths, listener, labels=dataset.labels)
    found = compute(dataset.paths, network, tap, engine, store=kept, progress=listener, digests=looked.digests)
    failed = tuple((dataset.paths[i], reason) for i, reason in sorted(found.failed.items()))
    for path, reason in failed:
        listener.warn(f"set aside: {path}: {reason}")
    good = np.array([i for i in range(len(dataset)) if i not in found.failed], np.int64)
    figures = depth_figures(
        found.batch(good),
        network.widths(),
        network.stages,
        dataset.labels[good],
        len(dataset.classes),
        groups=looked.groups[good],
        k=folds,
        head=head,
        seed=seed,
        progress=listener,
    )
    result = ProbeResult(
        figures=figures,
        backbone=network.name,
        engine=engine.fingerprint,
        scan=looked,
        seed=seed,
        unreadable=(*looked.unreadable, *failed),
        computed=found.computed,
        reused=found.reused,
        files=(),
        seconds=time.perf_counter() - started,
    )
    if out is None:
        return result
    title = f"{Path(data).name}: where in {network.name} the classes separate ({figures.n} images)"
    files = write_results(Path(out), "depth", result.to_dict(), lambda path: plot_depths(figures, path, title=title))
    return replace(result, files=files, seconds=time.perf_counter() - started)
