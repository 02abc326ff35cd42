"""What a format's reader makes of an export: two halves that run, the photo's and the network's; and what both must be.

The file takes photos of one size. A server's photos have any: so it makes of each what the network sees with
``Preprocess``, as training did, and runs the graph from there on, any photos together. That ``Preprocess`` and the
file's own way of resizing are the same is seen when a model is loaded; see ``engines``.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from greffon.errors import ModelError, OptionError
from greffon.server.exported import Export

__all__ = ["FEATURES", "MAPS", "PHOTO", "PIXELS", "PROBABILITIES", "Opened", "check_properties", "first_line", "needs", "outputs_of"]

#: Names in the graph: the photo, uint8 (n, h, w, 3); what the network sees, float32 (n, 3, height, width); what it gives.
PHOTO, PIXELS, PROBABILITIES, FEATURES, MAPS = "photo", "pixels", "probabilities", "features", "maps"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """The halves of an export's graph. Each is called by one thread at a time, and raises what its engine raises.

    Parameters
    ----------
    photo
        One photo, uint8 (1, h, w, 3), to ``PIXELS``, float32 (1, 3, height, width).
    network
        ``PIXELS``, float32 (n, 3, height, width), to outputs of these names.
    """

    photo: Callable[[np.ndarray], np.ndarray]
    network: Callable[[np.ndarray, Sequence[str]], list[np.ndarray]]


def outputs_of(export: Export) -> tuple[str, ...]:
    """The outputs of an export that are ever asked for."""
    features = (FEATURES,) if export.remembered is not None else ()
    return (PROBABILITIES, *features, *((MAPS,) if export.maps else ()))


def check_properties(told: Mapping[str, str], export: Export) -> None:
    """The file and the description beside it must be of one model.

    ``told``: what the file says of itself, each as JSON. Raises ModelError.
    """
    for key, expected in (("classes", list(export.classes)), ("maps", export.maps), ("precision", export.precision)):
        try:
            found = json.loads(told.get(key, "null"))
        except (ValueError, RecursionError):
            found = None
        if found != expected:
            raise ModelError(f"{export.file}: its {key} are not those of export.json: the files do not belong together")


def first_line(error: Exception) -> str:
    """What engines say, which may be pages long."""
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]


def needs(export: Export, packages: Mapping[str, str], extra: str) -> None:
    """Raise OptionError where a package is missing. ``packages``: by the name that is imported, what is installed."""
    missing = [package for module, package in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise OptionError(f"to serve {export.folder}, an export to {export.format}, needs {', '.join(missing)},"
                          f" which {'are' if len(missing) > 1 else 'is'} not installed",
                          hint=f'Install what it needs: pip install "greffon[{extra}]".')  # fmt: skip
