"""Networks that the user made known with ``greffon weights import``: a file each, which says what it is.

They stand beside the catalogue's rows: their names may be used wherever a backbone's name may.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from greffon.backbones.catalogue import Entry, entry, names
from greffon.errors import BackboneError, OptionError, WeightsError
from greffon.images import Preprocess
from greffon.settings import cache_root

__all__ = ["checked_name", "find_entry", "imported_entry", "imported_file", "imported_names"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,79}")


def imported_file(name: str) -> Path:
    """Where the weights of an imported network lie, if the name can be one."""
    return cache_root() / "weights" / "imported" / f"{name}.safetensors"


def imported_names() -> list[str]:
    """All of them, in alphabetical order."""
    folder = cache_root() / "weights" / "imported"
    try:
        return sorted(file.stem for file in folder.glob("*.safetensors") if _NAME.fullmatch(file.stem))
    except OSError:
        return []


def imported_entry(name: str) -> Entry | None:
    """The row of an imported network, or None where there is none of that name.

    Raises
    ------
    WeightsError
        Its file is damaged.
    """
    if not _NAME.fullmatch(name):
        return None
    path = imported_file(name)
    if not path.is_file():
        return None
    from safetensors import safe_open

    try:
        with safe_open(path, framework="np") as file:
            about = dict(file.metadata() or {})
        preprocess = Preprocess.from_dict(json.loads(about["preprocess"]))
        return Entry(
            name=name,
            architecture=about["architecture"],
            preprocess=preprocess,
            weights_of=about["weights_of"],
            licence=about["licence"],
            fingerprint=about["fingerprint"],
        )
    except (OptionError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: damaged ({error})", hint="Remove the file, and import the weights again.") from error
    except Exception as error:  # safetensors' own error class is not a stable import
        raise WeightsError(f"{path}: damaged ({error})", hint="Remove the file, and import the weights again.") from error


def find_entry(name: str) -> Entry:
    """The row of a backbone: one that was imported, greffon's own, or timm's. Raises BackboneError as ``entry`` does."""
    found = imported_entry(name)
    if found is not None:
        return found
    try:
        return entry(name)
    except BackboneError as error:
        there = imported_names()
        more = f"{error.hint} Imported: {', '.join(there)}." if there else error.hint
        raise BackboneError(error.what, hint=more) from error


def checked_name(name: str) -> str:
    """A name for an imported network. Raises OptionError where it cannot be one, or is the catalogue's."""
    if not _NAME.fullmatch(name):
        raise OptionError(f"--name must be of a-z, 0-9, '.', '_', '-', '@' and '+', at most 80 of them, got {name!r}")
    if name in names() or name.partition(".")[0] in {known.partition(".")[0] for known in names()}:
        raise OptionError(f"--name {name}: that is a network of the catalogue; choose another one, for instance my-{name}")
    return name
