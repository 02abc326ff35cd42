"""Pictures: what they show, that names do not cover each other, and that the same result gives the same file."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from PIL import Image

import greffon.report.plots as plots
from greffon.errors import OptionError
from greffon.progress import Silent
from greffon.report import plot_comparison, plot_depths, plot_search
from greffon.training import Recipe
from greffon.transfer.inductive import (
    BackboneFigures,
    Contender,
    Cost,
    DepthFigures,
    Layout,
    Search,
    SearchTrial,
    depth_figures,
    side_by_side,
)


@pytest.fixture(scope="module")
def depths() -> DepthFigures:
    """Three stages, of which the middle one tells the most."""
    rng = np.random.default_rng(0)
    y = np.arange(150) % 3
    centre = rng.normal(size=(3, 24)) * np.repeat([0.5, 2.0, 0.2], 8)
    x = np.abs(centre[y] + rng.normal(size=(150, 24)) + 1).astype(np.float32)
    return depth_figures(x, (4, 4, 4), ("stem", "stage $1$", "stage_2"), y, 3, progress=Silent())


def rows(*points: tuple[str, float, float], n: int = 500) -> tuple[BackboneFigures, ...]:
    """Name, share of images named rightly, seconds per 1,000 images."""
    cost = Cost(1.0, (1.0, 1.0), "float32", "torch", 1, 1, 1)
    return side_by_side(
        [Contender(name, np.arange(n) < round(share * n), replace(cost, seconds_per_1000=s)) for name, share, s in points]
    )


def written(svg: Path) -> list[str]:
    """The texts of an SVG whose letters are outlines: matplotlib writes each into a comment before them."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    return [(node.text or "").strip() for node in ElementTree.parse(svg, parser).iter() if node.tag is ElementTree.Comment]


def test_depths_show_every_stage_its_accuracy_and_the_cut(depths: DepthFigures, tmp_path: Path) -> None:
    plot_depths(depths, tmp_path / "depth.svg", title="photos: where in vgg16 the classes separate")
    texts = written(tmp_path / "depth.svg")
    for one in (*depths.stages, depths.together):
        assert one.stage in texts
        assert f"{100 * one.accuracy:.1f}" in texts
    assert depths.suggestion.cut == "stage_2"
    for text in ("suggested cut: retrain from stage_2", "photos: where in vgg16 the classes separate", "accuracy in 5 folds (%)"):
        assert text in texts


