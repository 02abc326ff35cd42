"""``greffon cache``: what the store holds, and how to be rid of it."""

from __future__ import annotations

from greffon.activations import ShelfInfo, Store

__all__ = ["cache", "clear_cache"]


def cache(*, store: Store | None = None) -> list[ShelfInfo]:
    """Every folder of activations, the largest first."""
    return (store or Store()).shelves()


def clear_cache(backbone: str = "", *, store: Store | None = None) -> int:
    """Delete the activations of one backbone, or all of them. Returns the number of bytes that were freed."""
    return (store or Store()).clear(backbone)
