"""``greffon views``: a contact sheet of what a policy makes of a photo."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from greffon.backbones import resized
from greffon.backbones.imported import find_entry
from greffon.errors import ImageError, OptionError
from greffon.images import Preprocess, View, encode_png, read_bytes
from greffon.images import views as views_of_policy
from greffon.model import is_model_folder, load_network
from greffon.whole import whole_file

__all__ = ["ViewsResult", "views"]

#: Pixels between two pictures, and their grey.
_GAP, _GREY = 4, 255


@final
@dataclass(frozen=True, slots=True)
class ViewsResult:
    """What was drawn: the views, row by row, each of ``height`` × ``width`` pixels."""

    file: Path
    views: tuple[View, ...]
    height: int
    width: int


def views(
    photo: Path | str,
    *,
    out: Path | str,
    policy: str = "standard",
    count: int = 8,
    seed: int = 0,
    backbone: str = "vgg16",
    size: int = 0,
) -> ViewsResult:
    """Draw the views of a photo side by side into a PNG file, the plain one first.

    Parameters
    ----------
    policy, count, seed
        See ``greffon.images.views``.
    backbone, size
        Whose preprocessing is used. No weights are needed for a name of the catalogue.

    Raises
    ------
    OptionError, ImageError, BackboneError, ModelError
    """
    chosen = views_of_policy(policy, count, seed)
    preprocess = _preprocess(backbone, size)
    data = read_bytes(Path(photo))
    digest = hashlib.sha256(data).hexdigest()
    try:
        image = preprocess.decode(data)
    except ImageError as error:
        raise ImageError(f"{photo}: {error.what}", hint=error.hint) from error
    sheet = _sheet([view.fit(image, digest, preprocess) for view in chosen])
    target = Path(out)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as part:
            part.write_bytes(encode_png(sheet))
    except OSError as error:
        raise OptionError(f"--out {target}: cannot be written ({error.strerror or error})") from error
    return ViewsResult(target, chosen, preprocess.height, preprocess.width)


def _preprocess(backbone: str, size: int) -> Preprocess:
    row = load_network(Path(backbone)).plan.entry if is_model_folder(backbone) else find_entry(backbone)
    return (resized(row, size) if size else row).preprocess


def _sheet(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size, uint8 (h, w, 3), in rows that are about as many as the pictures of each."""
    height, width, _ = pictures[0].shape
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), _GREY, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * (height + _GAP), i % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet
