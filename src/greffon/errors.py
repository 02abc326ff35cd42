"""Every error that greffon raises on purpose.

    GreffonError
    ├── OptionError      a parameter or an option of a command
    ├── ImageError       one file that should be an image
    ├── DataError        a data set: its folder, its table, its classes
    ├── BackboneError    a network: its name, its stages
    ├── WeightsError     a weight file, or weights that cannot be had
    ├── StoreError       the activations on disk
    ├── ModelError       a model folder
    └── ExportError      an exported file that does not say what its model says

The command line turns each of them into one message and exit code 2. Anything else that
escapes is a fault of greffon's own.
"""

from __future__ import annotations

__all__ = [
    "BackboneError",
    "DataError",
    "ExportError",
    "GreffonError",
    "ImageError",
    "ModelError",
    "OptionError",
    "StoreError",
    "WeightsError",
]


class GreffonError(Exception):
    """Something outside greffon is not as it must be.

    Parameters
    ----------
    what
        The input and its fault, as one sentence: what it is, where, what was expected, what came.
    hint
        What to do about it, or nothing where that is plain.
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n{self.hint}" if self.hint else self.what


class OptionError(GreffonError, ValueError):
    """A parameter that cannot be used."""


class ImageError(GreffonError):
    """A file that cannot be read as an image."""


class DataError(GreffonError, ValueError):
    """A data set that cannot be used."""


class BackboneError(GreffonError, ValueError):
    """A network that is not known, or has no such stage."""


class WeightsError(GreffonError):
    """Weights that are missing, damaged, or those of another network."""


class StoreError(GreffonError):
    """The store of activations cannot be read or written."""


class ModelError(GreffonError):
    """A model folder that cannot be used."""


class ExportError(GreffonError):
    """An exported file that does not say what its model says, or cannot be run."""
