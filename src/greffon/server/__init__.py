"""The server: exported models behind an HTTP API, with a page to try them on. Nothing here imports torch."""

from greffon.server.limits import ServerLimits
from greffon.server.running import serve

__all__ = ["ServerLimits", "serve"]
