"""What ``evaluate`` tells beside its figures: by size, what is not known, how another model does; and ``curve``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greffon.cli.terminal import interval_of, percent

if TYPE_CHECKING:
    from rich.table import Table

    from greffon.jobs.curve import CurveResult
    from greffon.jobs.evaluate import EvaluateResult, Rival

__all__ = ["abstain_lines", "growth_table", "rival_lines", "sizes_table"]

#: So many images are named on which two models part.
_SHOWN = 20


def sizes_table(result: EvaluateResult) -> Table | None:
    """Accuracy by the size of the images; None where there is one group alone."""
    if len(result.sizes) < 2:
        return None
    from rich.table import Table

    table = Table(title="By size, from the smallest photos to the largest", title_justify="left")
    for name in ("megapixels", "images", "accuracy", "95 % interval"):
        table.add_column(name, justify="right")
    for one in result.sizes:
        ends = f"{one.smallest / 1e6:.3g} to {one.largest / 1e6:.3g}" if one.largest > one.smallest else f"{one.largest / 1e6:.3g}"
        table.add_row(ends, str(one.count), percent(one.accuracy), interval_of(one.interval))
    return table


def abstain_lines(result: EvaluateResult) -> list[str]:
    """How many photos are answered and how often rightly, and how many of other classes are refused."""
    one, other = result.abstaining, result.unknown
    if one is None:
        return []
    right = interval_of(one.accuracy_interval)
    accuracy = "" if one.accuracy is None else f", {percent(one.accuracy)} of these rightly (95 % interval {right})"
    lines = [f"\"I don't know\": {one.answered} of {one.n} photos are answered, {percent(one.coverage)}"
             f" ({interval_of(one.coverage_interval)}) where {100 * one.asked:g} % was asked for{accuracy}"]  # fmt: skip
    if other is not None:
        lines.append(f"photos of other classes: {other.refused} of {other.n} are refused, {percent(other.rate)}"
                     f" (95 % interval {interval_of(other.rate_interval)}); AUROC {other.auroc:.3f}"
                     f" ({other.auroc_interval[0]:.3f} to {other.auroc_interval[1]:.3f})")  # fmt: skip
    return lines


def rival_lines(rival: Rival) -> list[str]:
    """The paired comparison, and the images on which the two part."""
    one = rival.figures
    low, high = one.interval
    lines = [
        f"against {rival.model}: {percent(one.first)} and {percent(one.second)} on the same {one.n} images, a difference of"
        f" {100 * one.difference:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f});"
        f" McNemar's exact p {one.p_value:.3g}: {one.verdict}",
        f"  both right {one.both}, only this one {one.only_first}, only the other {one.only_second}, neither {one.neither}",
    ]
    lines += [f"  {image.path}: {image.label}; this one says {image.first}, the other {image.second}" for image in rival.apart[:_SHOWN]]
    if len(rival.apart) > _SHOWN:
        lines.append(f"  and {len(rival.apart) - _SHOWN} more, all of them in --json and --out")
    return lines


def growth_table(result: CurveResult) -> Table:
    """The accuracy with ever more training images."""
    from rich.table import Table

    growth, table = result.growth, Table()
    for name in ("training images", "accuracy", "95 % interval", "power law"):
        table.add_column(name, justify="right")
    for one in growth.points:
        law = "" if growth.law is None else percent(1 - growth.law.error(one.images))
        table.add_row(f"{one.images:,}", percent(one.accuracy), interval_of(one.interval), law)
    if growth.law is not None and growth.now is not None and growth.doubled is not None:
        table.add_section()
        table.add_row(f"{growth.images:,}", "", "", percent(growth.now))
        table.add_row(f"{2 * growth.images:,}", "", "", percent(growth.doubled))
    return table
