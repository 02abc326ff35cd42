"""What is printed of the two commands of transductive transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greffon.cli.terminal import interval_of, percent

if TYPE_CHECKING:
    from greffon.jobs.adapt import AdaptResult
    from greffon.jobs.label import LabelResult

__all__ = ["adapt_lines", "label_lines"]


def adapt_lines(result: AdaptResult) -> list[Any]:
    """What is printed after a domain was adapted to."""
    from rich.markup import escape
    from rich.table import Table

    figures, lines = result.to_dict(), []
    if result.evidence:
        table = Table(title="what can be said without labels of the target (higher is better)", title_justify="left")
        table.add_column("method")
        for name in ("reverse validation", "weighted", "information", "density", "agrees with consensus", "seconds"):
            table.add_column(name, justify="right")
        for row in result.evidence:
            mark = " *" if row.name == result.method else ""
            table.add_row(row.name + mark, percent(row.reverse), percent(row.weighted), f"{row.information:.2f}",
                          f"{row.density:.2f}", percent(row.agreement), f"{row.seconds:.1f}")  # fmt: skip
        lines.append(table)
    classes = Table()
    classes.add_column("class")
    for name in ("photos of the target", "share"):
        classes.add_column(name, justify="right")
    total = max(figures["target_photos"], 1)
    for name, count in figures["predicted_by_class"].items():
        classes.add_row(escape(name), str(count), percent(count / total))
    lines.append(classes)
    verdict = f"adapted ({result.method})" if result.adapted else "kept the source-only model"
    lines.append(f"{verdict}: {result.why}")
    lines.append(f"{result.changed} of {total} photos have another class than the source-only model gives them"
                 + (f"; {len(result.unreadable)} unreadable" if result.unreadable else ""))  # fmt: skip
    lines.append("no label of the target was looked at: to know how good it is, label some and run greffon evaluate")
    lines.append(f"model: {result.folder}    look: {result.folder / 'report.html'}    photo by photo: {result.folder / 'predictions.csv'}"
                 f"    {result.seconds:.1f} s")  # fmt: skip
    return lines


def label_lines(result: LabelResult) -> list[Any]:
    """What is printed after photos were labelled."""
    from rich.markup import escape
    from rich.table import Table

    figures, table = result.to_dict(), Table()
    table.add_column("class")
    for name in ("given", "labelled", "left open, most like it"):
        table.add_column(name, justify="right")
    for name in result.classes:
        left = sum(photo.best == name and photo.decided.startswith("unsure") for photo in result.photos)
        table.add_row(
            escape(name), str(figures["given_by_class"][name]), str(figures["labelled_by_class"][name]), str(left)
        )
    lines: list[Any] = [table, f"{figures['labelled']} photos labelled, {figures['unsure']} left open"
                        + (f", {figures['given']} given already" if figures["given"] else "")
                        + (f", {len(figures['unreadable'])} unreadable" if figures["unreadable"] else "")]  # fmt: skip
    held = figures["held_out"]
    if figures["calibrated"]:
        lines.append(f"held-out labelled photos: {percent(held['accuracy'])} of {held['n']} named rightly"
                     f" (95 % interval {interval_of(held['accuracy_interval'])})")  # fmt: skip
        if held["labelled"]:
            lines.append(f"  of the {held['labelled']} sure ones among them: {percent(held['accuracy_of_labelled'])}"
                         f" ({interval_of(held['accuracy_of_labelled_interval'])})")  # fmt: skip
    else:
        lines.append(
            "confidences are not calibrated, and are kept low: the labelled photos are too few to hold some out"
        )
    lines.append(f"look: {result.folder / 'labels.html'}    train on: {result.folder / 'dataset.csv'}    model: {result.folder / 'model'}"
                 f"    {result.seconds:.1f} s")  # fmt: skip
    return lines
