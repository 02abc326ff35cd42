"""``report.html``: one self-contained file that asks nothing of the network. Without its script it still reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.backbones.describe import describe_plan
from greffon.backbones.drawing import draw
from greffon.errors import BackboneError
from greffon.evaluation import Evaluation
from greffon.metrics import wilson_interval
from greffon.progress import Progress
from greffon.report.labels import printable
from greffon.report.maps import MAP_ASSETS, in_script, packed
from greffon.report.parts import asset, content_policy, picture_address, write_page
from greffon.report.run.charts import accuracy_chart, learning_chart, loss_chart, reliability_chart
from greffon.report.run.faults import faults_of, reason_unreadable, suspects_of
from greffon.report.run.pictures import Shown, mistakes_of, show_images
from greffon.report.run.reading import Told, epochs_of
from greffon.report.run.saying import Speaker, speaker
from greffon.report.run.settings import command_of, engines_of, settings_of, trials_of
from greffon.report.run.summary import confusions, summarise
from greffon.report.run.value import RunReport

__all__ = ["run_report"]

#: Classes that a table of all pairs may have; with more, the most frequent mistakes stand in a list of so many.
_TABLE, _PAIRS = 60, 40
#: The page's own style and script.
_ASSETS = ("run/page.css", "run/matrix.js")


@final
@dataclass(frozen=True, slots=True)
class _ClassRow:
    """A line of the table of classes."""

    name: str
    in_all: str
    tested: str
    precision: str
    recall: str
    interval: str
    f1: str


def run_report(
    path: Path, report: RunReport, *, lang: str = "en", seconds: float | None = None, most: int = 24, progress: Progress | None = None
) -> None:
    """Write the report of a model.

    Parameters
    ----------
    path
        The HTML file.
    lang
        One of ``LANGUAGES``.
    seconds
        What the run took that made the model.
    most
        How many mistakes are shown, the surest first, and how many probable label errors.

    Raises
    ------
    OptionError
        There is no report in that language.
    ModelError
        The file cannot be written.
    """
    says = speaker(lang)
    model, training = report.model, Told(report.model.training)
    shown = show_images(report, says, progress=progress)
    wrong, mistakes = mistakes_of(report, most)
    suspects = tuple(suspects_of(report.findings, most, says))
    style, script = map(asset, _ASSETS)
    assets = [asset("base.css"), style, *((*map(asset, MAP_ASSETS), script) if shown else ())]
    values = {
        "lang": lang,
        "s": says,
        "w": says.words,
        "policy": content_policy(assets),
        "style": style,
        "script": script if shown else None,
        "title": says.count(len(model.classes), says.words.title, backbone=model.backbone.plan.entry.name),
        "lead": _lead(report, says),
        "model": model,
        "evaluation": report.evaluation,
        "summary": summarise(report, says),
        "shown": shown,
        "images": len(report.tested),
        "wrong": wrong,
        "mistakes": mistakes,
        "heat": _heat_name(report, says) if any(one.heat for one in mistakes) else "",
        **_results(report, shown, says),
        **_learned(report, training, says),
        "findings": tuple(faults_of(report.findings, says)),
        "suspects": suspects,
        "more_suspects": sum(one.kind == "label-error" for one in report.findings) - len(suspects),
        "data_rows": tuple(_data_rows(report, says)),
        "unreadable": [(printable(str(file)), reason_unreadable(file, reason, says)) for file, reason in report.unreadable],
        "conflicting": [says.words.listed.join(printable(str(one)) for one in paths) for paths in report.looked.conflicting],
        **_network(report, says),
        "command": command_of(model),
        "settings": tuple(settings_of(model, seconds, says)),
        "engines": engines_of(model, says),
        "notes": [printable(one) for one in training.texts("automatic")],
    }
    write_page(path, "run/page.html", values)


def _lead(report: RunReport, says: Speaker) -> str:
    words, model = says.words, report.model
    name = model.backbone.plan.entry.name
    if model.cut == "none":
        return says.say(words.extraction, backbone=name, head=words.heads.get(model.head.kind, model.head.kind))
    stages = model.backbone.stages[model.backbone.position(model.cut) :]
    return says.count(len(stages), words.tuning, backbone=name, stages=says.listing(stages))


def _heat_name(report: RunReport, says: Speaker) -> str:
    method = report.heat.method if report.heat is not None else ""
    return says.words.heat_methods.get(method, method)


def _results(report: RunReport, shown: Shown | None, says: Speaker) -> dict[str, Any]:
    """The tables of classes and pairs, and what the script needs to show the images of one."""
    evaluation = report.evaluation
    if evaluation is None:
        return {"classes": (), "pairs": (), "matrix": None, "reliability": None, "run_data": None}
    small = len(report.model.classes) <= _TABLE
    return {
        "classes": tuple(_class_rows(report, evaluation, says)),
        "pairs": () if small else confusions(evaluation.confusion, _PAIRS),
        "matrix": _shades(evaluation.confusion) if small else None,
        "reliability": reliability_chart(evaluation, says) if evaluation.reliability else None,
        "run_data": _run_data(report, shown, says) if shown else None,
    }


def _class_rows(report: RunReport, evaluation: Evaluation, says: Speaker) -> list[_ClassRow]:
    counts = Told(report.model.data).table("images_by_class")
    rows = []
    for i, one in enumerate(evaluation.classes):
        in_all = counts.count(one.name)
        interval = wilson_interval(int(evaluation.confusion[i, i]), one.count) if one.count else None
        rows.append(
            _ClassRow(
                name=printable(one.name),
                in_all=says.words.missing if in_all is None else says.number(in_all),
                tested=says.number(one.count),
                precision=says.percent(one.precision),
                recall=says.percent(one.recall),
                interval=says.words.missing if interval is None else says.interval(interval),
                f1=says.percent(one.f1),
            )
        )
    return rows


def _shades(confusion: np.ndarray) -> list[list[int]]:
    """Each cell's share of its row, in tenths, upwards: what is not nothing is seen."""
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    return np.ceil(10 * share).astype(int).tolist()


