"""Numbers in two languages, against the Unicode CLDR."""

from __future__ import annotations

import math

import pytest

from greffon.report.run.saying import speaker
from greffon.report.run.words import Plural

EN, FR = speaker("en"), speaker("fr")


def test_numbers_as_the_cldr_has_them() -> None:
    # The CLDR's symbols for en and fr (version 45): decimal . and ,; group , and U+202F.
    assert (EN.number(1234567.891, 2), FR.number(1234567.891, 2)) == ("1,234,567.89", "1\u202f234\u202f567,89")
    assert (EN.number(999), FR.number(0.5, 3)) == ("999", "0,500")
    assert (EN.number(-1234.5, 1), FR.number(-0.04, 1)) == ("\u22121,234.5", "0,0")
    assert EN.number(math.nan) == FR.number(math.inf) == "–"


def test_against_babel() -> None:
    numbers = pytest.importorskip("babel.numbers")
    for value in (0, 7, 1234, 98765.4321, 1e7 + 0.5, -12.25):
        for digits in (0, 1, 3):
            pattern = "#,##0" + ("." + "0" * digits if digits else "")
            rounded = round(value, digits)  # Babel rounds halves to even decimals, Python the binary number
            for one in (EN, FR):
                expected = numbers.format_decimal(rounded, format=pattern, locale=one.lang, decimal_quantization=True)
                assert one.number(rounded, digits) == expected.replace("-", "\u2212")
    assert FR.percent(0.875) == numbers.format_percent(0.875, format="#,##0.0\u202f%", locale="fr")


def test_shares_and_intervals() -> None:
    assert (EN.percent(0.9137), FR.percent(0.9137)) == ("91.4\u00a0%", "91,4\u202f%")
    assert (EN.percent(1, 0), FR.percent(math.nan)) == ("100\u00a0%", "–")
    assert (EN.interval((0.881, 0.9391)), FR.interval((0.881, 0.9391))) == ("88.1 to 93.9\u00a0%", "de 88,1 à 93,9\u202f%")
    assert (EN.signed(1.24), FR.signed(-1.24), EN.signed(0)) == ("+1.2", "\u22121,2", "+0.0")
    assert (EN.figures(0.000123456), FR.figures(0.5), EN.figures(1e-7)) == ("0.000123", "0,5", "1e\u221207")


def test_one_and_none() -> None:
    about = Plural("{n} photo of {name}", "{n} photos of {name}")
    assert [EN.count(n, about, name="x") for n in (0, 1, 2000)] == ["0 photos of x", "1 photo of x", "2,000 photos of x"]
    assert [FR.count(n, about, name="x") for n in (0, 1, 2000)] == ["0 photo of x", "1 photo of x", "2\u202f000 photos of x"]


def test_names_are_quoted_and_can_be_printed() -> None:
    assert (EN.name("cat"), FR.name("chat")) == ("“cat”", "«\u202fchat\u202f»")
    assert FR.listing(["a\udce9", "b"]) == "a?, b"
