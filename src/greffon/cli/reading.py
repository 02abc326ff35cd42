"""Words of the command line to values, or one clear error."""

from __future__ import annotations

import math
from collections.abc import Sequence

from greffon.errors import OptionError

__all__ = ["bytes_of", "named_shares_of", "number_of", "shares_of", "with_shares"]

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def bytes_of(option: str, text: str) -> int:
    """``500MB``, ``1.5 GiB``, ``2000000``: bytes; 0 for nothing. Raises OptionError."""
    plain = text.strip().lower()
    if not plain:
        return 0
    digits = plain.rstrip("abcdefghijklmnopqrstuvwxyz").strip()
    unit = plain[len(plain.rstrip("abcdefghijklmnopqrstuvwxyz")) :]
    try:
        count = float(digits) * _UNITS[unit]
        if not (math.isfinite(count) and count >= 1):
            raise ValueError
    except (ValueError, KeyError) as error:
        raise OptionError(f"{option} must be a size such as 500MB or 20GB, got {text!r}") from error
    return int(count)


def number_of(option: str, text: str) -> float:
    """A positive number, or an OptionError."""
    try:
        value = float(text)
        if not (math.isfinite(value) and value > 0):
            raise ValueError
    except ValueError as error:
        raise OptionError(f"{option} must be a positive number, auto or find, got {text!r}") from error
    return value


def shares_of(option: str, text: str) -> tuple[float, ...]:
    """Numbers with commas between them. Raises OptionError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(f"{option} must be three numbers such as 0.7,0.15,0.15, got {text!r}") from error


def named_shares_of(option: str, text: str) -> dict[str, float] | None:
    """``cat=0.7,dog=0.3``: shares by name; None for nothing. Raises OptionError."""
    if not text.strip():
        return None
    found: dict[str, float] = {}
    try:
        for part in text.split(","):
            name, _, share = part.rpartition("=")
            if not name.strip() or name.strip() in found:
                raise ValueError
            found[name.strip()] = float(share)
    except ValueError as error:
        raise OptionError(f"{option} must be a share of each class such as cat=0.7,dog=0.3, got {text!r}") from error
    return found


def with_shares(words: Sequence[str], share: float = 0.95) -> list[str]:
    """The words of a command line, in which an ``--abstain`` without a share is given one: where no number follows it."""
    found: list[str] = []
    for i, word in enumerate(words):
        if word == "--":
            return [*found, *words[i:]]
        following = words[i + 1] if i + 1 < len(words) else ""
        found.append(f"--abstain={share}" if word == "--abstain" and not _is_number(following) else word)
    return found


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
