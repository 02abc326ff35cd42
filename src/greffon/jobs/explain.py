"""``greffon explain``: a model and photos, to pictures of what speaks for a class."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.datasets import find_images
from greffon.errors import DataError, GreffonError, OptionError
from greffon.explaining import HeatMaps, Method, chosen_method, heat_maps, peak_of
from greffon.images import read_bytes, signature
from greffon.model import Model, load_model, write_json
from greffon.progress import Progress, Silent
from greffon.report import (
    ExplainedPhoto,
    ExplanationCard,
    NearPhoto,
    check_folder_is_free,
    check_results_folder,
    explanation_card,
    explanations_page,
    path_in_table,
    plot_explanation,
)

__all__ = ["ExplainResult", "Explanation", "explain"]

_TABLE, _PAGE = "explanations.json", "explanations.html"
#: Photos that are explained at once, those on the page, and the classes of each there.
_BLOCK, _SHOWN, _BEST = 8, 400, 5


@final
@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a model says what it says of one photo; ``fault`` says why there is nothing.

    Parameters
    ----------
    label, probability
        The most probable class.
    explained, explained_probability, score
        The class that the map is of; its score is before temperature and softmax.
    box
        The part of the photo that the network saw: left, top, width and height as shares of the photo's sides.
    peak
        Where on the photo the most speaks for the class, as shares of its sides from the left and the top; None if nothing does.
    gap
        How much the map's mean or sum is off what it should be; None where the method has no such sum.
    picture
        The file in the folder.
    nearest
        Training photos, the nearest first.
    """

    path: Path
    label: str = ""
    probability: float = 0.0
    explained: str = ""
    explained_probability: float = 0.0
    score: float = 0.0
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    peak: tuple[float, float] | None = None
    gap: float | None = None
    picture: str = ""
    nearest: tuple[NearPhoto, ...] = ()
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        if self.fault:
            return {"path": path_in_table(self.path), "error": self.fault}
        return {
            "path": path_in_table(self.path),
            "label": self.label,
            "probability": self.probability,
            "explained": {"label": self.explained, "probability": self.explained_probability, "score": self.score},
            "box": [round(side, 6) for side in self.box],
            "peak": None if self.peak is None else [round(share, 6) for share in self.peak],
            "gap": self.gap,
            "picture": self.picture,
            "nearest": [{"label": one.label, "distance": round(one.distance, 6), "name": one.name} for one in self.nearest],
        }


@final
@dataclass(frozen=True, slots=True)
class ExplainResult:
    """What was written: the page, the table, and a picture for each photo."""

    folder: Path
    model: Path
    method: Method
    trained_in: str
    photos: tuple[Explanation, ...]

    def to_dict(self) -> dict[str, Any]:
        """What ``explanations.json`` holds."""
        return {
            "model": path_in_table(self.model),
            "method": self.method.name,
            "map": self.method.says,
            "precision": "float32",
            "trained_in": self.trained_in,
            "photos": [one.to_dict() for one in self.photos],
        }


def explain(
    model: Path | str,
    photos: Sequence[str | Path],
    *,
    out: Path | str,
    method: str = "auto",
    label: str = "",
    nearest: int = 6,
    progress: Progress | None = None,
) -> ExplainResult:
    """Show which places of photos speak for a class, and which training photos the network sees as nearest.

    The folder gets ``explanations.json``, ``explanations.html`` and a PNG for each photo. The model is run in float32.

    Parameters
    ----------
    model
        A model folder.
    photos
        See ``datasets.find_images``. One that cannot be read gives an ``Explanation`` with its fault.
    method
        One of ``explaining.METHODS``, or ``"auto"``: the class activation map where it is exact, else Grad-CAM, else occlusion.
    label
        The class to explain; by default the most probable one of each photo.
    nearest
        So many training photos are shown beside each, where the model remembers some; 0: none.

    Raises
    ------
    OptionError
        The method cannot explain this model, there is no such class, or the folder cannot be written.
    DataError
        There is no such photo, or none can be read.
    GreffonError
        Of the kind that says what is wrong.
    """
    listener = progress or Silent()
    if nearest < 0:
        raise OptionError(f"--nearest must be 0 or more, got {nearest}")
    paths, folder = find_images(photos), Path(out)
    for name in photos:
        check_results_folder(folder, Path(name))
    check_folder_is_free(folder, (_TABLE,))
    loaded = load_model(model)
    way = chosen_method(method, loaded)
    target = _number(label, loaded) if label else None
    if loaded.precision != "float32":
        listener.say(f"the model was trained in {loaded.precision}; it is explained in float32, so that probabilities may be a little off"
                     " those of greffon predict")  # fmt: skip
    rows, cards = _explained(loaded, paths, target, way, nearest, folder, listener)
    if all(one.fault for one in rows):
        raise DataError(f"none of the {len(rows)} photos could be read; {rows[0].path}: {rows[0].fault}")
    result = ExplainResult(folder, Path(model), way, loaded.precision, tuple(rows))
    readable = sum(not one.fault for one in rows)
    explanations_page(folder / _PAGE, cards, way, lead=_lead(loaded, Path(model), readable), hidden=readable - len(cards))
    try:
        write_json(folder / _TABLE, result.to_dict())
    except OSError as error:
        raise OptionError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    return result


