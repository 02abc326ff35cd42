"""Charts as SVG that stands in the page itself: its colours are those of the page, its words those of the language.

Coordinates are pixels of a small picture, so that a phone shows it at about its own size. What a chart shows also stands
beside it as a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, final

from greffon.evaluation import Evaluation, GrowthPoint
from greffon.report.run.saying import Speaker

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["Epoch", "accuracy_chart", "learning_chart", "loss_chart", "nice_ticks", "reliability_chart"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 360.0, 260.0, 52.0, 20.0, 12.0, 44.0


@final
@dataclass(frozen=True, slots=True)
class Epoch:
    """What is known of an epoch; what is not is None."""

    epoch: int
    loss: float | None
    log_loss: float | None
    accuracy: float | None


@final
@dataclass(frozen=True, slots=True)
class _Axis:
    """One direction of a chart. ``place`` is from 0 at its beginning to 1 at its end."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    text: Callable[[float], str]
    log: bool = False

    def place(self, value: float) -> float:
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)


@final
class _Chart:
    """The frame, and what is drawn into it."""

    def __init__(self, x: _Axis, y: _Axis, title: str) -> None:
        self._x, self._y, self._title, self._parts = x, y, title, list[str]()
        for value in y.ticks:
            self._parts.append(self._segment("grid", (x.low, value), (x.high, value)))
            self._parts.append(self._text(_LEFT - 6, self.at((x.low, value))[1] + 4, y.text(value), "end"))
        for value in x.ticks:
            across = self.at((value, y.low))[0]
            self._parts.append(self._text(across, _HEIGHT - _BOTTOM + 16, x.text(value), "middle"))
        self._parts.append(self._segment("axis", (x.low, y.low), (x.high, y.low)))
        self._parts.append(self._text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, x.label, "middle"))
        self._parts.append(f'<text class="side" transform="translate(12 {(_TOP + _HEIGHT - _BOTTOM) / 2:.0f}) rotate(-90)"'
                           f' text-anchor="middle">{escape(y.label)}</text>')  # fmt: skip

    def at(self, point: tuple[float, float]) -> tuple[float, float]:
        """Where values lie on the picture."""
        return (_LEFT + self._x.place(point[0]) * (_WIDTH - _LEFT - _RIGHT),
                _HEIGHT - _BOTTOM - self._y.place(point[1]) * (_HEIGHT - _TOP - _BOTTOM))  # fmt: skip

    def line(self, kind: str, points: Sequence[tuple[float, float]]) -> None:
        """A line from point to point."""
        placed = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self.at, points))
        self._parts.append(f'<polyline class="{kind}" points="{placed}"/>')

    def bar(self, kind: str, x: float, interval: tuple[float, float]) -> None:
        """An interval, as an upright line with ends."""
        (across, low), (_, high) = self.at((x, interval[0])), self.at((x, interval[1]))
        self._parts.append(f'<path class="{kind}" d="M{across:.1f} {low:.1f}V{high:.1f}M{across - 3:.1f} {low:.1f}h6M{across - 3:.1f}'
                           f' {high:.1f}h6"/>')  # fmt: skip

    def dot(self, kind: str, point: tuple[float, float], title: str, radius: float = 3.5, square: bool = False) -> None:
        """A point, which says what it stands for where it is pointed at."""
        x, y = self.at(point)
        shape = (f'<rect class="{kind}" x="{x - radius:.1f}" y="{y - radius:.1f}" width="{2 * radius:.1f}" height="{2 * radius:.1f}">'
                 if square else f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">')  # fmt: skip
        self._parts.append(f"{shape}<title>{escape(title)}</title></{'rect' if square else 'circle'}>")

    def note(self, x: float, words: str) -> None:
        """An upright broken line with words at its foot, on the side that has room."""
        self.line("mark", [(x, self._y.low), (x, self._y.high)])
        across = self.at((x, self._y.low))[0]
        right = across < (_LEFT + _WIDTH) / 2
        self._parts.append(self._text(across + (5 if right else -5), _TOP + 10, words, "start" if right else "end"))

    def svg(self) -> Markup:
        """The picture as an element of a page."""
        from markupsafe import Markup

        inside, box = "".join(self._parts), f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}"
        return Markup(f'<svg class="chart" role="img" viewBox="{box}" aria-label="{escape(self._title)}">{inside}</svg>')

    def _segment(self, kind: str, start: tuple[float, float], stop: tuple[float, float]) -> str:
        (x1, y1), (x2, y2) = self.at(start), self.at(stop)
        return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'

    @staticmethod
    def _text(x: float, y: float, words: str, anchor: str) -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def nice_ticks(low: float, high: float, most: int = 5) -> tuple[float, ...]:
    """Numbers between two values, at most so many and some, with steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not span > 0:
        return (low,)
    power = 10 ** math.floor(math.log10(span / most))
    step = next(power * times for times in (1, 2, 5, 10) if span / (power * times) <= most)
    return tuple(step * number for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1))


def _per_cents(speaker: Speaker, label: str, values: Sequence[float]) -> _Axis:
    """The axis of shares: all of the values and some room, within 0 and 1."""
    span = max(max(values) - min(values), 0.05)
    low, high = max(0.0, min(values) - 0.06 * span), min(1.0, max(values) + 0.06 * span)
    if high - low < 0.05:
        low, high = max(0.0, high - 0.05), min(1.0, max(high, 0.05))
    ticks = nice_ticks(low, high)
    digits = 0 if len(ticks) < 2 or ticks[1] - ticks[0] >= 0.01 else 1
    return _Axis(label, low, high, ticks, lambda value: speaker.percent(value, digits))


def reliability_chart(evaluation: Evaluation, speaker: Speaker) -> Markup:
    """How often images are named rightly against how sure the model is of them: see ``plot_reliability``."""
    words = speaker.words
    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    x, y = (_Axis(label, 0, 1, ticks, lambda value: speaker.percent(value, 0)) for label in (words.confidence, words.named_rightly))
    chart = _Chart(x, y, words.calibration_image)
    chart.line("ideal", [(0, 0), (1, 1)])
    most = max((one.count for one in evaluation.reliability), default=1)
    for one in evaluation.reliability:
        chart.bar("first", one.confidence, one.interval)
        said = f"{speaker.percent(one.confidence)} → {speaker.percent(one.accuracy)} ({speaker.number(one.count)})"
        chart.dot("first", (one.confidence, one.accuracy), said, 2.5 + 5 * math.sqrt(one.count / most))
    return chart.svg()


def _epochs(history: Sequence[Epoch], speaker: Speaker) -> _Axis:
    last = max(1, history[-1].epoch)
    ticks = tuple(value for value in nice_ticks(0, last, 8) if value == round(value))
    return _Axis(speaker.words.epoch, 0, last, ticks, lambda value: speaker.number(value))


def loss_chart(history: Sequence[Epoch], kept: int, speaker: Speaker) -> Markup:
    """The loss of every epoch, training's and validation's, from 0."""
    words = speaker.words
    trained = [(float(row.epoch), row.loss) for row in history if row.loss is not None and math.isfinite(row.loss)]
    seen = [(float(row.epoch), row.log_loss) for row in history if row.log_loss is not None and math.isfinite(row.log_loss)]
    high = 1.05 * max((loss for _, loss in (*trained, *seen)), default=1.0) or 1.0
    ticks = nice_ticks(0, high)
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9)) if len(ticks) > 1 else 2
    chart = _Chart(_epochs(history, speaker), _Axis(words.nats, 0, high, ticks, lambda value: speaker.number(value, digits)),
                   words.losses_image)  # fmt: skip
    chart.note(kept, speaker.say(words.kept_epoch, n=speaker.number(kept)))
    for kind, points, name in (("first", trained, words.training_loss), ("second", seen, words.validation_loss)):
        chart.line(kind, points)
        for x, loss in points:
            chart.dot(kind, (x, loss), f"{words.epoch} {x:.0f}{words.colon}{name} {speaker.number(loss, 3)}", square=kind == "second")
    return chart.svg()


def accuracy_chart(history: Sequence[Epoch], kept: int, speaker: Speaker) -> Markup | None:
    """The validation accuracy of every epoch; None where nothing was validated."""
    words = speaker.words
    seen = [(float(row.epoch), row.accuracy) for row in history if row.accuracy is not None]
    if not seen:
        return None
    y = _per_cents(speaker, words.validation_accuracy, [share for _, share in seen])
    chart = _Chart(_epochs(history, speaker), y, words.accuracies_image)
    chart.note(kept, speaker.say(words.kept_epoch, n=speaker.number(kept)))
    chart.line("third", seen)
    for x, share in seen:
        chart.dot("third", (x, share), f"{words.epoch} {x:.0f}{words.colon}{speaker.percent(share)}")
    return chart.svg()


def learning_chart(points: Sequence[GrowthPoint], speaker: Speaker) -> Markup:
    """Accuracy against the number of training images, which is drawn by its logarithm."""
    words = speaker.words
    counts = [one.images for one in points]
    low, high = min(counts) / 1.15, max(counts) * 1.15
    power = [10**digits * times for digits in range(8) for times in (1, 2, 5) if low <= 10**digits * times <= high]
    ticks = tuple(map(float, power[:: 1 + len(power) // 7])) or tuple(map(float, sorted(set(counts))))
    x = _Axis(words.training_images, low, high, ticks, lambda value: speaker.number(value), log=True)
    y = _per_cents(speaker, words.accuracy_axis, [end for one in points for end in one.interval])
    chart = _Chart(x, y, words.by_images_image)
    chart.line("first", [(one.images, one.accuracy) for one in points])
    for one in points:
        chart.bar("first", one.images, one.interval)
        chart.dot("first", (one.images, one.accuracy), f"{speaker.number(one.images)}{words.colon}{speaker.percent(one.accuracy)}")
    return chart.svg()
