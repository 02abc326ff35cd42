"""The catalogue of sentences: both languages say the same things, and each says them in its own way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from html import unescape
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from greffon.auditing import KINDS, Kind
from greffon.backbones.drawing_words import DRAWING_WORDS
from greffon.errors import OptionError
from greffon.explaining import METHODS
from greffon.heads import HEADS
from greffon.report import LANGUAGES, check_language, run_report
from greffon.report.run.english import ENGLISH
from greffon.report.run.french import FRENCH, typeset
from greffon.report.run.words import Plural
from reported import everything

#: Of these, both languages have the same text.
SAME = {"-", "–", "cam", "Grad-CAM", "Grad-CAM++", "occlusion", "F1", "images", "test", "pixels", "maximum", "versions"}


def texts(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Every sentence under a name, with where it stands."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Plural):
        yield from ((f"{name}.one", value.one), (f"{name}.many", value.many))
    elif isinstance(value, Kind):
        yield from ((f"{name}.title", value.title), (f"{name}.advice", value.advice))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from texts(one, f"{name}[{key}]")
    elif isinstance(value, tuple):
        for number, one in enumerate(value):
            yield from texts(one, f"{name}[{number}]")
    else:
        assert isinstance(value, bool), name


def catalogue(words: Any) -> dict[str, str]:
    return dict(pair for one in fields(words) for pair in texts(getattr(words, one.name), one.name))


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize(("one", "other"), [(ENGLISH, FRENCH), (DRAWING_WORDS["en"], DRAWING_WORDS["fr"])], ids=["report", "drawing"])
def test_both_languages_have_the_same_sentences_with_the_same_places(one: Any, other: Any) -> None:
    english, french = catalogue(one), catalogue(other)
    assert english.keys() == french.keys()
    for name, text in english.items():
        assert places(text) == places(french[name]), name
        assert text and french[name], name


def test_what_has_a_number_has_it_in_both_forms() -> None:
    for words in (ENGLISH, FRENCH):
        for one in fields(words):
            value = getattr(words, one.name)
            if isinstance(value, Plural):
                # "once" and "une fois" are numbers, too.
                assert places(value.one) ^ places(value.many) <= {"n"}, one.name


def test_every_name_of_the_program_has_its_words() -> None:
    for words in (ENGLISH, FRENCH):
        assert words.heads.keys() == set(HEADS)
        assert words.heat_methods.keys() == {one.name for one in METHODS}
        assert list(words.kinds) == list(KINDS)


def test_french_is_set_as_french_is() -> None:
    assert typeset("Peut-on s’y fier ?") == "Peut-on s’y fier\u202f?"
    assert typeset("ainsi : « chat » ; 90 % !") == "ainsi\u00a0: «\u202fchat\u202f»\u202f; 90\u202f%\u202f!"
    for name, text in catalogue(FRENCH).items():
        assert not re.search(r" [;:?!%»]|« |'|\"|\.\.\.", text), (name, text)


def test_a_language_that_there_is_not() -> None:
    assert LANGUAGES == ("en", "fr")
    with pytest.raises(OptionError, match="--lang must be one of en, fr, got 'de'"):
        check_language("de")


def visible(page: str) -> str:
    """What a reader reads: texts and labels, without scripts, styles and what is quoted in another language."""
    for kind in ("script", "style"):
        page = re.sub(rf"<{kind}.*?</{kind}>", " ", page, flags=re.S)
    page = re.sub(r'<ul lang="en">.*?</ul>', " ", page, flags=re.S)
    labels = re.findall(r'(?:aria-label|alt|title|placeholder)="([^"]*)"', page)
    return unescape(" ".join([re.sub(r"<[^>]+>", " ", page), *labels]))


def test_no_english_sentence_stays_in_the_french_page(tmp_path: Path) -> None:
    report = everything(tmp_path / "photos")
    run_report(tmp_path / "en.html", report, lang="en", seconds=3.0)
    run_report(tmp_path / "fr.html", report, lang="fr", seconds=3.0)
    english, french = (visible((tmp_path / f"{lang}.html").read_text("utf-8")) for lang in ("en", "fr"))
    said = 0
    for name, text in catalogue(ENGLISH).items():
        for part in re.split(r"\{\w+\}", text):
            part = part.strip(" .,;:()")
            if len(part) > 3 and part not in SAME and part.lower() not in catalogue(FRENCH)[name].lower() and part in english:
                said += 1
                assert part not in french.replace("something else happened", ""), name
    assert said > 150, "the English page must say most of the catalogue, else this looks at nothing"
    for place in (str(tmp_path), "--out the-same-again"):  # a name that pytest has made, and a folder in a command
        french = french.replace(place, "")
    english_words = r"\b(?:the|of|and|with|was|were|is|are|this|that|which|from|not|by)\b"
    assert [french[max(0, one.start() - 30) : one.end() + 30] for one in re.finditer(english_words, french)] == []
