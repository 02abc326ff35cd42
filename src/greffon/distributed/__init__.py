"""Beyond one process: an ``Executor`` and ``Launcher``s that are handed down, and what only a cluster has. Nothing below knows of it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greffon.distributed.cluster import Cluster, connected
    from greffon.distributed.embedding import Embedding, embed
    from greffon.distributed.executing import RayExecutor
    from greffon.distributed.fitting import RayLauncher

__all__ = ["Cluster", "Embedding", "RayExecutor", "RayLauncher", "connected", "embed"]

_HOMES = {
    "Cluster": "greffon.distributed.cluster",
    "Embedding": "greffon.distributed.embedding",
    "RayExecutor": "greffon.distributed.executing",
    "RayLauncher": "greffon.distributed.fitting",
    "connected": "greffon.distributed.cluster",
    "embed": "greffon.distributed.embedding",
}


def __getattr__(name: str) -> Any:
    # A machine of the cluster is asked for its version, and the user told what is missing, without torch's seconds.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'greffon.distributed' has no attribute {name!r}")
