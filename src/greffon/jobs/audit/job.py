"""``greffon audit``: faults of a folder of photos, before a model is trained on it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from greffon.activations import Store, Tap, chosen_engine, compute
from greffon.auditing import audit_contents, by_content
from greffon.datasets import read_dataset, without_excluded
from greffon.errors import DataError, OptionError
from greffon.jobs.audit.result import AuditResult, write_audit
from greffon.model import load_any_backbone
from greffon.progress import Progress, Silent
from greffon.report import check_folder_is_free, check_results_folder

__all__ = ["FIXES", "audit"]

#: What ``--fix`` can do.
FIXES = ("", "quarantine")


def audit(
    data: Path | str,
    *,
    out: Path | str | None = None,
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    exclude: Path | str | None = None,
    fix: str = "",
    seed: int = 0,
    precision: str = "auto",
    store: Store | None = None,
    progress: Progress | None = None,
) -> AuditResult:
    """Look for faults in photos: files that cannot be read, copies, probable label errors, outliers, signs of a shortcut.

    The folder ``out`` gets ``audit.json``, ``audit.csv`` (a row a file and fault, to act on) and ``audit.html`` to look at.
    No photo is moved or changed.

    Parameters
    ----------
    data
        As for ``train``; labels are not needed, but without them nothing is said about labels.
    out
        The folder to write, or None.
    backbone, weights, size, precision
        As for ``train``.
    exclude
        A list of files that are left out; see ``without_excluded``.
    fix
        ``"quarantine"``: write ``exclude.csv`` too, the files that training should leave out; ``train(exclude=...)`` reads it.
    seed
        Of the folds. The same seed finds the same.
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
    if fix not in FIXES:
        raise OptionError(f"--fix must be quarantine, got {fix!r}", hint="Without --fix nothing but the findings is written.")
    if fix and out is None:
        raise OptionError("--fix quarantine writes a list, and needs a folder for it", hint="Give --out DIR.")
    folder = Path(out) if out is not None else None
    if folder is not None:
        check_results_folder(folder, Path(data))
        check_folder_is_free(folder, ("audit.csv",))
    dataset = without_excluded(read_dataset(data, labelled=False), exclude)
    network = load_any_backbone(backbone, weights=weights, size=size, progress=listener)
    contents = by_content(dataset, book=kept, progress=listener)
    for path, reason in contents.scan.unreadable:
        listener.warn(f"cannot be read: {path}: {reason}")
    looked = contents.scan
    paths = looked.dataset.paths
    engine, plan = chosen_engine(network, Tap("pooled"), precision, paths, listener)
    found = compute(paths, network, Tap("pooled"), engine, store=kept, progress=listener, digests=looked.digests)
    failed = [(paths[i], reason) for i, reason in sorted(found.failed.items())]
    for path, reason in failed:
        listener.warn(f"cannot be read: {path}: {reason}")
    read = np.array([i for i in range(len(paths)) if i not in found.failed], np.int64)
    if not len(read):
        raise DataError(f"{data}: none of its {len(paths)} photos can be read to the end; {failed[0][0]}: {failed[0][1]}")
    began = time.perf_counter()
    root = dataset.root if dataset.root.is_dir() else dataset.root.parent
    told = audit_contents(contents, found.batch(read), network.widths(), read, failed, root, seed=seed, progress=listener)
    result = AuditResult(
        folder=folder,
        audit=told,
        backbone=network.name,
        plan=plan,
        seed=seed,
        fixed=fix,
        computed=found.computed,
        reused=found.reused,
        seconds_of_audit=time.perf_counter() - began,
        seconds=time.perf_counter() - started,
    )
    if folder is not None:
        write_audit(result, listener)
    return result
