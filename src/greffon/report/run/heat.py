"""Heat maps of mistakes: what spoke for the class that an image was taken for."""

from __future__ import annotations

import numpy as np

from greffon.datasets import Dataset
from greffon.errors import GreffonError
from greffon.explaining import chosen_method, heat_maps, overlaid
from greffon.model import Model
from greffon.progress import Progress
from greffon.report.run.pictures import surest_mistakes
from greffon.report.run.value import HeatPictures

__all__ = ["mistake_maps"]


def mistake_maps(
    model: Model, tested: Dataset, probabilities: np.ndarray, *, most: int = 12, progress: Progress | None = None
) -> HeatPictures | None:
    """Maps of the mistakes that the model was surest of.

    None where there are none, or where nothing but covering part after part of each photo would tell, which takes minutes.

    Parameters
    ----------
    tested, probabilities
        n labelled images, and float64 (n, c).
    """
    rows = surest_mistakes(probabilities, tested.labels)[:most] if len(tested) else np.zeros(0, np.int64)
    if not len(rows):
        return None
    try:
        method = chosen_method("auto", model)
        if method.name == "occlusion":
            return None
        found = heat_maps(model, [tested.paths[i] for i in rows.tolist()], probabilities[rows].argmax(1).tolist(), method.name,
                          progress=progress)  # fmt: skip
    except GreffonError:  # a report without heat maps is better than none
        return None
    good = [place for place in range(len(rows)) if place not in found.failed and np.isfinite(found.maps[place]).all()]
    return HeatPictures(method.name, {int(rows[place]): overlaid(found.pictures[place], found.maps[place]) for place in good})
