"""The page of an adaptation: one file, nothing from elsewhere, and whatever the target, it is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greffon.report.domains as domains
from greffon.errors import ModelError, OptionError
from greffon.images import encode_png
from greffon.report import adaptation_report, plot_adaptation, plot_domains
from greffon.report.adaptation import _WAYS
from greffon.report.domains import map_domains
from greffon.training import EpochRow, TargetRow
from greffon.transfer.transductive import ABOVE, METHODS, Evidence

EMPTY = ("area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr")


class Reader(HTMLParser):
    """What a page shows; every element must be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def evidence(*names: str) -> tuple[Evidence, ...]:
    return tuple(Evidence(name, 0.8, float("nan"), 0.31, 4.2, 0.7, 0.9, 1.5) for name in names)


def page(
    folder: Path,
    *,
    m: int = 30,
    n: int = 24,
    c: int = 3,
    classes: Sequence[str] = (),
    paths: Sequence[Path] = (),
    changed: int = 5,
    adapted: bool = True,
    **more: Any,
) -> tuple[str, Reader]:
    """A page on drawn values; ``more`` replaces figures."""
    rng = np.random.default_rng(0)
    classes = classes or [f"class {i}" for i in range(c)]
    c = len(classes)
    guess = np.arange(m) % c
    probabilities = np.full((m, c), 0.3 / max(c - 1, 1))
    probabilities[np.arange(m), guess] = 0.7 + 0.2 * rng.random(m)
    base = np.roll(probabilities, 1, axis=1)
    base[changed:] = probabilities[changed:]
    labels = np.arange(n) % c
    centres = rng.normal(size=(c, 12)) * 4
    source = (centres[labels] + rng.normal(size=(n, 12))).astype(np.float32)
    target = (centres[guess] + rng.normal(size=(m, 12)) + 5).astype(np.float32)
    after = (source, target - 5) if adapted else (source, target)
    figures: Mapping[str, Any] = {
        "method": "consensus" if adapted else "source-only", "adapted": adapted, "why": "the methods agree",
        "target_photos": m, "source_photos": n, "changed": changed, "agreement": 0.834, "domain_distance": 1.7,
        "estimated_proportions": dict.fromkeys(classes, 1 / c), "warnings": ["look < here"], "in_both_domains": 2,
        "unreadable": [{"path": "a/<b>.jpg", "reason": "the file is empty"}],
        "evidence": [asdict(row) for row in evidence("source-only", "coral", "consensus")], "history": [],
        "training": {"backbone": "vgg16", "long": ["x" * 60] * 60, "rates": {"a": 0.123456}}, "seconds": 12.3,
    } | more  # fmt: skip
    file = folder / "report.html"
    adaptation_report(file, classes, figures, list(paths) or [folder / f"{i}.jpg" for i in range(m)], probabilities, base, labels,
                      (source, target), after, command="greffon adapt a --target 'b c' --out d")  # fmt: skip
    text = file.read_text("utf-8")
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert "script" not in reader.tags
    assert "://" not in text
    assert all(address.startswith("data:image/") for address in reader.addresses)
    assert (folder / "map.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(one.name for one in folder.iterdir() if one.name.startswith(".")) == []
    return text, reader


def photos(folder: Path, count: int, side: int = 40, names: Sequence[str] = ()) -> list[Path]:
    """Drawn photos of noise, which no format makes small."""
    rng = np.random.default_rng(1)
    paths = [folder / (names[i] if i < len(names) else f"{i:05}.png") for i in range(count)]
    for path in paths:
        path.write_bytes(encode_png(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)))
    return paths


def test_the_page_says_what_was_done_and_how_sure_that_is(tmp_path: Path) -> None:
    _, reader = page(tmp_path, paths=photos(tmp_path, 30))
    text = reader.text
    for part in ("Adapted to the target by consensus", "the methods agree.", "30 photos of the target", "24 of the source",
                 "about 83 %", "estimated without labels, not measured", "look < here", "1.70 of 2", "greffon adapt a --target 'b c'",
                 "5 of the target's (17 %) have", "reverse validation", "80.0 %", "–", "consensus ✓ taken",
                 "backbone", "a 0.1235", "a/<b>.jpg"):  # fmt: skip
        assert part in text, part
    for i in range(3):
        assert f"class {i}" in text
    assert "Before" in text
    assert "After" in text
    assert reader.addresses[0].startswith("data:image/png")
    assert len([one for one in reader.addresses if one.startswith("data:image/jpeg")]) == 5 + 3 * (4 + 4)
    assert "no picture" not in text


