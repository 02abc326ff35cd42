"""``greffon label``: a few labelled photos, and just these unlabelled ones of the same kind."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from greffon.activations import QuantisedEngine, Store, Tap, chosen_engine, compute
from greffon.datasets import Scan, read_dataset, read_photos, scan
from greffon.datasets.splitting import must_have_two_classes
from greffon.errors import DataError, OptionError
from greffon.heads import Normaliser, Representation
from greffon.jobs.label.result import AGREE, APART, FAULT, GIVEN, LOW, LabelledPhoto, LabelResult, write_labels
from greffon.model import Model, load_any_backbone
from greffon.progress import Progress, Silent
from greffon.report import check_results_folder
from greffon.transfer.transductive import (
    Labelled,
    Labelling,
    Unlabelled,
    choose_spreading,
    label_by_spreading,
)

__all__ = ["REPRESENTATIONS", "label", "looks_of"]

#: What is chosen from, the default first; see ``choose_spreading``.
REPRESENTATIONS = (
    Representation("last", "mean", "sqrt-l2"),
    Representation("last", "mean+max", "l2"),
    Representation("all", "mean", "standard"),
)


def label(
    photos: Path | str,
    *,
    labelled: Path | str,
    out: Path | str,
    backbone: str = "vgg16",
    weights: Path | None = None,
    size: int = 0,
    precision: str = "auto",
    threshold: float = 0.6,
    prior: Mapping[str, float] | None = None,
    seed: int = 0,
    store: Store | None = None,
    progress: Progress | None = None,
) -> LabelResult:
    """Label photos from a few labelled ones of the same kind, and leave those that are unsure unlabelled.

    The folder ``out`` gets ``labels.csv`` (every photo), ``dataset.csv`` (the given and the found labels, for ``train``),
    ``label.json``, ``labels.html`` to look at, and a model in ``model/``.

    Parameters
    ----------
    photos
        A folder, or a table with the column ``path``. Names of folders, and labels in a table, are not looked at.
    labelled
        As for ``train``: a folder per class, or a table. A test split is not looked at.
    backbone, weights, size, precision
        As for ``train``.
    threshold
        How probable a label must be to be given.
    prior
        The share of each class among the photos, where it is known; of all classes, and they sum to 1.
    store
        Where activations are kept, by default greffon's cache.

    Raises
    ------
    GreffonError
        Of the kind that says what is wrong.
    """
    started = time.perf_counter()
    listener = progress or Silent()
    kept = store or Store()
    folder = Path(out)
    if not 0 <= threshold <= 1:
        raise OptionError(f"--threshold must be from 0 to 1, got {threshold}")
    _check_folders(Path(photos), Path(labelled), folder)
    given = read_dataset(labelled)
    if "test" in given.splits:
        listener.say(f"{len(given.where('test'))} labelled photos of a test split are not looked at")
        given = given.take([i for i, role in enumerate(given.splits) if role != "test"])
    must_have_two_classes(given)
    found = read_photos(photos, apart=Path(labelled) if Path(labelled).is_dir() else None)
    network = load_any_backbone(backbone, weights=weights, size=size, progress=listener)
    few = scan(given, book=kept, progress=listener)
    few.tell(listener)
    for i, name in enumerate(given.classes):
        if i not in few.dataset.labels:
            listener.warn(f"the class {name!r} has no labelled photo left, so no photo will be given it")
    known = few.dataset.without_empty_classes()
    must_have_two_classes(known)
    shares = _prior(prior, known.classes)
    many = scan(found, book=kept, progress=listener)
    many.tell(listener)
    label_of = {digest: known.classes[int(i)] for digest, i in zip(few.digests, known.labels, strict=True)}
    new = [i for i, digest in enumerate(many.digests) if digest not in label_of]
    if len(new) < len(many.digests):
        listener.say(
            f"{len(many.digests) - len(new)} photos stand among the labelled ones, too: they have the label given there"
        )
    if not new:
        raise DataError(
            f"{photos}: all of its {len(many.digests)} photos stand among the labelled ones, so none is left to label"
        )
    paths = [*known.paths, *(many.dataset.paths[i] for i in new)]
    digests = [*few.digests, *(many.digests[i] for i in new)]
    # In the order of their contents: a photo that was labelled meanwhile, and is now found among the few, changes nothing, so
    # that the same engine is chosen again and what it computed is known.
    by_content = [paths[i] for i in sorted(range(len(paths)), key=digests.__getitem__)]
    engine, plan = chosen_engine(network, Tap("pooled"), precision, by_content, listener)
    seen = compute(paths, network, Tap("pooled"), engine, store=kept, progress=listener, digests=digests)
    for i, reason in sorted(seen.failed.items()):
        listener.warn(f"set aside: {paths[i]}: {reason}")
    read = np.array([i for i in range(len(paths)) if i not in seen.failed], np.int64)
    own, others = read[read < len(known)], read[read >= len(known)]
    looks, normalisers = looks_of(seen.batch([*own, *others]), network.widths(), known.labels[own], len(known.classes))
    which, spreading, tried = choose_spreading(
        looks, groups=few.groups[own], prior=shares, seed=seed, progress=listener
    )
    told = label_by_spreading(
        *looks[which],
        spreading,
        groups=few.groups[own],
        prior=shares,
        threshold=threshold,
        seed=seed,
        progress=listener,
    )
    representation = REPRESENTATIONS[which]
    model = Model(
        backbone=network,
        cut="none",
        classes=known.classes,
        representation=representation,
        normaliser=normalisers[which],
        head=told.head,
        precision=engine.precision,
        training={
            "strategy": "label spreading and self-training",
            "neighbours": spreading.neighbours,
            "alpha": spreading.alpha,
            "threshold": threshold,
            "prior": None if prior is None else dict(prior),
            "temperature": told.temperature,
            "tried": [
                {
                    "representation": str(REPRESENTATIONS[i]),
                    "neighbours": one.neighbours,
                    "alpha": one.alpha,
                    "accuracy": right,
                }
                for i, one, right in tried
            ],
            "chosen_by": "leaving each labelled photo out in turn"
            if tried
            else "default: the labelled photos are too few",
            "seed": seed,
            "plan": plan.to_dict(),
        },
        figures={},
        data={
            "fingerprint": known.fingerprint(few.digests),
            "images": int(len(own) + told.decided.sum()),
            "given": len(own),
            "labelled": int(told.decided.sum()),
            "unsure": int((~told.decided).sum()),
        },
        quantised=engine.graph if isinstance(engine, QuantisedEngine) else None,
    )
    thought = {digests[int(i)]: k for k, i in enumerate(others)}
    rows = _rows(many, label_of, told, thought, known.classes, [paths[i] for i in seen.failed if i >= len(known)])
    result = LabelResult(folder, rows, known.classes, replace(few, dataset=known), representation, spreading, told, model, plan,
                         seen.computed, seen.reused, time.perf_counter() - started)  # fmt: skip
    write_labels(result, listener)
    return result


def _check_folders(photos: Path, labelled: Path, out: Path) -> None:
    """Raises OptionError where the three stand in each other's way."""
    for data in (photos, labelled):
        check_results_folder(out, data)
    try:
        inside = photos.is_dir() and labelled.is_dir() and photos.resolve().is_relative_to(labelled.resolve())
        taken = out.is_dir() and not (out / "labels.csv").is_file() and any(out.iterdir())
    except (OSError, ValueError) as error:
        raise OptionError(
            f"{photos}, {labelled}, {out}: cannot be looked at ({getattr(error, 'strerror', None) or error})"
        ) from error
    if inside:
        raise DataError(
            f"--labelled {labelled}: the photos to label ({photos}) lie in it, so their folder would be read as a class",
            hint="Put the labelled photos and the others into folders beside each other.",
        )
    if taken:
        raise OptionError(f"--out {out}: there is something else already", hint="Give a new folder, or an empty one.")


