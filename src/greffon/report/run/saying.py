"""Numbers, names and sentences as a language has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from greffon.errors import OptionError
from greffon.report.labels import printable
from greffon.report.run.english import ENGLISH
from greffon.report.run.french import FRENCH
from greffon.report.run.words import Plural, Words

__all__ = ["LANGUAGES", "Speaker", "check_language", "speaker"]

_WORDS: Mapping[str, Words] = {"en": ENGLISH, "fr": FRENCH}
LANGUAGES = tuple(_WORDS)


def check_language(lang: str) -> None:
    """Raises OptionError where there is no report in a language."""
    if lang not in _WORDS:
        raise OptionError(f"--lang must be one of {', '.join(LANGUAGES)}, got {lang!r}")


def speaker(lang: str) -> Speaker:
    """Who says things in a language. Raises OptionError where there is none."""
    check_language(lang)
    return Speaker(lang, _WORDS[lang])


@final
@dataclass(frozen=True, slots=True)
class Speaker:
    """Says things in one language.

    Numbers follow the Unicode CLDR (version 45): in English 1,234.5, in French 1 234,5 with a narrow space that does not break.
    """

    lang: str
    words: Words

    def number(self, value: float, digits: int = 0) -> str:
        """A number with so many digits after the sign; a dash where it is none. What rounds to nothing has no minus."""
        if value is None or not math.isfinite(value):
            return self.words.missing
        text = f"{value:,.{digits}f}"
        if not text.strip("-0.,"):
            text = text.removeprefix("-")
        text = text.replace("-", "\u2212")
        return text.translate({ord(","): self.words.thousands, ord("."): self.words.point})

    def figures(self, value: float, digits: int = 3) -> str:
        """A number with so many figures in all, however small: a learning rate."""
        if value is None or not math.isfinite(value):
            return self.words.missing
        return f"{value:.{digits}g}".replace("-", "\u2212").replace(".", self.words.point)

    def signed(self, value: float, digits: int = 1) -> str:
        """A number with its sign, a plus as well."""
        text = self.number(value, digits)
        return text if text.startswith(("\u2212", self.words.missing)) else f"+{text}"

    def percent(self, share: float, digits: int = 1) -> str:
        """A share from 0 to 1 in per cent; a dash where it is none."""
        text = self.number(share if share is None else 100 * share, digits)
        return text if text == self.words.missing else text + self.words.per_cent

    def interval(self, interval: tuple[float, float], digits: int = 1) -> str:
        """Two shares, the ends of an interval, in per cent."""
        low, high = (self.number(100 * end, digits) for end in interval)
        return self.words.interval.format(low=low, high=high + self.words.per_cent)

    def name(self, name: str) -> str:
        """A name in quotation marks; one that is not UTF-8 with signs that stand for it."""
        first, last = self.words.quotes
        return f"{first}{printable(name)}{last}"

    def listing(self, names: Sequence[str]) -> str:
        """Names one after another."""
        return self.words.listed.join(printable(name) for name in names)

    def count(self, n: int, about: Plural, **values: str) -> str:
        """A sentence about n things. ``{n}`` in it is their number."""
        single = n == 1 or (n == 0 and self.words.none_is_one)
        return (about.one if single else about.many).format(n=self.number(n), **values)

    def say(self, sentence: str, **values: str) -> str:
        """A sentence with its values."""
        return sentence.format(**values)
