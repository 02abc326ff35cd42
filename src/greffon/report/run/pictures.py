"""The images of a report: which of them it shows, where they lie on the map, and their thumbnails."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from greffon.images import thumbnail
from greffon.progress import Progress
from greffon.report.maps import make_atlas, map_part
from greffon.report.parts import photo_address
from greffon.report.run.saying import Speaker
from greffon.report.run.value import HeatPictures, RunReport
from greffon.transfer.unsupervised import FlatMap, lay_flat

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["MOST", "Mistake", "Shown", "mistakes_of", "show_images", "surest_mistakes"]

#: Images with a thumbnail: so many stay under 15 MB.
MOST = 10_000
#: Images that t-SNE lays out in seconds; more are laid out on their principal axes.
_TSNE = 3_000
#: Features beyond this are first made fewer by the principal axes of a random projection.
_WIDE = 4_096


@final
@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The images that have a thumbnail.

    Parameters
    ----------
    positions
        int64 (k,): among the images of the report.
    part
        The map, as a part of a page.
    """

    positions: np.ndarray
    part: Markup
    flat: FlatMap


@final
@dataclass(frozen=True, slots=True)
class Mistake:
    """An image that was named wrongly. Pictures are data addresses, or "" where there is none."""

    name: str
    picture: str
    heat: str
    true: str
    predicted: str
    probability: float


def show_images(report: RunReport, speaker: Speaker, *, progress: Progress | None = None) -> Shown | None:
    """Lay the images out and draw their thumbnails; None where there are none."""
    n = len(report.tested)
    if not n:
        return None
    said, labels = report.probabilities.argmax(1), report.tested.labels
    positions = _drawn(said != labels, report.probabilities.max(1), MOST)
    features = report.probabilities if report.features is None else report.features
    flat = lay_flat(_narrowed(features[positions]), "tsne" if len(positions) <= _TSNE else "pca", steps=500)
    paths = [report.tested.paths[i] for i in positions.tolist()]
    wrong = said[positions] != labels[positions]
    notes = {
        row: speaker.say(speaker.words.map_wrong, predicted=speaker.name(report.tested.classes[int(said[i])]),
                         probability=speaker.percent(float(report.probabilities[i, said[i]]), 0))
        for row, i in enumerate(positions.tolist()) if wrong[row]
    }  # fmt: skip
    part = map_part(
        flat.points,
        [_name(path, report.tested.root) for path in paths],
        make_atlas(paths, progress=progress),
        groups=labels[positions],
        group_names=report.tested.classes,
        marked=wrong,
        marked_name=speaker.words.map_wrong_button if wrong.any() else "",
        notes=notes,
        lang=speaker.lang,
    )
    return Shown(positions, part, flat)


def _drawn(wrong: np.ndarray, confidence: np.ndarray, most: int) -> np.ndarray:
    """Positions, in their order: all, or the mistakes, the surest first, and others by chance."""
    if len(wrong) <= most:
        return np.arange(len(wrong))
    bad = np.flatnonzero(wrong)
    bad = bad[np.argsort(-confidence[bad], kind="stable")][:most]
    good = np.random.default_rng(0).permutation(np.flatnonzero(~wrong))[: most - len(bad)]
    return np.sort(np.concatenate([bad, good]))


def _narrowed(features: np.ndarray) -> np.ndarray:
    """Features as they are, or, where they are very many, a random projection of them, which keeps distances (Johnson and
    Lindenstrauss 1984)."""
    if features.shape[1] <= _WIDE:
        return features
    from sklearn.random_projection import SparseRandomProjection

    width: Any = _WIDE // 8  # the stubs know of "auto" alone
    return np.asarray(SparseRandomProjection(width, random_state=0).fit_transform(features), np.float32)


def _name(path: Path, root: Path) -> str:
    """Below the data, or by itself."""
    above = root if root.is_dir() else root.parent
    return path.relative_to(above).as_posix() if path.is_relative_to(above) else path.name


def mistakes_of(report: RunReport, most: int) -> tuple[int, tuple[Mistake, ...]]:
    """How many images are named wrongly, and those of which the model was surest."""
    if not len(report.tested):
        return 0, ()
    order = surest_mistakes(report.probabilities, report.tested.labels)
    return len(order), tuple(_mistake(report, int(i)) for i in order[:most])


def surest_mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int64 (k,): the positions of images that are named wrongly, the surest first. ``probabilities``: (n, c)."""
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")]


def _mistake(report: RunReport, i: int) -> Mistake:
    tested, best = report.tested, int(report.probabilities[i].argmax())
    return Mistake(
        name=_name(tested.paths[i], tested.root),
        picture=photo_address(tested.paths[i], side=160),
        heat=_heat_address(report.heat, i),
        true=tested.classes[int(tested.labels[i])],
        predicted=tested.classes[best],
        probability=float(report.probabilities[i, best]),
    )


def _heat_address(heat: HeatPictures | None, i: int) -> str:
    picture = heat.pictures.get(i) if heat is not None else None
    return "" if picture is None else f"data:image/jpeg;base64,{base64.b64encode(thumbnail(picture, side=160, quality=80)).decode()}"