def _prior(prior: Mapping[str, float] | None, classes: Sequence[str]) -> np.ndarray | None:
    """In the order of the classes, or None where nothing is known."""
    if prior is None:
        return None
    shares = np.array([prior.get(name, 0.0) for name in classes], np.float64)
    if set(prior) != set(classes) or not (shares > 0).all() or abs(float(shares.sum()) - 1) > 1e-3:
        told = ", ".join(f"{name}={share:g}" for name, share in prior.items())
        raise OptionError(f"--prior must give each of {', '.join(classes)} a positive share, 1 in all, got {told}")
    return shares / shares.sum()


def looks_of(
    pooled: np.ndarray, widths: Sequence[int], y: np.ndarray, classes: int
) -> tuple[list[tuple[Labelled, Unlabelled]], list[Normaliser]]:
    """The features to choose from, the labelled first, normalised over all of them: no label is used for that."""
    looks, normalisers = [], []
    for representation in REPRESENTATIONS:
        features = representation.take(pooled, widths)
        normaliser = Normaliser.fit(features, representation.norm)
        x = normaliser.apply(features)
        looks.append((Labelled(x[: len(y)], y, classes), Unlabelled(x[len(y) :])))
        normalisers.append(normaliser)
    return looks, normalisers


def _rows(
    many: Scan,
    label_of: Mapping[str, str],
    told: Labelling,
    thought: Mapping[str, int],
    classes: Sequence[str],
    failed: Iterable[Path],
) -> tuple[LabelledPhoto, ...]:
    """A row for every file, in the order of their names: copies say what their original says."""
    twins: dict[Path, list[Path]] = defaultdict(list)
    for copy, original in many.repeated:
        twins[original].append(copy)
    rows = [LabelledPhoto(path, "", 0.0, "", "", FAULT) for path in (*(path for path, _ in many.unreadable), *failed)]
    for path, digest in zip(many.dataset.paths, many.digests, strict=True):
        if digest in label_of:
            row = LabelledPhoto(path, label_of[digest], 1.0, label_of[digest], "", GIVEN)
        elif digest in thought:
            k = thought[digest]
            second, best = (int(c) for c in np.argsort(told.probabilities[k], kind="stable")[-2:])
            decided = AGREE if told.decided[k] else LOW if told.agree[k] else APART
            row = LabelledPhoto(path, classes[best] if told.decided[k] else "", float(told.probabilities[k, best]),
                                classes[best], classes[second], decided)  # fmt: skip
        else:
            continue  # it failed in the pass
        rows += [row, *(replace(row, path=copy) for copy in twins[path])]
    return tuple(sorted(rows, key=lambda row: os.fsencode(row.path)))
