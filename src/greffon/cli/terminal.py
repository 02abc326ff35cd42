"""What a person sees in a terminal: bars, notes, tables."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from greffon.backbones.describe import Description
    from greffon.evaluation import Evaluation
    from greffon.jobs.compare import CompareResult
    from greffon.jobs.evaluate import Difference, SetFigures
    from greffon.jobs.probe import ProbeResult
    from greffon.jobs.train import TrainResult
    from greffon.transfer.inductive import Search

__all__ = [
    "Terminal",
    "accuracy_line",
    "comparison_table",
    "depth_table",
    "description_table",
    "difference_line",
    "evaluation_tables",
    "interval_of",
    "listener",
    "out",
    "percent",
    "search_lines",
    "search_table",
    "sets_line",
    "side_by_side_table",
    "train_summary",
]


@contextlib.contextmanager
def listener(quiet: bool) -> Iterator[Terminal]:
    """A ``Terminal`` that is closed in the end, whatever happens."""
    terminal = Terminal(quiet=quiet)
    try:
        yield terminal
    finally:
        terminal.close()


def out() -> Console:
    """Standard output. Where it is no terminal, tables are as wide as they need to be."""
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=200)


@final
class Terminal:
    """A listener that draws bars on standard error where that is a terminal, and is quiet where it is not.

    Notes and warnings are printed either way, unless ``quiet``: then warnings alone.
    """

    def __init__(self, *, quiet: bool = False, most: int = 12) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._warned = 0
        self._most = most
        self._began = 0.0
        self._name = ""
        self._steps = 0

    def begin(self, task: str, total: int) -> None:
        self._name, self._steps, self._began = task, 0, time.perf_counter()
        if self._quiet or not self._console.is_terminal:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(task, total=total, rate="")

    def advance(self, steps: int = 1) -> None:
        self._steps += steps
        if self._bar is not None:
            seconds = time.perf_counter() - self._began
            self._bar.update(self._task, advance=steps, rate=f"{self._steps / max(seconds, 1e-9):.1f}/s")

    def end(self) -> None:
        seconds = time.perf_counter() - self._began
        self.stop()
        if not self._quiet and self._steps and seconds >= 1:
            self._console.print(
                f"[dim]{self._name}: {self._steps:,} in {seconds:.1f} s, {self._steps / seconds:.1f}/s[/dim]"
            )

    def stop(self) -> None:
        """Take the bar away, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, style="dim", markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        self._warned += 1
        if self._warned <= self._most:
            self._console.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)

    def close(self) -> None:
        """Say how many warnings were not shown."""
        self.stop()
        if self._warned > self._most:
            self._console.print(f"and {self._warned - self._most} more warnings", style="yellow")


def percent(value: float) -> str:
    """A share in per cent, or a dash where it is not defined."""
    return "–" if value != value else f"{100 * value:.1f} %"


def evaluation_tables(evaluation: Evaluation) -> list[Table]:
    """The figures of each class, and the confusion matrix where it is small enough to read."""
    from rich.markup import escape
    from rich.table import Table

    classes = Table(title="Class by class", title_justify="left")
    for name, side in (
        ("class", "left"),
        ("images", "right"),
        ("precision", "right"),
        ("recall", "right"),
        ("95 % interval", "right"),
        ("F1", "right"),
    ):
        classes.add_column(name, justify=side)  # type: ignore[arg-type]  # a literal, by the tuple above
    for one in evaluation.classes:
        classes.add_row(
            escape(one.name), str(one.count), percent(one.precision), percent(one.recall),
            interval_of(one.interval) if one.count else "–", percent(one.f1),
        )
    tables = [classes]
    if len(evaluation.classes) <= 12:
        table = Table(
            title="Rows: the true class. Columns: what the model said.", title_justify="left", show_lines=False
        )
        table.add_column("")
        for one in evaluation.classes:
            table.add_column(escape(one.name), justify="right", overflow="fold")
        for one, row in zip(evaluation.classes, evaluation.confusion.tolist(), strict=True):
            table.add_row(escape(one.name), *[str(count) if count else "·" for count in row])
        tables.append(table)
    return tables


def accuracy_line(evaluation: Evaluation) -> str:
    """The accuracy with its interval, in one line."""
    low, high = evaluation.accuracy_interval
    text = (
        f"accuracy {percent(evaluation.accuracy)} on {evaluation.n} test images"
        f" (95 % interval {100 * low:.1f} to {100 * high:.1f} %), balanced {percent(evaluation.balanced_accuracy)}"
    )
    if evaluation.top5_accuracy is not None:
        text += f", top-5 {percent(evaluation.top5_accuracy)}"
    calibration = f"calibration error {evaluation.calibration_error:.3f} (by chance alone: {evaluation.chance_error:.3f})"
    return f"{text}, log-loss {evaluation.log_loss:.3f}, {calibration}"