def _explained(
    model: Model, paths: Sequence[Path], target: int | None, way: Method, nearest: int, folder: Path, progress: Progress
) -> tuple[list[Explanation], list[ExplanationCard]]:
    """The rows of the table and the cards of the page; the pictures are written. The folder is made for the first one."""
    rows: list[Explanation] = []
    cards: list[ExplanationCard] = []
    names = [f"{i + 1:04}-{_plain(path.stem)}.png" for i, path in enumerate(paths)]
    progress.begin(f"explaining by {way.title}", len(paths))
    try:
        for start in range(0, len(paths), _BLOCK):
            some = paths[start : start + _BLOCK]
            found = heat_maps(model, some, target, way.name)
            near = _nearest(model, found, nearest)
            for i, path in enumerate(some):
                if i in found.failed:
                    rows.append(Explanation(path, fault=found.failed[i].removeprefix(f"{path}: ")))
                    continue
                if not cards:
                    _begin(folder, names)
                row, shown = _one(model, found, i, path, near[i], names[start + i])
                plot_explanation(shown, way, folder / row.picture)
                rows.append(row)
                if len(cards) < _SHOWN:
                    cards.append(explanation_card(shown))
            progress.advance(len(some))
    finally:
        progress.end()
    return rows, cards


def _number(label: str, model: Model) -> int:
    if label not in model.classes:
        few = ", ".join(model.classes[:12]) + (f" and {len(model.classes) - 12} more" if len(model.classes) > 12 else "")
        raise OptionError(f"--class {label}: the model has no such class", hint=f"Its classes are: {few}.")
    return model.classes.index(label)


def _begin(folder: Path, names: Sequence[str]) -> None:
    """Make the folder, take away what an earlier run wrote there, and write down which pictures this one is going to write.

    So the run after an interrupted one knows them, and nothing else in the folder is touched.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*_pictures_of(folder / _TABLE), _PAGE):
            (folder / name).unlink(missing_ok=True)
        write_json(folder / _TABLE, {"unfinished": True, "photos": [{"picture": name} for name in names]})
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise OptionError(f"--out {folder}: cannot be written ({getattr(error, 'strerror', None) or error})") from error


def _pictures_of(table: Path) -> list[str]:
    """The pictures that a table names: none where there is no table, or not one of ours."""
    try:
        rows = json.loads(table.read_text("utf-8"))["photos"]
        named = [row.get("picture", "") for row in rows]
        return [name for name in named if re.fullmatch(r"\d{4,}-[A-Za-z0-9_-]+\.png", name)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []


def _nearest(model: Model, found: HeatMaps, k: int) -> list[tuple[NearPhoto, ...]]:
    """The training photos that are nearest to each, as far as the model remembers any."""
    kept = model.examples
    near: list[tuple[NearPhoto, ...]] = [() for _ in found.targets]
    good = [i for i in range(len(near)) if i not in found.failed]
    if kept is None or not len(kept) or not k or not good:
        return near
    positions, distances = kept.nearest(found.features[good], k)
    for i, line, apart in zip(good, positions.tolist(), distances.tolist(), strict=True):
        near[i] = tuple(
            NearPhoto(kept.names[at], model.classes[int(kept.labels[at])], float(far), kept.thumbnails[at])
            for at, far in zip(line, apart, strict=True)
        )
    return near


def _one(
    model: Model, found: HeatMaps, i: int, path: Path, near: tuple[NearPhoto, ...], picture: str
) -> tuple[Explanation, ExplainedPhoto]:
    """The row of the table, and what is drawn."""
    target, said = int(found.targets[i]), found.probabilities[i]
    order = [int(c) for c in np.argsort(-said, kind="stable")]
    named = [*order[:_BEST], *([target] if target not in order[:_BEST] else [])]
    box = _box(model, path)
    peak = peak_of(found.maps[i])
    on_photo = None if peak is None else (box[0] + peak[0] * box[2], box[1] + peak[1] * box[3])
    gap = float(found.gaps[i])
    row = Explanation(path, model.classes[order[0]], float(said[order[0]]), model.classes[target], float(said[target]),
                      float(found.scores[i, target]), box, on_photo, None if np.isnan(gap) else gap, picture, near)  # fmt: skip
    best = tuple((model.classes[c], float(said[c])) for c in named)
    return row, ExplainedPhoto(path, best, row.explained, row.explained_probability, found.pictures[i], found.maps[i], box, near)


def _box(model: Model, path: Path) -> tuple[float, float, float, float]:
    try:
        size = signature(read_bytes(path))
    except GreffonError:  # it has gone since it was read
        return 0.0, 0.0, 1.0, 1.0
    return model.backbone.preprocess.seen_box(size.height, size.width)


def _plain(stem: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem)[:60].strip("_") or "photo"


def _lead(model: Model, folder: Path, photos: int) -> str:
    kept = "" if model.precision == "float32" else (f" It was trained in {model.precision}, so that probabilities may be a little off those"
                                                     " of greffon predict.")  # fmt: skip
    return f"What the model {folder.name or folder} sees on {photos} {'photo' if photos == 1 else 'photos'}, run in float32.{kept}"
