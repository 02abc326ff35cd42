"""The command that answers requests: ``serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["serve"]


def _limit(text: str) -> Any:
    """An option in a part of the help of its own."""
    return typer.Option(help=text, rich_help_panel="Limits")


def serve(
    models: Annotated[
        list[str],
        typer.Argument(help="Folders that greffon export made, or greffon train; each may be NAME=FOLDER. The first is the default."),
    ],
    port: Annotated[int, typer.Option(help="0: one that is free.")] = 8000,
    host: Annotated[str, typer.Option(help="What to listen on. 0.0.0.0: everybody who can reach this machine.")] = "127.0.0.1",
    api_keys: Annotated[
        Path | None, typer.Option(help="A file with keys, one a line: whoever asks must send one (Authorization: Bearer KEY).")
    ] = None,
    max_megabytes: Annotated[float, _limit("Of one request.")] = 32,
    max_megapixels: Annotated[float, _limit("Of one image.")] = 50,
    max_images: Annotated[int, _limit("Of one request.")] = 64,
    deadline: Annotated[float, _limit("Seconds from a request to its answer; what cannot be answered by then is refused at once.")] = 10,
    queue: Annotated[int, _limit("Images of one model that wait or run at one time.")] = 256,
    batch: Annotated[int, _limit("Images that run together at most.")] = 8,
    drain: Annotated[float, _limit("Seconds that requests are still taken after SIGTERM.")] = 1,
) -> None:
    """Answer requests for predictions over HTTP, and show a page to try the models on.

    Example: greffon serve exported --port 8000
    """
    from greffon.server import ServerLimits
    from greffon.server import serve as job

    limits = ServerLimits(max_bytes=round(max_megabytes * 2**20), max_pixels=round(max_megapixels * 1e6), max_images=max_images,
                          deadline=deadline, queue=queue, batch=batch, drain=drain)  # fmt: skip
    job(models, port=port, host=host, api_keys=api_keys, limits=limits,
        ready=lambda url: print(f"greffon serves at {url}  (Ctrl-C stops)", flush=True))  # fmt: skip