def _run_data(report: RunReport, shown: Shown, says: Speaker) -> str:
    """Of each image that is shown its class, what it is taken for and how surely; and the words of the script."""
    words, rows = says.words, report.probabilities[shown.positions]
    said = rows.argmax(1)
    return in_script(
        {
            "true": packed(report.tested.labels[shown.positions], "<u2"),
            "said": packed(said, "<u2"),
            "sure": packed(np.rint(1000 * rows[np.arange(len(rows)), said]), "<u2"),
            "classes": [says.name(name) for name in report.tested.classes],
            "words": {
                "cell": [words.cell.one, words.cell.many],
                "right": [words.cell_right.one, words.cell_right.many],
                "more": words.gallery_more,
                "left": words.gallery_left,
                "none": words.no_picture,
                "perCent": words.per_cent,
            },
        }
    )


def _learned(report: RunReport, training: Told, says: Speaker) -> dict[str, Any]:
    """The losses of a fine-tuning, the choice of feature extraction, the search, the learning curve."""
    history, kept = epochs_of(training), training.count("best_epoch") or 0
    search = training.table("search")
    points = report.growth.points if report.growth is not None else ()
    return {
        "history": history,
        "losses": loss_chart(history, kept, says) if len(history) > 1 else None,
        "trained": any(row.loss is not None for row in history),
        "validated": any(row.log_loss is not None for row in history),
        "accuracies": accuracy_chart(history, kept, says) if len(history) > 1 else None,
        "trials": trials_of(report.model, 8, says) if report.model.cut == "none" else (),
        "points": points,
        "learning": learning_chart(points, says) if len(points) > 1 else None,
        "search": search if search.count("trials") is not None else None,
        # Its words are English, as it is a file of its own as well.
        "search_picture": picture_address(report.search) if search and says.lang == "en" else "",
    }


def _data_rows(report: RunReport, says: Speaker) -> Iterator[tuple[str, str]]:
    """What the images are of: terms and their values."""
    words, looked, data = says.words, report.looked, Told(report.model.data)
    splits = data.table("splits")
    yield words.data_root, printable(str(looked.dataset.root))
    parts = {name: splits.count(name) for name in ("train", "val", "test")}
    if report.held_out and (images := data.count("images")) is not None and None not in parts.values():
        yield words.data_images, says.say(words.data_counts, n=says.number(images),
                                          **{name: says.number(count or 0) for name, count in parts.items()})  # fmt: skip
    else:
        yield words.data_images, says.number(len(report.tested))
    for term, count, sentence in (
        (words.data_near, looked.near_duplicates, words.data_near_value),
        (words.data_copies, len(looked.repeated), words.data_copies_value),
        (words.data_conflicting, len(looked.conflicting), words.data_conflicting_value),
        (words.data_unreadable, len(report.unreadable), words.data_unreadable_value),
    ):
        yield term, says.count(count, sentence) if count else says.number(0)


def _network(report: RunReport, says: Speaker) -> dict[str, Any]:
    from markupsafe import Markup

    words, model = says.words, report.model
    backbone, stages = model.backbone, model.backbone.stages
    at = len(stages) if model.cut == "none" else backbone.position(model.cut)
    values = {"frozen": says.listing(stages[:at]), "trained": says.listing(stages[at:]), "backbone": backbone.plan.entry.name}
    sentence = words.network_all_frozen if at == len(stages) else words.network_frozen if at else words.network_none_frozen
    pre = backbone.plan.entry.preprocess
    try:
        drawing = Markup(draw([describe_plan(backbone.plan, pre.height, pre.width)], cut=model.cut, lang=says.lang))
    except BackboneError:  # stages that cannot be told apart; all else of the page stands
        drawing = None
    return {"network": says.say(sentence, **values), "drawing": drawing}