def test_the_line_of_the_cut_stands_below_its_stage(depths: DepthFigures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cut, place in (("stage_2", 1.5), ("stem", -0.5), ("none", 2.5)):
        figure = kept(monkeypatch)
        plot_depths(replace(depths, suggestion=replace(depths.suggestion, cut=cut)), tmp_path / "x.png")
        dashed = [line for line in figure[0].axes[0].lines if line.get_linestyle() == "--"]
        assert [float(np.asarray(line.get_xdata())[0]) for line in dashed] == [place]


def kept(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved from now on: they are written as ever, and looked at afterwards."""
    figures: list[Figure] = []
    save = plots.save_figure

    def listen(figure: Figure, path: Path) -> None:
        save(figure, path)
        figures.append(figure)

    monkeypatch.setattr(plots, "save_figure", listen)
    return figures


def test_the_accuracies_stand_at_their_heights(depths: DepthFigures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = kept(monkeypatch)
    plot_depths(depths, tmp_path / "x.png")
    axes = figure[0].axes[0]
    (line,) = [line for line in axes.lines if line.get_linestyle() == "-" and len(np.asarray(line.get_xdata())) == 3]
    assert np.asarray(line.get_ydata()) == pytest.approx([100 * one.accuracy for one in depths.stages])
    bars = [segment for box in axes.collections for segment in getattr(box, "get_segments", list)()]
    ends = sorted((float(bar[0][0]), float(bar[0][1]), float(bar[1][1])) for bar in bars)
    assert len(ends) == 4
    for (x, low, high), one in zip(ends, (*depths.stages, depths.together), strict=True):
        assert (low, high) == pytest.approx((100 * one.interval[0], 100 * one.interval[1]), abs=1e-9)
        assert axes.get_ylim()[0] < low <= high < axes.get_ylim()[1]
        assert 0 <= x <= 3


CROWD = [
    ("vgg16", 0.950, 100.0), ("vgg19", 0.951, 125.0), ("resnet50.a1_in1k", 0.960, 40.0), ("resnet18.a1_in1k", 0.940, 14.0),
    ("efficientnet-lite0", 0.930, 15.0), ("mobilenetv3_large_100.ra_in1k", 0.935, 13.0), ("densenet121.ra_in1k", 0.955, 42.0),
    ("convnext_tiny.fb_in1k", 0.972, 60.0), ("inception_v3.tv_in1k", 0.950, 45.0), ("regnety_008.pycls_in1k", 0.952, 17.0),
    ("my $model$", 0.952, 17.5), ("été_\udcff", 0.951, 17.2),
]  # fmt: skip


def test_names_cover_no_name_no_point_and_no_edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = kept(monkeypatch)
    compared = rows(*CROWD)
    plot_comparison(compared, tmp_path / "compare.png", title="photos: 500 images")
    axes = figure[0].axes[0]
    names = [text for text in axes.texts if isinstance(text, Annotation)]
    assert len(names) == len(CROWD)
    boxes = [Text.get_window_extent(text) for text in names]
    frame = axes.get_window_extent()
    for i, box in enumerate(boxes):
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1
        assert not any(Bbox.intersection(box, other) for other in boxes[i + 1 :])
        for one in compared:
            x, y = axes.transData.transform((one.cost.seconds_per_1000, 100 * one.accuracy))
            assert not (box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1), (names[i].get_text(), one.name)


def test_the_front_is_drawn_from_the_quickest_to_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = kept(monkeypatch)
    paths = ("/models/slow", 0.9, 50.0), ("quick", 0.8, 5.0), ("a/neither", 0.7, 20.0), ("b/same", 0.7, 30.0), ("a/same", 0.7, 40.0)
    plot_comparison(rows(*paths), tmp_path / "x.svg")
    axes = figure[0].axes[0]
    (front,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert np.asarray(front.get_xdata()).tolist() == [5.0, 50.0]
    assert np.asarray(front.get_ydata()) == pytest.approx([80.0, 90.0])
    assert axes.get_xscale() == "log"
    texts = {"on the Pareto front", "another is quicker and no worse", "slow", "quick", "neither", "a/same", "b/same"}
    assert texts <= set(written(tmp_path / "x.svg")), "of a model's folder the last part, where that is one alone"


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_result_gives_the_same_file(depths: DepthFigures, tmp_path: Path, kind: str) -> None:
    for name in ("a", "b"):
        plot_depths(depths, tmp_path / f"{name}.{kind}", title="t")
        plot_comparison(rows(("one", 0.9, 10.0), ("two", 0.8, 5.0)), tmp_path / f"{name}2.{kind}")
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    assert (tmp_path / f"a2.{kind}").read_bytes() == (tmp_path / f"b2.{kind}").read_bytes()
    assert b"20" + b"26-" not in (tmp_path / f"a.{kind}").read_bytes()[:2000], "no date"


def test_a_picture_is_one_that_others_can_open(depths: DepthFigures, tmp_path: Path) -> None:
    plot_depths(depths, tmp_path / "a.png", title="a title")
    with Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())) as image:
        assert image.size == (1080, 690)  # 7.2 by 4.6 inches at 150 dots each
        assert np.asarray(image.convert("L")).std() > 10
        assert "Software" not in image.info
    plot_comparison(rows(("alone", 1.0, 0.02), n=5), tmp_path / "b.png", title="one alone, all right")


def test_names_in_any_script_give_no_warning(tmp_path: Path) -> None:
    names = ["модель", "花 $x", "a$b$c_{d}", r"$\frac$", "\udce9t\udce9"]
    compared = rows(*((name, 0.9 - 0.1 * i, 2.0**-i) for i, name in enumerate(names)))
    plot_comparison(compared, tmp_path / "x.png", title="写真 \udcff $unclosed")
    plot_comparison(compared, tmp_path / "x.svg", title="写真 \udcff $unclosed")
    assert "a$b$c_{d}" in written(tmp_path / "x.svg")


def test_a_search_shows_every_trial_at_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(number: int, rate: float, cut: str, views: int, loss: float, finished: bool) -> SearchTrial:
        recipe = Recipe(learning_rate=rate)
        return SearchTrial(number, recipe, cut, views, 3, loss, 0.5, "finished" if finished else "pruned", loss, 1.0)

    trials = (trial(0, 1e-4, "b5", 4, 0.9, True), trial(1, 1e-5, "b4", 1, 1.4, False), trial(2, 1e-3, "b5", 2, 0.5, True))
    shares = {"learning_rate": 0.7, "cut": 0.2, "views": 0.1}
    found = Search(trials[2].recipe, Layout("b5", 2, "float32"), trials, shares, "some", 3.0)
    figure = kept(monkeypatch)
    plot_search(found, tmp_path / "x.svg")
    plot_search(found, tmp_path / "y.png")
    rates, cuts, views = figure[0].axes
    assert {line.get_label(): (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) for line in rates.lines} == {
        "finished": ([1e-4, 1e-3], [0.9, 0.5]), "given up early": ([1e-5], [1.4]), "the default": ([1e-4], [0.9]), "taken": ([1e-3], [0.5]),
    }  # fmt: skip
    assert rates.get_xscale() == "log"
    assert [label.get_text() for label in cuts.get_xticklabels()] == ["b4", "b5"]
    assert views.get_xticks().tolist() == [1, 2, 4]
    texts = written(tmp_path / "x.svg")
    assert {"learning rate (70 % of the variance)", "cut (20 % of the variance)", "0.0001", "0.001", "b4", "taken"} <= set(texts)
    assert not [text for text in texts if "$" in text], "a power of ten is a plain number"
    nothing = replace(found, importances={}, trials=trials[:1])
    plot_search(nothing, tmp_path / "z.png")
    assert "given up early" not in [line.get_label() for line in figure[2].axes[0].lines]


def test_matplotlibs_own_settings_stay_as_they_were(depths: DepthFigures, tmp_path: Path) -> None:
    before = dict(rcParams)
    rcParams["font.size"] = 31.0
    try:
        plot_depths(depths, tmp_path / "a.png")
        assert rcParams["font.size"] == 31.0
        rcParams["font.size"] = before["font.size"]
        plot_depths(depths, tmp_path / "b.png")
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes(), "the user's own look has no say"
    finally:
        rcParams["font.size"] = before["font.size"]
    assert dict(rcParams) == before


def test_what_cannot_be_written_is_said(depths: DepthFigures, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"\.png or \.svg"):
        plot_depths(depths, tmp_path / "depth.jpg")
    with pytest.raises(OptionError, match="cannot be written"):
        plot_depths(depths, tmp_path / "nowhere" / "depth.png")
    (tmp_path / "depth.png").mkdir()
    with pytest.raises(OptionError, match="cannot be written"):
        plot_depths(depths, tmp_path / "depth.png")
    assert [path.name for path in tmp_path.iterdir()] == ["depth.png"], "no half of a picture is left"
    with pytest.raises(OptionError, match="none"):
        plot_comparison([], tmp_path / "x.png")


def test_importing_the_report_imports_no_matplotlib() -> None:
    source = Path(plots.__file__).read_text("utf-8")
    assert not [line for line in source.splitlines() if line.startswith(("import matplotlib", "from matplotlib"))]
    assert "matplotlib.pyplot" not in source
