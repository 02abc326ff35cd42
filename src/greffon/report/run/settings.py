"""How a model was made, as terms and what stands for them; and the command that makes it again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from greffon.model import Model
from greffon.report.labels import printable
from greffon.report.run.reading import Told
from greffon.report.run.saying import Speaker

__all__ = ["Engine", "Trial", "command_of", "engines_of", "features_in_words", "settings_of", "trials_of"]


@final
@dataclass(frozen=True, slots=True)
class Engine:
    """What the frozen part could have run on, and what was measured of it; "" where nothing was. ``verdict`` is in English."""

    precision: str
    rate: str
    cosine: str
    verdict: str
    taken: bool


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """Features that the head could have been given, and how right it was with them in cross-validation."""

    features: str
    strength: str
    accuracy: str
    log_loss: str
    taken: bool


def command_of(model: Model) -> str:
    """What to type to make the model again, or "" where it is not known."""
    words = Told(model.training).texts("command")
    return printable(shlex.join(["greffon", *words, "--out", "the-same-again"])) if words else ""


def engines_of(model: Model, speaker: Speaker) -> tuple[Engine, ...]:
    """Those of the plan, where there was a choice."""
    plan = Told(model.training).table("plan")
    found = []
    for one in plan.tables("candidates"):
        rate, cosine = one.number("rate"), one.table("fidelity").number("cosine_mean")
        found.append(
            Engine(
                one.text("precision"),
                "" if rate is None else speaker.number(rate, 1),
                "" if cosine is None else speaker.number(cosine, 5),
                one.text("verdict"),
                one.text("precision") == plan.text("precision"),
            )
        )
    return tuple(found) if len(found) > 1 else ()


def trials_of(model: Model, most: int, speaker: Speaker) -> tuple[Trial, ...]:
    """Trials of feature extraction, where there were several: the one that was taken, then those of the most folds, by log-loss."""
    rows, training = dict[tuple[str, float], tuple[tuple[bool, int, float], Trial]](), Told(model.training)
    for one in sorted(training.tables("trials"), key=lambda one: one.count("folds") or 0):  # of one thing tried twice, the later
        strength, accuracy, loss = (one.number(name) for name in ("strength", "accuracy", "log_loss"))
        if strength is not None and accuracy is not None and loss is not None:
            name = one.text("representation")
            taken = name == str(model.representation) and strength == training.number("strength")
            trial = Trial(features_in_words(name, speaker), speaker.figures(strength), speaker.percent(accuracy),
                          speaker.number(loss, 3), taken)  # fmt: skip
            rows[name, strength] = ((not taken, -(one.count("folds") or 0), loss), trial)
    best = sorted(rows.values(), key=lambda row: row[0])
    return tuple(trial for _, trial in best[:most]) if len(best) > 1 else ()


def features_in_words(text: str, speaker: Speaker) -> str:
    """What ``Representation`` calls itself, in a language; another text as it is."""
    words, found = speaker.words, re.fullmatch(r"(\S+) of (the last stage|all stages), (\S+)", text)
    if not found or found[1] not in words.pools or found[3] not in words.norms:
        return printable(text)
    sentence = words.features_last if found[2] == "the last stage" else words.features_every
    return speaker.say(sentence, pool=words.pools[found[1]], norm=words.norms[found[3]])


def settings_of(model: Model, seconds: float | None, speaker: Speaker) -> Iterator[tuple[str, str]]:
    """Terms and their values, in the order of the page."""
    words, training, entry = speaker.words, Told(model.training), model.backbone.plan.entry
    yield words.backbone, speaker.say(words.backbone_value, name=entry.name, weights=entry.weights_of, licence=entry.licence)
    yield words.fingerprint, model.backbone.fingerprint
    pre = entry.preprocess
    size = speaker.say(words.input_value, width=speaker.number(pre.width), height=speaker.number(pre.height))
    yield words.input, words.listed.join((size, str(pre.resize), str(pre.interpolation)))
    yield words.frozen_part, words.listed.join((model.precision, *_fidelity(training, speaker)))
    yield words.head, words.listed.join(_head(model, training, speaker))
    chosen = f" ({words.features_chosen})" if model.cut == "none" and training.has("trials") else ""
    yield words.features, f"{features_in_words(str(model.representation), speaker)}{chosen}"
    if model.cut != "none":
        yield from _tuning(model, training, speaker)
    if training.has("automatic"):
        yield words.strategy, words.strategy_kept if model.cut == "none" else words.strategy_tuned
    seed = training.count("seed")
    if seed is not None:
        yield words.seed, str(seed)
    if seconds is not None:
        yield words.seconds, speaker.say(words.seconds_value, seconds=speaker.number(seconds, 1))


def _fidelity(training: Told, speaker: Speaker) -> Iterator[str]:
    told = training.table("fidelity")
    cosine, images = told.number("cosine_mean"), told.count("images")
    if cosine is not None and images is not None:
        yield speaker.say(speaker.words.fidelity, cosine=speaker.number(cosine, 5), n=speaker.number(images))


def _head(model: Model, training: Told, speaker: Speaker) -> Iterator[str]:
    words = speaker.words
    yield words.heads.get(model.head.kind, model.head.kind)
    strength = training.number("strength")
    if model.cut == "none" and strength is not None:
        yield speaker.say(words.head_strength, strength=speaker.figures(strength))
    yield words.balanced if training.has("balanced") else words.unbalanced
    yield speaker.say(words.temperature, temperature=speaker.number(model.head.temperature, 3))


def _tuning(model: Model, training: Told, speaker: Speaker) -> Iterator[tuple[str, str]]:
    words, recipe = speaker.words, training.table("recipe")
    epochs, batch, best = recipe.count("epochs"), recipe.count("batch"), training.count("best_epoch")
    if epochs is not None and batch is not None and best is not None:
        validated = any(row.number("val_log_loss") is not None for row in training.tables("history"))
        parts = [
            speaker.say(words.trained_value, epochs=speaker.number(epochs), batch=speaker.number(batch), best=speaker.number(best)),
            words.chosen_by_validation if validated else words.chosen_by_nothing,
            *([words.stopped_early] if training.has("stopped") else []),
        ]
        yield words.trained, words.listed.join(parts)
    rate, head_rate, decay = (recipe.number(name) for name in ("learning_rate", "head_learning_rate", "weight_decay"))
    if rate is not None and head_rate is not None and decay is not None:
        parts = [speaker.say(words.optimiser_value, name=recipe.text("optimizer"), rate=speaker.figures(rate),
                             head_rate=speaker.figures(head_rate), decay=speaker.figures(decay))]  # fmt: skip
        alpha, smoothing = recipe.number("mix_alpha"), recipe.number("label_smoothing")
        if recipe.text("mix") not in ("", "none") and alpha is not None:
            parts.append(speaker.say(words.mixed, mix=recipe.text("mix"), alpha=speaker.figures(alpha)))
        if smoothing:
            parts.append(speaker.say(words.smoothing, value=speaker.figures(smoothing)))
        yield words.optimiser, words.listed.join(parts)
    if views := len(training.tables("views")):
        yield words.views, speaker.count(views, words.views_value, policy=training.text("policy"), keep=model.keep)
