"""What the environment says, read in one place.

GREFFON_CACHE    the folder of the store and of the weights (default: ~/.cache/greffon)
GREFFON_OFFLINE  1: never try the network
GREFFON_MIRROR   an address under which the published weight files lie by their names (for timm's: HF_ENDPOINT)
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_root", "mirror", "offline", "processors"]


def cache_root() -> Path:
    """The folder under which greffon keeps weights and activations."""
    chosen = os.environ.get("GREFFON_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "greffon"


def offline() -> bool:
    """Whether the user has switched the network off."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in ("GREFFON_OFFLINE", "HF_HUB_OFFLINE"))


def mirror() -> str:
    """Where published files are fetched from instead of their official places, or ""."""
    return os.environ.get("GREFFON_MIRROR", "").strip()


def processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
