"""Faults of the data in words of a language: findings of the audit, and files that could not be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from greffon.auditing import Finding
from greffon.report.labels import printable
from greffon.report.parts import photo_address
from greffon.report.run.saying import Speaker

__all__ = ["Fault", "Suspect", "faults_of", "reason_unreadable", "suspects_of"]

#: Of each kind so many findings are told one by one.
_ONE_BY_ONE = 12
#: Beginnings of what ``images`` says of a file, and the sentences that stand for them.
_UNREADABLE = (
    ("the file is empty", "empty"),
    ("not an image of a known format", "not an image"),
    ("damaged image", "damaged"),
    ("cannot be read", "cannot be read"),
    ("larger than", "too large"),
    ("more pixels", "too large"),
)


@final
@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: how many there are, what to do, and some of them."""

    title: str
    advice: str
    count: int
    sentences: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Suspect:
    """A label that is probably wrong, with its thumbnail, a data address or ""."""

    name: str
    label: str
    suggested: str
    reason: str
    picture: str


def faults_of(findings: Sequence[Finding], speaker: Speaker) -> Iterator[Fault]:
    """Every kind that was found, the gravest first. Label errors are shown, not told."""
    for key, kind in speaker.words.kinds.items():
        some = [one for one in findings if one.kind == key]
        if some:
            told = () if key == "label-error" else tuple(_sentence(one, speaker) for one in some[:_ONE_BY_ONE])
            yield Fault(kind.title[:1].upper() + kind.title[1:], kind.advice, len(some), tuple(filter(None, told)))


def suspects_of(findings: Sequence[Finding], most: int, speaker: Speaker) -> Iterator[Suspect]:
    """Probable label errors of files, the gravest first."""
    for one in [one for one in findings if one.kind == "label-error" and one.path is not None][:most]:
        assert one.path is not None
        yield Suspect(printable(one.path.name), one.label, one.suggested, _reason(one, speaker), photo_address(one.path, side=160))


def _sentence(one: Finding, speaker: Speaker) -> str:
    reason = _reason(one, speaker)
    about = printable(one.path.name) if one.path is not None else one.label if one.kind != "imbalance" else ""
    return f"{about}{speaker.words.colon}{reason}" if about and reason else about or reason


def _reason(one: Finding, speaker: Speaker) -> str:
    """The reason of a finding by its facts; "" where they are not known and the language is another than the audit's."""
    words, facts = speaker.words, dict(one.facts)
    if one.kind == "label-error" and {"own", "other"} <= facts.keys():
        own, other = (speaker.percent(float(facts[name])) for name in ("own", "other"))
        return speaker.say(words.reason_label, label=printable(one.label), suggested=printable(one.suggested), own=own, other=other)
    if "duplicate" in one.kind and {"others", "more"} <= facts.keys():
        sentence = words.reason_nearly if one.kind.startswith("near") else words.reason_same
        more = int(facts["more"])
        rest = f" {speaker.count(more, words.and_more)}" if more else ""
        return speaker.say(sentence, others=printable(str(facts["others"]))) + rest
    if one.kind == "few-images" and "count" in facts:
        return speaker.count(int(facts["count"]), words.reason_few)
    if one.kind == "imbalance" and {"most", "count", "least", "few"} <= facts.keys():
        count, few = int(facts["count"]), int(facts["few"])
        return speaker.say(words.reason_imbalance, most=printable(str(facts["most"])), count=speaker.number(count),
                           least=printable(str(facts["least"])), few=speaker.number(few), times=speaker.number(count / few, 1))  # fmt: skip
    return printable(one.reason) if speaker.lang == "en" else ""


def reason_unreadable(path: Path, reason: str, speaker: Speaker) -> str:
    """Why a file was set aside."""
    plain = printable(reason).removeprefix(f"{printable(str(path))}: ")
    if speaker.lang == "en":
        return plain
    key = next((key for start, key in _UNREADABLE if plain.startswith(start)), "other")
    return speaker.say(speaker.words.unreadable_reasons[key], reason=plain)
