"""Which engine is chosen, by a clock that the tests set; everything else is run for real."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import network

from drawn import encode, photo
from greffon.activations import (
    Choice,
    Engine,
    Photo,
    PixelEngine,
    QuantisedEngine,
    Tap,
    TorchEngine,
    best_precision,
    cached_graph,
    chosen_engine,
    computes_bfloat16,
)
from greffon.activations.plan import read_choice
from greffon.errors import OptionError
from greffon.silence import can_quantise

POOLED = Tap("pooled")
PHOTOS: list[Photo] = [photo(seed, 64, 64) for seed in range(30)]
LABELS = np.arange(30) % 3
LONG = 10**6
with_int8 = pytest.mark.skipif(not can_quantise(), reason="NNCF is not installed")
with_bfloat16 = pytest.mark.skipif(not computes_bfloat16("cpu"), reason="this processor does not compute in bfloat16")


class Told:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def begin(self, task: str, total: int) -> None:
        pass

    def advance(self, steps: int = 1) -> None:
        pass

    def end(self) -> None:
        pass

    def say(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, greffon_cache: Path) -> Path:
    """Choices are remembered in a cache of each test's own; the graphs, which take seconds, in that of the session."""
    monkeypatch.setenv("GREFFON_CACHE", str(tmp_path))
    (tmp_path / "quantised").symlink_to(_made(greffon_cache / "quantised"))
    return tmp_path


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Set how many images a second each precision does; gives the list of those that are asked for it."""

    def set_rates(**rates: float) -> list[str]:
        asked: list[str] = []

        def rate(engine: Engine, pixels: np.ndarray, seconds: float = 1.0) -> float:
            asked.append(engine.precision)
            return rates[engine.precision]

        monkeypatch.setattr("greffon.activations.choosing._rate", rate)
        return asked

    return set_rates


def choose(precision: str = "auto", told: Told | None = None, **options: Any) -> tuple[Engine, Choice]:
    return chosen_engine(network(), POOLED, precision, PHOTOS, told or Told(), **options)


def verdicts(choice: Choice) -> Mapping[str, str]:
    return {one.precision: one.verdict for one in choice.candidates}


# --- by the clock ----------------------------------------------------------------------------------------------


def test_a_short_pass_is_not_measured(clock: Callable[..., list[str]]) -> None:
    asked = clock(float32=100, bfloat16=1000, int8=1000)
    engine, choice = choose(images=900)
    assert asked == ["float32"], "once, to know that it is short"
    assert engine.precision == choice.precision == best_precision("cpu")
    assert "900 images take float32 some 9 s: too short" in choice.why
    _, choice = choose(images=1100)
    assert "too short" not in choice.why


@with_int8
def test_int8_where_the_pass_is_long(clock: Callable[..., list[str]], own_cache: Path) -> None:
    asked, told = clock(float32=10, bfloat16=5, int8=40), Told()
    engine, choice = choose(told=told, images=LONG, labels=LABELS)
    assert isinstance(engine, QuantisedEngine)
    assert asked[0] == "float32"
    assert asked[-1] == "int8"
    rates = {one.precision: one.rate for one in choice.candidates}
    assert rates == ({"float32": 10, "bfloat16": 5, "int8": 40} if computes_bfloat16("cpu") else {"float32": 10, "int8": 40})
    one = next(one for one in choice.candidates if one.precision == "int8")
    assert (one.verdict, one.seconds is not None) == ("chosen", True)
    assert one.fidelity is not None
    assert one.fidelity.cosine_mean > 0.999
    assert one.fidelity == choice.fidelity
    assert one.fidelity.images == 10, "a third of the few there are"
    assert one.accuracy is not None
    assert one.accuracy_float32 is not None
    assert one.difference is not None
    assert one.difference[0] <= one.accuracy - one.accuracy_float32 <= one.difference[1]
    assert told.warnings == []
    assert any("int8 against float32 on 10 of these images" in note for note in told.notes)
    # The same pass again: nothing is measured but that it is long, and nothing calibrated.
    asked = clock(float32=10, bfloat16=500, int8=1)
    again, repeated = choose(images=LONG, labels=LABELS)
    assert asked == ["float32"]
    assert repeated == choice
    assert again.fingerprint == engine.fingerprint
    # Another pass is another choice; so is one whose memory is damaged.
    assert choose(images=LONG + 1, labels=LABELS)[1].precision != "int8"
    (file,) = [path for path in (own_cache / "plans").iterdir() if read_choice(path) == choice]
    file.write_text(file.read_text()[:-5])
    assert choose(images=LONG, labels=LABELS)[1].precision != "int8"


@with_int8
def test_int8_only_where_it_pays(clock: Callable[..., list[str]]) -> None:
    asked = clock(float32=100, bfloat16=1, int8=10**6)
    # With 30 photos at 100 a second: 15 s, and 64 + 32 (checks) images; saved is 3/5 of the pass in float32.
    cost = 15 + (64 + 32) / 100
    enough = round(cost * 100 / (1 - 1 / 2.5))
    engine, choice = choose(images=enough - 20)
    assert engine.precision == "float32"
    assert "int8" not in asked
    assert verdicts(choice)["int8"] == f"would save {cost:.0f} s, and its calibration takes {cost:.0f} s"
    engine, choice = choose(images=enough + 20)
    assert engine.precision == "int8"


@with_int8
def test_int8_is_left_out_where_there_is_time(clock: Callable[..., list[str]]) -> None:
    asked = clock(float32=10, bfloat16=1, int8=40)
    engine, choice = choose(images=LONG, exact_seconds=LONG / 10)
    assert engine.precision == "float32" and "int8" not in asked
    assert verdicts(choice)["int8"] == f"the pass takes {LONG / 10:.0f} s without it: up to {LONG / 10:.0f} s nothing is rounded for speed"
    assert choose(images=LONG, exact_seconds=LONG / 10 - 1)[0].precision == "int8"


@with_int8
def test_int8_that_is_no_faster_is_not_taken(clock: Callable[..., list[str]]) -> None:
    clock(float32=10, bfloat16=1, int8=11)
    engine, choice = choose(images=LONG)
    assert engine.precision == "float32"
    assert verdicts(choice)["int8"] == "slower, or no faster to speak of"
    assert "float32 10.0" in choice.why
    assert "int8 11.0" in choice.why


@with_bfloat16
def test_bfloat16_by_the_clock(clock: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greffon.activations.choosing.can_quantise", lambda: False)
    clock(float32=10, bfloat16=30)
    engine, choice = choose(images=1000)
    assert engine.precision == "bfloat16"
    assert choice.fidelity is not None
    assert (choice.fidelity.precision, choice.fidelity.images) == ("bfloat16", 8)
    assert verdicts(choice)["int8"] == 'OpenVINO is not installed: pip install "greffon[cpu]"'
    told = Told()
    engine, choice = choose(told=told, images=1000, least=1.0)
    assert engine.precision == "float32"
    assert "below 1.0" in verdicts(choice)["bfloat16"]
    assert any("bfloat16 is not used" in warning for warning in told.warnings)
    clock(float32=10, bfloat16=11)
    assert choose(images=1001)[0].precision == "float32", "no faster to speak of"


def test_the_real_clock() -> None:
    from greffon.activations.choosing import _rate

    engine = TorchEngine(network(), POOLED, "float32", batch=4)
    pixels = np.stack([np.asarray(one) for one in PHOTOS[:3]])
    started = time.perf_counter()
    for _ in range(20):
        engine.run(np.concatenate([pixels, pixels[:1]]))
    mean = 20 * 4 / (time.perf_counter() - started)
    assert mean / 3 < _rate(engine, pixels, 0.2) < 30 * mean


# --- checks that fail ------------------------------------------------------------------------------------------


@with_int8
@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_int8_below_the_least_cosine_falls_back_and_says_so(precision: str, clock: Callable[..., list[str]]) -> None:
    clock(float32=10, bfloat16=5, int8=40)
    told = Told()
    engine, choice = choose(precision, told, images=LONG, least=1.0)
    assert engine.precision == choice.precision == "float32"
    one = next(one for one in choice.candidates if one.precision == "int8")
    assert one.fidelity is not None
    assert one.verdict == f"its mean cosine to float32 is {one.fidelity.cosine_mean:.5f}, below 1.0"
    assert len(told.warnings) == 1
    assert told.warnings[0].startswith(f"int8 is not used: {one.verdict}")
    assert choice.fidelity == one.fidelity


@with_int8
def test_int8_that_no_longer_tells_the_classes_apart_falls_back(
    clock: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(float32=10, bfloat16=5, int8=40)
    # Three kinds of pictures that any network tells apart.
    photos: list[Photo] = [np.full((64, 64, 3), 0, np.uint8) + (photo(i, 64, 64) // 8) for i in range(24)]
    labels = np.arange(24) % 3
    for picture, label in zip(photos, labels, strict=True):
        assert isinstance(picture, np.ndarray)
        picture[..., int(label)] += 150
    engine, choice = chosen_engine(network(), POOLED, "int8", photos, Told(), least=0, labels=labels)
    assert engine.precision == "int8"
    assert choice.candidates[0].accuracy == choice.candidates[0].accuracy_float32 == 1
    real = QuantisedEngine.run
    monkeypatch.setattr(QuantisedEngine, "run", lambda self, images: np.roll(real(self, images), 1, 0))
    told = Told()
    engine, choice = chosen_engine(network(), POOLED, "int8", photos, told, least=0, labels=labels)
    assert engine.precision == "float32"
    assert "of 24 images right, float32 100.0 %" in told.warnings[0]


@with_int8
def test_a_network_that_cannot_be_quantised(clock: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    clock(float32=10, bfloat16=5, int8=40)
    monkeypatch.setattr("openvino.convert_model", lambda *_, **__: (_ for _ in ()).throw(KeyError("aten::odd")))
    told = Told()
    photos: list[Photo] = [photo(seed, 64, 64) for seed in range(500, 512)]
    engine, _ = chosen_engine(network(), POOLED, "int8", photos, told)
    assert engine.precision == "float32"
    assert "cannot be quantised to int8" in told.warnings[0]


def test_without_openvino(clock: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    clock(float32=10, bfloat16=5)
    engine, choice = choose(images=LONG)
    assert engine.precision == "float32"
    assert "greffon[cpu]" in verdicts(choice)["int8"]
    with pytest.raises(OptionError, match="int8 needs OpenVINO"):
        choose("int8")
    told = Told()
    engine, choice = choose(told=told, plan=Choice("int8", "measured", 500))
    assert engine.precision == choice.precision == "float32"
    assert "the plan of the run says int8" in told.warnings[0]


def test_nothing_to_measure_on(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    for photos in ([], [tmp_path / "bad.png"]):
        for precision in ("auto", "float32"):
            assert chosen_engine(network(), POOLED, precision, photos, Told())[0].precision == "float32"
    told = Told()
    if can_quantise():
        assert chosen_engine(network(), POOLED, "int8", [tmp_path / "bad.png"], told)[0].precision == "float32"
        assert told.warnings == ["there is no image to calibrate int8 on, so float32 is used"]


# --- what is looked at -----------------------------------------------------------------------------------------


@with_int8
def test_images_of_the_check_have_no_part_in_the_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrated: list[np.ndarray] = []
    compared: list[np.ndarray] = []

    def noted(backbone: Any, tap: Tap, images: np.ndarray) -> Any:
        calibrated.extend(images)
        return cached_graph(backbone, tap, images)

    real = TorchEngine.run

    def seen(self: TorchEngine, images: np.ndarray) -> np.ndarray:
        compared.extend(images)
        return real(self, images)

    monkeypatch.setattr("greffon.activations.choosing.cached_graph", noted)
    monkeypatch.setattr(TorchEngine, "run", seen)
    photos: list[Photo] = []
    for i, one in enumerate(PHOTOS):
        photos.append(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.png").write_bytes(encode(one) if i % 10 else b"damaged")  # type: ignore[arg-type]  # all are arrays
    _, choice = chosen_engine(network(), POOLED, "int8", photos, Told())
    one, other = ({image.tobytes() for image in images if image.any()} for images in (calibrated, compared))
    assert (len(one), len(other)) == (19, 8)
    assert not one & other
    assert choice.fidelity is not None
    assert choice.fidelity.images == 8


@with_int8
def test_a_plan_is_followed_without_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    first, choice = choose("int8", images=300)
    told = choice.to_dict()
    plan = Choice.from_dict(json.loads(json.dumps(told)))
    assert plan == choice

    def never(*_: object) -> None:
        raise AssertionError("it was measured")

    for name in ("_rate", "compared", "class_means_right"):
        monkeypatch.setattr(f"greffon.activations.choosing.{name}", never)
    for precision in ("auto", "float32"):
        engine, followed = choose(precision, plan=plan)
        assert followed == choice
        assert engine.fingerprint == first.fingerprint
    for precision in ("bfloat16", "float32"):
        assert choose(plan=Choice(precision, "measured", 9))[0].precision == precision


def test_precisions_that_are_asked_for() -> None:
    told = Told()
    engine, choice = choose("bfloat16", told, least=1.0)
    assert engine.precision == "bfloat16", "whatever comes out"
    assert choice.fidelity is not None
    assert told.notes == [str(choice.fidelity)]
    engine, choice = choose("float32", keep="bfloat16")
    assert (engine.precision, choice.candidates, choice.fidelity) == ("float32", (), None)
    with pytest.raises(OptionError, match="precision must be one of auto, int8, bfloat16, float32, got 'int4'"):
        choose("int4")


def test_a_cut_below_everything_runs_no_network() -> None:
    for precision in ("auto", "int8", "float32"):
        engine, choice = chosen_engine(network(), Tap("map", "all"), precision, PHOTOS, Told())
        assert isinstance(engine, PixelEngine)
        assert choice.precision == "float32"
        assert "no network runs" in choice.why
