"""A classifier from a folder that ``embed --ray`` wrote: its features are read chunk by chunk, however many they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from greffon.distributed.places import opened
from greffon.distributed.writing import MANIFEST
from greffon.errors import DataError, OptionError
from greffon.evaluation import Evaluation, evaluate_probabilities
from greffon.heads import LinearHead, Normaliser, Representation
from greffon.model import Model, load_any_backbone, save_model, write_json
from greffon.progress import Progress, Silent
from greffon.report import check_folder_is_free, write_card
from greffon.streamed import Chunks, streamed_logistic, streamed_normaliser

__all__ = ["FeatureTraining", "batches_of", "is_feature_folder", "read_manifest", "train_on_features"]

#: Tried on the val rows.
_STRENGTHS = (3.0, 30.0, 300.0)
_ROWS = 8192


@final
@dataclass(frozen=True, slots=True, eq=False)
class FeatureTraining:
    """What was made, and what its test rows say."""

    model: Model
    evaluation: Evaluation
    rows: int


def is_feature_folder(data: Path | str) -> bool:
    """Whether it is a folder that ``embed --ray`` wrote to its end."""
    try:
        return (Path(data) / MANIFEST).is_file()
    except (OSError, ValueError):
        return False


def train_on_features(
    folder: Path | str,
    *,
    out: Path | str,
    backbone: str = "",
    weights: Path | None = None,
    balanced: bool | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> FeatureTraining:
    """Fit a logistic head on the labelled rows, evaluate it on a seventh of them, and save an ordinary model folder.

    15 % of the rows are the test split and 15 % choose the strength; then the head is fitted on all but the test rows. The
    roles are drawn by what the features are, so that copies of an image have one role.

    Parameters
    ----------
    backbone, weights
        The network that the features are of, where the manifest's name does not find it. Its fingerprint must be the manifest's.
    balanced
        Whether every class counts alike; None: where the largest has twice the rows of the smallest.

    Raises
    ------
    DataError, OptionError, WeightsError
    """
    listener = progress or Silent()
    target = Path(out)
    check_folder_is_free(target, ("model.json",))
    about = read_manifest(Path(folder))
    if about["precision"] == "int8":
        raise OptionError(f"{folder}: its features were computed in int8, by a quantised network that is not in the folder",
                          hint="Embed with --precision bfloat16 or float32 to train on the features.")  # fmt: skip
    network = load_any_backbone(backbone or about["backbone"], weights=weights, size=about["preprocess"]["height"], progress=listener)
    if network.fingerprint != about["weights"] or network.preprocess.to_dict() != about["preprocess"]:
        raise OptionError(f"{folder}: its features are of other weights or preprocessing than {network.name} has here",
                          hint="Give --backbone, --weights as for embed.")  # fmt: skip
    files = [f"{folder}/{one['file']}" for one in about["files"]]
    classes = _classes(files)
    number = {name: i for i, name in enumerate(classes)}
    everything = _Rows(tuple(files), number, seed, ())
    counts = np.zeros(len(classes), np.int64)
    for _, y in everything():
        counts += np.bincount(y[y >= 0], minlength=len(classes))
    even = counts.max() >= 2 * max(counts.min(), 1) if balanced is None else balanced
    train, val, test = (replace(everything, roles=roles) for roles in (("train",), ("val",), ("test",)))
    normaliser = streamed_normaliser(train)
    losses = []
    listener.begin("Fitting the head", len(_STRENGTHS) + 1)
    for strength in _STRENGTHS:
        head = streamed_logistic(_normalised(train, normaliser), len(classes), strength, balanced=even)
        losses.append(_log_loss(val, normaliser, head))
        listener.advance()
    best = _STRENGTHS[int(np.argmin(losses))]
    both = replace(everything, roles=("train", "val"))
    normaliser = streamed_normaliser(both)
    head = streamed_logistic(_normalised(both, normaliser), len(classes), best, balanced=even)
    listener.advance()
    listener.end()
    truth, probabilities = [], []
    for x, y in test():
        truth.append(y[y >= 0])
        probabilities.append(head.probabilities(normaliser.apply(x[y >= 0])))
    if not sum(map(len, truth)):
        raise DataError(f"{folder}: no labelled row falls into the test split: too few rows")
    evaluation = evaluate_probabilities(np.concatenate(truth), np.concatenate(probabilities), classes)
    model = Model(
        backbone=network,
        cut="none",
        classes=classes,
        representation=Representation(about["stages"], about["pool"], "standard"),
        normaliser=normaliser,
        head=head,
        precision=about["precision"],
        training={"strategy": "feature extraction", "head": "logistic", "strength": best, "balanced": bool(even), "seed": seed,
                  "chosen_by": "the log-loss on the val rows", "fitted_on": ["train", "val"], "streamed": True,
                  "trials": [{"strength": s, "log_loss": loss} for s, loss in zip(_STRENGTHS, losses, strict=True)]},
        figures=evaluation.to_dict(),
        data={"fingerprint": about["fingerprint"], "images": int(counts.sum()),
              "images_by_class": dict(zip(classes, counts.tolist(), strict=True))},
    )  # fmt: skip
    save_model(model, target)
    write_card(target, model)
    try:
        write_json(target / "metrics.json", {**evaluation.to_dict(), "split": "test", "strategy": "feature extraction"})
    except OSError as error:
        raise OptionError(f"--out {target}: cannot be written ({error.strerror or error})") from error
    return FeatureTraining(model, evaluation, int(counts.sum()))


def read_manifest(folder: Path) -> dict[str, Any]:
    """What ``embed --ray`` says of its folder. Raises DataError where it is none, or damaged."""
    file = folder / MANIFEST
    wanted = {"backbone": str, "weights": str, "preprocess": dict, "precision": str, "stages": str, "pool": str, "files": list,
              "fingerprint": str}  # fmt: skip
    try:
        about = json.loads(file.read_text("utf-8"))
        if about["version"] != 1 or not all(isinstance(about[name], kind) for name, kind in wanted.items()):
            raise ValueError("a key of another type, or of a newer greffon")
        [one["file"] for one in about["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)[:160]
        raise DataError(f"{file}: not a manifest of greffon embed --ray ({reason})") from error
    return about


@final
@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of some roles, chunk by chunk; of all, where none is named."""

    files: tuple[str, ...]
    number: dict[str, int]
    seed: int
    roles: tuple[str, ...]

    def __call__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for place in self.files:
            for batch in batches_of(place, ["label", "features"]):
                column = batch.column("features")
                x = column.flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
                y = np.array([self.number.get(label, -1) for label in batch.column("label").to_pylist()], np.int64)
                if self.roles:
                    mine = np.array([_role(row, self.seed) in self.roles for row in x], bool)
                    x, y = x[mine], y[mine]
                if len(x):
                    yield x, y


