"""``greffon cache``: what the store holds, and how to be rid of it."""

from __future__ import annotations

import shutil

from greffon.activations import ShelfInfo, Store
from greffon.settings import cache_root

__all__ = ["cache", "clear_cache"]


def cache(*, store: Store | None = None) -> list[ShelfInfo]:
    """Every folder of activations, the largest first."""
    return (store or Store()).shelves()


def clear_cache(backbone: str = "", *, store: Store | None = None) -> int:
    """Delete the activations of one backbone, or all of them. Returns the number of bytes that were freed.

    With all of them go the quantised networks, and what the clock has chosen for a pass.
    """
    freed = (store or Store()).clear(backbone)
    if not backbone and store is None:
        for folder in (cache_root() / "quantised", cache_root() / "plans"):
            freed += sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
            shutil.rmtree(folder, ignore_errors=True)
    return freed
