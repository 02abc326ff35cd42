"""What the server takes, how much of it, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import final

from greffon.errors import OptionError
from greffon.images import Limits

__all__ = ["ServerLimits"]

_MIB = 2**20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """The limits of one server.

    Parameters
    ----------
    max_bytes
        Of the body of one request.
    max_pixels
        Of one image, height × width.
    max_images
        Of one request.
    max_waiting_bytes
        Of all bodies that are held at one time.
    deadline
        Seconds from the last byte of a request to its answer. A request that cannot be answered by then is refused at once.
    patience
        The same for a heat map that takes many runs of the network.
    receive
        Seconds that a body may take to arrive.
    headers
        Seconds that a connection may be open without a whole request head.
    queue
        Images of one model that wait or run at one time.
    batch
        Images that run together at most.
    drain
        Seconds that the server goes on answering after it was told to stop, for those who are still sending.
    """

    max_bytes: int = 32 * _MIB
    max_pixels: int = 50_000_000
    max_images: int = 64
    max_waiting_bytes: int = 256 * _MIB
    deadline: float = 10.0
    patience: float = 60.0
    receive: float = 60.0
    headers: float = 15.0
    queue: int = 256
    batch: int = 8
    drain: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "drain" and not (math.isfinite(value) and value > 0):
                raise OptionError(f"serve: {field.name} must be above 0, got {value}")
        if not 0 <= self.drain < math.inf:
            raise OptionError(f"serve: drain must be 0 or more, got {self.drain}")
        if self.max_pixels > Limits().max_pixels:
            raise OptionError(f"serve: max_pixels must be at most {Limits().max_pixels:,}, got {self.max_pixels:,}")

    @property
    def images(self) -> Limits:
        """Those of one image, for ``greffon.images``."""
        return Limits(max_bytes=self.max_bytes, max_pixels=self.max_pixels)