def difference_line(difference: Difference) -> str:
    """What the precision of the training changes, in one line."""
    return (
        f"in {difference.precision}, as it was trained: accuracy {percent(difference.accuracy)};"
        f" {difference.predictions} of {difference.n} predictions differ from float32,"
        f" a probability by {difference.largest:.4f} at most"
    )


def sets_line(sets: SetFigures) -> str:
    """How often sets held the true class, in one line."""
    low, high = sets.interval
    return (
        f"sets: the true class is in {percent(sets.coverage)} (95 % interval {100 * low:.1f} to {100 * high:.1f} %) where"
        f" {100 * sets.asked:g} % was asked for; {sets.mean_size:.2f} classes in the mean, {percent(sets.single)} have one,"
        f" {percent(sets.empty)} none"
    )


def train_summary(result: TrainResult) -> list[Any]:
    """What is printed at the end of a training run."""
    model = result.model
    counts = model.data["splits"]
    lines: list[Any] = [
        f"{model.data['images']} images of {len(model.classes)} classes:"
        f" {counts['train']} train, {counts['val']} val, {counts['test']} test"
        + (f"; {len(result.unreadable)} set aside" if result.unreadable else ""),
        f"{model.backbone.name}, frozen part in {model.precision}: {result.computed} images run, {result.reused} known already",
    ]
    balanced = ", classes balanced" if model.training["balanced"] else ""
    if result.probe is not None:
        lines.append(f"head: {model.head.kind} on the {model.representation}, strength {result.probe.strength:g}{balanced}")
    else:
        epochs, best = len(result.history) - 1, model.training["best_epoch"]
        lines.append(f"trained: {', '.join(model.training['stages'])} and the head; epoch {best} of {epochs} is kept{balanced}")
    if result.search is not None:
        lines.append(search_table(result.search))
    lines += search_lines(model.training.get("search"))
    if result.evaluation is not None:
        lines += [*evaluation_tables(result.evaluation), accuracy_line(result.evaluation)]
    suspects = sum(one.kind == "label-error" for one in result.findings)
    if suspects:
        lines.append(f"{suspects} labels are less probable than another class: look at the report, or run greffon audit")
    return lines


def search_table(search: Search, most: int = 8) -> Table:
    """The best trials of a search, and its default."""
    from rich.table import Table

    best = sorted(search.trials, key=lambda one: (one.log_loss, one.number))
    shown = best[:most] + [one for one in best[most:] if not one.number]
    table = Table(
        title=f"The best of {len(search.trials)} trials, by validation log-loss",
        title_justify="left",
        caption="Trial 0 is the default. The figures of the first row flatter it, for it was chosen by them.",
        caption_justify="left",
    )
    names = [name for name in search.best.values if len({one.values[name] for one in search.trials}) > 1]
    for name in ("trial", "log-loss", "accuracy", "epochs", *(name.replace("_", " ") for name in names)):
        table.add_column(name, justify="right")
    ended = {"finished": "", "pruned": " given up", "time": " time over"}
    for one in shown:
        values = (f"{value:.2g}" if isinstance(value, float) else str(value) for value in (one.values[name] for name in names))
        table.add_row(str(one.number), f"{one.log_loss:.3f}", percent(one.accuracy), f"{one.epochs}{ended[one.ended]}", *values)
    return table


def search_lines(found: Any) -> list[str]:
    """What mattered in a search, as a model remembers it; nothing where there was none."""
    if not found:
        return []
    if not found["importances"]:
        return [f"search: {found['basis']}"]
    shares = ", ".join(f"{name.replace('_', ' ')} {100 * share:.0f} %" for name, share in found["importances"].items())
    return [f"what mattered: {shares}", f"  (share of the variance of {found['basis']})"]


def description_table(one: Description) -> Table:
    """The stages of a backbone."""
    from rich.table import Table

    table = Table(
        title=f"{one.name}: input {one.input[1]} × {one.input[2]}, {one.total_parameters:,} parameters with its classifier,"
        f" {one.total_multiply_adds / 1e9:.2f} G multiply-adds up to the last feature map",
        title_justify="left",
    )
    for name in ("stage", "layers"):
        table.add_column(name)
    for name in ("output c × h × w", "parameters", "multiply-adds", "sees", "stride"):
        table.add_column(name, justify="right")
    for row in one.stages:
        table.add_row(
            row.name,
            ", ".join(row.layers),
            " × ".join(str(side) for side in row.shape),
            f"{row.parameters:,}",
            f"{row.multiply_adds:,}",
            "–" if row.receptive_field is None else f"{row.receptive_field} px",
            "–" if row.stride is None else str(row.stride),
        )
    if one.classifier_parameters:
        table.add_row("classifier", "", "", f"{one.classifier_parameters:,}", "", "", "")
    return table


