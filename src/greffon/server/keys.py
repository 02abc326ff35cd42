"""API keys: who may ask. Only their sums are kept in memory."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import final

from greffon.errors import OptionError

__all__ = ["Keys", "read_keys"]

_SHORTEST = 16


@final
class Keys:
    """The keys that are accepted; none at all: everybody is."""

    def __init__(self, keys: tuple[str, ...] = ()) -> None:
        self._sums = tuple(hashlib.sha256(key.encode()).digest() for key in keys)

    def __bool__(self) -> bool:
        return bool(self._sums)

    def accept(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers (names in small letters) may be answered."""
        if not self._sums:
            return True
        kind, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
        found = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
        # All of them are compared, so that the time does not tell which one is close.
        return any([hmac.compare_digest(found, one) for one in self._sums])  # noqa: C419  # all are compared: the time taken tells nothing


def read_keys(file: Path) -> Keys:
    """The keys of a file, one a line; empty lines and those that begin with # are not looked at.

    Raises
    ------
    OptionError
        It cannot be read, has no key, or one that is too short to keep anybody out.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise OptionError(f"--api-keys {file}: cannot be read ({getattr(error, 'strerror', None) or 'not text'})") from error
    keys = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not keys:
        raise OptionError(f"--api-keys {file}: has no key", hint="One a line; for instance from: openssl rand -hex 32")
    for number, key in enumerate(keys, 1):
        if len(key) < _SHORTEST or not key.isascii() or " " in key:
            raise OptionError(f"--api-keys {file}: key {number} must be {_SHORTEST} or more ASCII characters without a space",
                              hint="For instance from: openssl rand -hex 32")  # fmt: skip
    return Keys(keys)
