"""The words of a drawing, in two languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from greffon.errors import OptionError

__all__ = ["DRAWING_WORDS", "DrawingWords", "drawing_words"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingWords:
    """What a drawing says. ``point`` and ``thousands`` are how numbers are written; the rest are sentences with places for values."""

    joined: str
    cut_at: str
    cut_top: str
    heading: str
    weights: str
    note: str
    image: str
    classifier: tuple[str, str]
    new_head: tuple[str, str]
    parameters: str
    multiply_adds: str
    sees: str
    stride: str
    frozen: str
    trained: str
    frozen_legend: str
    trained_legend: str
    cut_legend: str
    lacking: str
    point: str
    thousands: str


DRAWING_WORDS: Mapping[str, DrawingWords] = {
    "en": DrawingWords(
        joined=" and ",
        cut_at="{names}, cut below {cut}",
        cut_top="{names}, cut above the last stage",
        heading="{architecture} · image {shape} · {all} parameters, {stages} of them in the stages · {multiply_adds} multiply-adds",
        weights="weights: {of} · licence: {licence}",
        note="Box: height and depth follow the size of the stage's output, each slice is a layer "
        "and its width follows the channels (square roots).",
        image="image",
        classifier=("classifier", "of ImageNet"),
        new_head=("new head", "your classes"),
        parameters="{count} parameters",
        multiply_adds="{count} multiply-adds",
        sees="sees {pixels} px",
        stride="stride {stride}",
        frozen="◂ frozen",
        trained="trained ▸",
        frozen_legend="frozen: computed once per image",
        trained_legend="trained",
        cut_legend="the cut",
        lacking="layers that {name} does not have",
        point=".",
        thousands=",",
    ),
    "fr": DrawingWords(
        joined=" et ",
        cut_at="{names}, coupe sous {cut}",
        cut_top="{names}, coupe au-dessus du dernier étage",
        heading="{architecture} · image {shape} · {all} de paramètres, dont {stages} dans les étages · {multiply_adds} de"
            " multiplications-additions",
        weights="poids : {of} · licence : {licence}",
        note="Boîte : hauteur et profondeur suivent la taille de la sortie de l’étage, chaque tranche est une couche "
        "et sa largeur suit les canaux (racines carrées).",
        image="image",
        classifier=("classifieur", "d’ImageNet"),
        new_head=("nouvelle tête", "vos classes"),
        parameters="paramètres : {count}",
        multiply_adds="mult.-additions : {count}",
        sees="voit {pixels} px",
        stride="pas {stride}",
        frozen="◂ gelé",
        trained="entraîné ▸",
        frozen_legend="gelé : calculé une fois par image",
        trained_legend="entraîné",
        cut_legend="la coupe",
        lacking="couches que {name} n’a pas",
        point=",",
        thousands="\u202f",
    ),
}


def drawing_words(lang: str) -> DrawingWords:
    """The words of a language. Raises OptionError where it is not known."""
    if lang not in DRAWING_WORDS:
        raise OptionError(f"draw: lang must be one of {', '.join(DRAWING_WORDS)}, got {lang!r}")
    return DRAWING_WORDS[lang]