def side_by_side_table(found: Sequence[Description]) -> Table:
    """The layers of several backbones, stage by stage; a + stands before what the first one has fewer of."""
    from collections import Counter

    from rich.table import Table

    table = Table(title="side by side: layers of each stage (+: more than in the first)", title_justify="left")
    table.add_column("stage")
    for one in found:
        table.add_column(one.name)
    table.add_column("output c × h × w")
    for rows in zip_longest(*(one.stages for one in found)):
        names = dict.fromkeys(row.name for row in rows if row is not None)
        first = Counter(rows[0].layers if rows[0] is not None else ())
        cells = []
        for row in rows:
            layers = row.layers if row is not None else ()
            more = Counter(layers) - first
            runs = [(layer, len(list(run))) for layer, run in groupby(layers)]
            cells.append("\n".join(
                f"{count} × {layer}" + (f"  [bold green]+{more[layer]}[/]" if more[layer] else "") for layer, count in runs
            ))  # fmt: skip
        shapes = dict.fromkeys(" × ".join(map(str, row.shape)) for row in rows if row is not None)
        table.add_row(" / ".join(names), *cells, " / ".join(shapes), end_section=True)
    for name, values in (
        ("parameters of the stages", [one.total_parameters - one.classifier_parameters for one in found]),
        ("with classifier", [one.total_parameters for one in found]),
        ("multiply-adds", [one.total_multiply_adds for one in found]),
    ):
        table.add_row(name, *(f"{value:,}" for value in values), "")
    return table


def depth_table(result: ProbeResult) -> Table:
    """The accuracy of every stage, from the image upwards, and of all of them joined."""
    from rich.markup import escape
    from rich.table import Table

    figures = result.figures
    table = Table(
        title=f"{escape(result.backbone)}: accuracy by depth, {figures.folds} folds over {figures.n} images"
        f" ({figures.head} on the {figures.representation})",
        title_justify="left",
        caption=f"= the same within noise. Always the largest class: {percent(figures.largest_class)}",
        caption_justify="left",
    )
    table.add_column("stage")
    for name in ("features", "accuracy", "95 % interval", "to the stage below", "to the best stage"):
        table.add_column(name, justify="right")
    for one in (*figures.stages, figures.together):
        if one is figures.together:
            table.add_section()
        below = "" if one.gain is None or one.gain_interval is None else _difference(one.gain, one.gain_interval)
        best = "best" if one.stage == figures.best else _difference(one.to_best, one.to_best_interval)
        table.add_row(escape(one.stage), f"{one.features:,}", percent(one.accuracy), interval_of(one.interval), below, best)
    return table


def comparison_table(result: CompareResult) -> Table:
    """Backbones side by side, the most accurate first."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=f"{result.folds} folds over {result.rows[0].n} images ({result.head}). Seconds: the frozen pass from files",
        title_justify="left",
        caption="= the same within noise. * on the Pareto front: no other is as quick and as accurate",
        caption_justify="left",
    )
    table.add_column("backbone")
    for name in ("accuracy", "95 % interval", "to the best", "s per 1,000", "frozen in", "parameters", "multiply-adds", "model"):
        table.add_column(name, justify="right")
    for row in result.rows:
        cost = row.cost
        table.add_row(
            escape(row.name) + (" *" if row.on_front else ""),
            percent(row.accuracy),
            interval_of(row.interval),
            "best" if row is result.rows[0] else _difference(row.to_best, row.to_best_interval),
            f"{cost.seconds_per_1000:.1f} ({cost.seconds_range[0]:.1f} to {cost.seconds_range[1]:.1f})",
            cost.precision,
            f"{cost.parameters / 1e6:.1f} M",
            f"{cost.multiply_adds / 1e9:.2f} G",
            f"{cost.model_bytes / 2**20:.1f} MiB",
        )
    return table


def interval_of(interval: tuple[float, float]) -> str:
    """Both ends of an interval, in per cent."""
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def _difference(points: float, interval: tuple[float, float]) -> str:
    """A difference in points of per cent with its interval, and "=" where that holds 0: equal within noise."""
    mark = " =" if interval[0] <= 0 <= interval[1] else ""
    return f"{100 * points:+.1f} ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}){mark}"