def _role(row: np.ndarray, seed: int) -> str:
    """Of a row, by its features: 70 % train, 15 % val, 15 % test."""
    draw = int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=4, key=str(seed).encode()).digest(), "big") / 2**32
    return "test" if draw < 0.15 else "val" if draw < 0.3 else "train"


def batches_of(place: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a part, some thousands at a time. Raises DataError where it cannot be read."""
    try:
        with opened(place) as file:
            yield from pq.ParquetFile(file).iter_batches(_ROWS, columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{place}: cannot be read ({str(error).splitlines()[0][:160]})",
                        hint="Run the embed command again: what is damaged is done anew.") from error  # fmt: skip


def _classes(files: list[str]) -> tuple[str, ...]:
    found = {label for place in files for batch in batches_of(place, ["label"]) for label in batch.column("label").to_pylist()} - {None}
    if len(found) < 2:
        raise DataError(f"{Path(files[0]).parent if files else 'the folder'}: needs rows of two classes or more, got {len(found)}")
    return tuple(sorted(found))


def _normalised(rows: _Rows, normaliser: Normaliser) -> Chunks:
    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for x, y in rows():
            yield normaliser.apply(x), y

    return chunks


def _log_loss(rows: _Rows, normaliser: Normaliser, head: LinearHead) -> float:
    total = count = 0.0
    for x, y in rows():
        x, y = x[y >= 0], y[y >= 0]
        p = head.probabilities(normaliser.apply(x))[np.arange(len(y)), y]
        total -= float(np.log(np.maximum(p, 1e-12)).sum())
        count += len(y)
    return total / max(count, 1)