def test_changes_are_counted_from_old_to_new_the_largest_first(tmp_path: Path) -> None:
    text, _ = page(tmp_path, changed=5)
    table = text[text.index("source-only model</th>") : text.index("</table>", text.index("source-only model</th>"))]
    rows = re.findall(r'<td>(.*?)</td><td class="left">(.*?)</td><td>(\d+)</td>', table)
    # Photos 0 to 4 are of the classes 0, 1, 2, 0, 1; before, each was of the next.
    assert rows == [("class 1", "class 0", "2"), ("class 2", "class 1", "2"), ("class 0", "class 2", "1")]


@pytest.mark.parametrize(("m", "n"), [(1, 24), (1, 0), (2, 1), (5, 3), (30, 0), (9, 0), (10, 0)])
def test_few_photos_or_no_source(tmp_path: Path, m: int, n: int) -> None:
    _, reader = page(tmp_path, m=m, n=n, changed=1)
    assert ("no photo of the source was at hand" in reader.text) == (n == 0)
    assert ("The target on a map" in reader.text) == (n == 0)
    assert ("t-SNE" in reader.text) == (m + n >= 10)


def test_nothing_changed(tmp_path: Path) -> None:
    _, reader = page(tmp_path, changed=0, adapted=False)
    assert "Nothing was adapted: the source's model is kept" in reader.text
    assert "every photo has the class that the source-only model gives it" in reader.text
    assert "Before" not in reader.text
    assert len([one for one in reader.addresses if one.startswith("data:image/png")]) == 1


@pytest.mark.parametrize("agreement", [None, float("nan")])
def test_where_the_share_is_not_known_none_is_given(tmp_path: Path, agreement: float | None) -> None:
    _, reader = page(tmp_path, m=6, agreement=agreement, domain_distance=agreement, evidence=[])
    assert "Not known." in reader.text
    assert "about" not in reader.text
    assert "nan" not in reader.text.lower()
    assert "What was tried" not in reader.text


def test_the_agreement_of_one_way_with_itself_is_said_to_be_too_high(tmp_path: Path) -> None:
    _, reader = page(tmp_path, m=6, evidence=[asdict(row) for row in evidence("source-only", "coral")], method="coral")
    assert "too high rather than too low" in reader.text


@pytest.mark.parametrize("c", [1, 2, 30, pytest.param(120, marks=pytest.mark.slow)])
def test_any_number_of_classes(tmp_path: Path, c: int) -> None:
    _, reader = page(tmp_path, m=130, n=125, c=c, changed=50 if c > 1 else 0)
    for i in range(c):
        assert f"class {i}" in reader.text
    assert reader.tags.count("figure") <= 260
    assert ("of the largest classes only" in reader.text) == (c == 120)


@pytest.mark.slow
def test_many_photos_stay_a_small_page(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    some = photos(tmp_path / "photos", 50, side=300)
    text, reader = page(tmp_path, m=10_000, n=200, c=12, changed=4_000, paths=some * 200)
    assert len(text) < 8_000_000
    assert 60 + 12 * 6 < reader.tags.count("figure") <= 250
    assert "The 60 of 4000 changed photos" in reader.text


def test_hostile_names_are_shown_and_do_nothing(tmp_path: Path) -> None:
    evil = "<script>alert(1)<_script>"
    names = ['"><img onerror=x>.png', "{{ 7 * 7 }}.png", "b\udcff\udcfe.png", "new\nline.png", "$a_b$.png"]
    classes = [evil, "é\udc80$x$ & co", '"quoted"', " ", "x" * 200]
    text, reader = page(tmp_path, m=5, n=10, classes=classes, paths=photos(tmp_path, 5, names=names),
                        why=evil, warnings=[evil], training={evil: {evil: [evil]}})  # fmt: skip
    assert "<script" not in text
    assert evil in reader.text
    assert "{{ 7 * 7 }}" in reader.text
    assert '"><img onerror=x>.png' in reader.text
    assert "b??.png" in reader.text


def test_photos_that_have_gone_leave_their_words(tmp_path: Path) -> None:
    _, reader = page(tmp_path, m=4, changed=1)
    assert reader.text.count("no picture") == 5
    assert "0.jpg" in reader.text


def history() -> list[EpochRow]:
    rows = [EpochRow(0, None, 0.5, 1.2, 0.0, 0, 1.0, TargetRow(None, 0.4, 2.0, 1.0, False))]
    for epoch in (1, 2, 3):
        seen = TargetRow(0.3 / epoch, -0.2 * epoch, 2.0 + epoch, 0.4, epoch == 3)
        rows.append(EpochRow(epoch, 1.0 / epoch, None, None, 1e-3, 1, 1.0, seen))
    return rows


def test_epochs_are_drawn_where_there_were_any(tmp_path: Path) -> None:
    text, reader = page(tmp_path, m=6, history=[asdict(row) for row in history()], training={"best_epoch": 2}, method="dann")
    assert "How it learned" in reader.text
    assert "Losses, information and density" in text


def test_the_curve_shows_every_epoch_the_kept_one_and_lost_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    save = domains.save_figure
    monkeypatch.setattr(domains, "save_figure", lambda figure, path: (save(figure, path), figures.append(figure)))
    plot_adaptation(history(), tmp_path / "x.svg", kept=2)
    loss, information, density = figures[0].axes
    lines = {line.get_label(): line.get_ydata() for line in loss.lines}
    assert lines["loss: labelled photos"] == pytest.approx([1, 1 / 2, 1 / 3])
    assert lines["loss: target, by the method"] == pytest.approx([0.3, 0.15, 0.1])
    assert lines["loss: source, validation"] == pytest.approx([1.2])
    assert information.lines[0].get_ydata() == pytest.approx([0.4, -0.2, -0.4, -0.6])
    assert density.lines[0].get_ydata() == pytest.approx([2, 3, 4, 5])
    for axes in (information, density):
        assert "classes have vanished" in axes.get_legend_handles_labels()[1]
        assert "kept: epoch 2" in axes.get_legend_handles_labels()[1]
    plot_adaptation([EpochRow(0, None, None, None, 0.0, 0, 1.0)], tmp_path / "y.png")


def test_every_method_has_its_words() -> None:
    assert set(_WAYS) == {"consensus", *METHODS, *ABOVE}


def test_a_map_keeps_neighbours_and_shows_each_class_in_its_share() -> None:
    rng = np.random.default_rng(0)
    labels, guess = np.repeat([0, 1], [900, 100]), np.repeat([0, 1, 2], [600, 300, 100])
    centres = rng.normal(size=(3, 40)) * 8
    source, target = centres[labels] + rng.normal(size=(1000, 40)), centres[guess] + rng.normal(size=(1000, 40))
    first, second = map_domains((source, target), (source * 2, target * 2), labels, (guess, guess), most=100)
    assert np.bincount(first.labels).tolist() == [90, 10]
    assert np.bincount(first.guesses).tolist() == pytest.approx([60, 30, 10], abs=1)
    for one in (first, second):
        points, groups = np.concatenate([one.source, one.target]), np.concatenate([one.labels, one.guesses])
        away = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(len(points))
        assert (groups[away.argmin(1)] == groups).mean() > 0.98
    middles = [np.stack([one.target[one.guesses == c].mean(0) for c in range(3)]) for one in (first, second)]
    for c in range(3):  # the second map starts from the first: the classes stay in their corners
        assert np.linalg.norm(middles[0][c] - middles[1], axis=1).argmin() == c
    again, _ = map_domains((source, target), (source * 2, target * 2), labels, (guess, guess), most=100)
    assert np.array_equal(again.target, first.target)


@pytest.mark.parametrize("x", [np.zeros((20, 6)), np.full((20, 6), 3.0), np.ones((20, 1)), np.arange(20.0)[:, None], np.zeros((0, 6))])
def test_features_that_tell_nothing_make_a_map_all_the_same(tmp_path: Path, x: np.ndarray) -> None:
    nobody, labels, guess = np.zeros((0, x.shape[1])), np.zeros(0, np.int64), np.zeros(len(x), np.int64)
    maps = map_domains((nobody, x), (nobody, x), labels, (guess, guess))
    assert all(np.isfinite(one.target).all() and one.target.shape == (len(x), 2) for one in maps)
    plot_domains(maps, ["a"], tmp_path / "map.svg")


def test_the_names_of_groups_do_not_cover_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    save = domains.save_figure
    monkeypatch.setattr(domains, "save_figure", lambda figure, path: (save(figure, path), figures.append(figure)))
    rng = np.random.default_rng(3)
    guess = np.arange(120) % 12
    maps = map_domains((np.zeros((0, 5)), rng.normal(size=(120, 5))), None, np.zeros(0, np.int64), (guess, guess))
    plot_domains(maps, [f"class number {i}" for i in range(12)], tmp_path / "map.png")
    axes = figures[0].axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 12
    middles = axes.transData.transform([np.median(maps[0].target[guess == c], axis=0) for c in range(12)])
    assert not [one for one in boxes for x, y in middles if one.contains(x, y)]
    frame = axes.get_window_extent().padded(1)
    for i, one in enumerate(boxes):
        assert frame.x0 <= one.x0
        assert one.x1 <= frame.x1
        assert not [other for other in boxes[:i] if one.overlaps(other)]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="none"):
        plot_domains([], ["a"], tmp_path / "map.png")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(ModelError, match="cannot be written"):
        page(tmp_path, m=3)
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
