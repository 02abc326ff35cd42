"""The cheapest engine that keeps the result.

Faster never means different in silence: what is cheaper than float32 is compared with it, on a sample of the images of
the pass, before it is used.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import torch

from greffon import silence
from greffon.activations.comparing import Comparison, class_means_right, compared, paired_interval
from greffon.activations.engines import (
    PRECISIONS,
    Engine,
    PixelEngine,
    Tap,
    best_precision,
    computes_bfloat16,
    make_engine,
)
from greffon.activations.executing import Photo, pixels_of
from greffon.activations.plan import Candidate, Choice, read_choice, remember
from greffon.activations.quantised import QuantisedEngine, cached_graph
from greffon.backbones import Backbone
from greffon.errors import GreffonError, ImageError, OptionError
from greffon.images import Preprocess
from greffon.progress import Progress
from greffon.settings import cache_root
from greffon.silence import can_quantise, has_openvino

__all__ = ["chosen_engine"]

#: Images that int8 takes its ranges from.
_CALIBRATION = 64
#: A pass that float32 does in so many seconds is not worth measuring for.
_SHORT = 10.0
#: What quantising takes beside running the images, in seconds, and how much faster than float32 int8 is at least.
_CALIBRATION_SECONDS, _EXPECTED_GAIN = 15.0, 2.5
#: An engine must be faster by this factor to be preferred: below it, the clock would choose by chance.
_WORTH = 1.15


def chosen_engine(
    network: Backbone,
    tap: Tap,
    precision: str,
    photos: Sequence[Photo],
    progress: Progress,
    *,
    least: float = 0.999,
    sample: int = 32,
    images: int = 0,
    keep: str = "",
    labels: Sequence[int] | np.ndarray | None = None,
    plan: Choice | None = None,
    exact_seconds: float = 0.0,
) -> tuple[Engine, Choice]:
    """The engine for a pass: the fastest one, unless it strays too far from float32 on a sample of these images.

    A choice that the clock has made is kept in greffon's cache, and holds for the same pass on the same machine.

    Parameters
    ----------
    precision
        ``"auto"``: float32 and bfloat16 are timed on these images, and int8 as well, where the pass is long enough to
        pay for its calibration. ``"int8"`` is calibrated however short the pass is. Neither is used where it fails its
        check: the next fastest is, and that is said. ``"bfloat16"`` is compared, and used whatever comes out.
    photos
        The images of the pass that may have a part in a choice; some, drawn with a fixed seed, are looked at.
    least
        The least mean cosine of the features to those of float32.
    sample
        How many images are compared, at most; fewer for a short pass. They have no part in the calibration.
    images
        How many images times views will be run; by default all of ``photos``.
    keep
        What the records of a map are kept in: one of ``KEEPS``, or ``""`` for what suits the precision.
    labels
        The class of each photo, -1 where it is not known. With them, int8 must also name the classes as well as float32
        does, within the 95 % interval of the difference (nearest class mean, each image left out in turn).
    plan
        An earlier choice for the same pass: its precision is used, and nothing is measured.
    exact_seconds
        ``"auto"`` leaves int8 out where the pass without it takes no longer.

    Raises
    ------
    OptionError
        The precision is not known, or int8 was asked for and OpenVINO is absent.
    BackboneError
        The network cannot run on images of this size.
    """
    if precision not in PRECISIONS:
        raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    count = plan.images if plan is not None else images or len(photos)
    if tap == Tap("map", "all"):
        return PixelEngine(network), Choice("float32", "the cut is below the first stage: no network runs", count)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    classes = None if labels is None else np.asarray(labels)
    trial = _Trial(network, tap, photos, classes, progress, device, keep, least, min(sample, max(8, count // 16)), count,
                   exact_seconds)  # fmt: skip
    if plan is not None:
        return trial.planned(plan)
    if precision == "float32":
        return trial.engine(precision), Choice(precision, "it was asked for", count)
    if precision == "bfloat16":
        return trial.checked(precision, "it was asked for", insist=True)
    return trial.int8() if precision == "int8" else trial.auto()


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """One choice: what is to be run, on what, and the ways to find out."""

    network: Backbone
    tap: Tap
    photos: Sequence[Photo]
    labels: np.ndarray | None
    progress: Progress
    device: str
    keep: str
    least: float
    sample: int
    count: int
    exact_seconds: float

    def engine(self, precision: str) -> Engine:
        if precision != "int8":
            return make_engine(self.network, self.tap, precision, self.device, keep=self.keep)
        _, pixels = _drawn(self.photos, self.network.preprocess, self.sample + _CALIBRATION)
        _, calibration = _divided(pixels, self.sample)
        return QuantisedEngine(self.network, cached_graph(self.network, self.tap, calibration), self.keep)

    def planned(self, plan: Choice) -> tuple[Engine, Choice]:
        if plan.precision != "int8" or has_openvino():
            return self.engine(plan.precision), plan
        self.progress.warn("the plan of the run says int8, which needs OpenVINO, and it is not installed: float32 is used")
        return self.engine("float32"), Choice("float32", "the plan says int8, and OpenVINO is not installed", self.count)

    def checked(self, precision: str, why: str, *, insist: bool = False) -> tuple[Engine, Choice]:
        """float32 or bfloat16, this compared with the other; without ``insist`` float32 where it strays too far."""
        engine = self.engine(precision)
        _, pixels = _drawn(self.photos, self.network.preprocess, min(self.sample, 8))
        if precision == "float32" or not len(pixels):
            return engine, Choice(precision, why, self.count)
        one = self._near(Candidate(precision), self._compared(engine, self.engine("float32"), pixels))
        if insist or not one.verdict:
            self.progress.say(str(one.fidelity))
            return engine, Choice(precision, why, self.count, (replace(one, verdict=one.verdict or "chosen"),))
        self.progress.warn(f"{one.fidelity}: below {self.least}, so float32 is used")
        return self.engine("float32"), Choice("float32", f"bfloat16 would be chosen: {one.verdict}", self.count, (one,))

    def int8(self) -> tuple[Engine, Choice]:
        """int8 because it was asked for; the next fastest where it fails its check."""
        silence.nncf()
        exact = self.engine("float32")
        positions, pixels = _drawn(self.photos, self.network.preprocess, self.sample + _CALIBRATION)
        if not len(pixels):
            self.progress.warn("there is no image to calibrate int8 on, so float32 is used")
            return exact, Choice("float32", "int8 was asked for: there is no image to calibrate it on", self.count)
        engine, one = self._quantised(positions, pixels, exact)
        if engine is not None:
            self.progress.say(str(one.fidelity))
            return engine, Choice("int8", "it was asked for", self.count, (replace(one, verdict="chosen"),))
        others = self._timed(exact, pixels[: self.sample])
        engine, choice = self._fastest(others, (one,))
        self.progress.warn(f"int8 is not used: {one.verdict}; {choice.precision} is used instead")
        return engine, replace(choice, why=f"int8 was asked for: {one.verdict}")

    def auto(self) -> tuple[Engine, Choice]:
        """The fastest engine that passes its check, by the clock where the pass is long."""
        exact = self.engine("float32")
        _, pixels = _drawn(self.photos, self.network.preprocess, self.sample)
        if not len(pixels):
            return exact, Choice("float32", "there is no image to measure on", self.count)
        slow = _rate(exact, pixels, 0.2)
        if self.count / slow < _SHORT:
            why = f"{self.count} images take float32 some {self.count / slow:.0f} s: too short a pass to choose by measuring"
            return self.checked(best_precision(self.device), why)
        file = self._file(pixels)
        known = read_choice(file)
        if known is not None and (known.precision != "int8" or has_openvino()):
            self.progress.say(f"{known.precision}, as for this pass before: {known.why}")
            return self.engine(known.precision), known
        candidates = self._timed(exact, pixels)
        rate = max(one.rate or 0 for _, one in candidates)
        checks = self.sample + (_CALIBRATION if self.labels is not None else 0)
        cost = _CALIBRATION_SECONDS + (_CALIBRATION + checks) / slow
        saved = self.count / rate - self.count / (_EXPECTED_GAIN * slow)
        rejected: list[Candidate] = []
        if self.device == "cpu" and not can_quantise():
            rejected.append(Candidate("int8", verdict='OpenVINO is not installed: pip install "greffon[cpu]"'))
        elif self.device == "cpu" and self.count / rate <= self.exact_seconds:
            verdict = f"the pass takes {self.count / rate:.0f} s without it: up to {self.exact_seconds:.0f} s nothing is rounded for speed"
            rejected.append(Candidate("int8", verdict=verdict))
        elif self.device == "cpu" and saved < cost:
            rejected.append(Candidate("int8", verdict=f"would save {max(saved, 0):.0f} s, and its calibration takes {cost:.0f} s"))
        elif self.device == "cpu":
            positions, pixels = _drawn(self.photos, self.network.preprocess, self.sample + _CALIBRATION)
            engine, one = self._quantised(positions, pixels, exact)
            if engine is None:
                rejected.append(one)
                self.progress.warn(f"int8 is not used: {one.verdict}")
            else:
                candidates.append((engine, replace(one, rate=_rate(engine, pixels))))
        engine, choice = self._fastest(candidates, tuple(rejected))
        if choice.fidelity is not None and choice.precision == choice.fidelity.precision:
            self.progress.say(str(choice.fidelity))
        self.progress.say(f"{choice.precision}: {choice.why}")
        remember(file, choice)
        return engine, choice

    def _timed(self, exact: Engine, pixels: np.ndarray) -> list[tuple[Engine, Candidate]]:
        """float32 and, where the processor computes in it, bfloat16, which is compared if it is the faster one."""
        found = [(exact, Candidate("float32", _rate(exact, pixels)))]
        if computes_bfloat16(self.device):
            engine = self.engine("bfloat16")
            one = Candidate("bfloat16", _rate(engine, pixels))
            if (one.rate or 0) > _WORTH * (found[0][1].rate or 0):
                one = self._near(one, self._compared(engine, exact, pixels[:8]))
            found.append((engine, one))
        return found

    def _fastest(self, candidates: list[tuple[Engine, Candidate]], rejected: tuple[Candidate, ...]) -> tuple[Engine, Choice]:
        """float32 stands first; each of the others must be faster than the best before it, and have passed its check."""
        best = 0
        for i, (_, one) in enumerate(candidates):
            if not one.verdict and (one.rate or 0) > _WORTH * (candidates[best][1].rate or 0):
                best = i
            elif one.verdict:
                self.progress.warn(f"{one.precision} is not used: {one.verdict}")
        chosen = candidates[best][1].precision
        told = [replace(one, verdict=one.verdict or ("chosen" if i == best else "slower, or no faster to speak of"))
                for i, (_, one) in enumerate(candidates)]  # fmt: skip
        rates = ", ".join(f"{one.precision} {one.rate:.1f}" for one in told if one.rate is not None)
        return candidates[best][0], Choice(chosen, f"images a second measured here: {rates}", self.count, (*told, *rejected))

    def _quantised(self, positions: np.ndarray, pixels: np.ndarray, exact: Engine) -> tuple[Engine | None, Candidate]:
        """int8, calibrated and checked; None where it fails, or cannot be made of this network."""
        checks, calibration = _divided(pixels, self.sample)
        self.progress.say(f"calibrating int8 on {len(calibration)} of these images")
        started = time.perf_counter()
        try:
            graph = cached_graph(self.network, self.tap, calibration)
            engine = QuantisedEngine(self.network, graph, self.keep)
        except GreffonError as error:
            return None, Candidate("int8", verdict=error.what)
        one = Candidate("int8", seconds=round(time.perf_counter() - started, 2))
        near = self._compared(engine, exact, checks)
        one = self._near(one, near)
        if not one.verdict and self.labels is not None:
            others = self._compared(engine, exact, calibration) if len(pixels) > len(checks) else None
            one = self._judged(one, [near] if others is None else [near, others], self.labels[positions])
        return (None if one.verdict else engine), one

    def _compared(self, engine: Engine, exact: Engine, pixels: np.ndarray) -> Comparison:
        if self.device != "cpu":  # what graphics processors call float32 may be less
            exact = make_engine(self.network, self.tap, "float32", "cpu", keep=self.keep)
        return compared(self.network, engine, exact, pixels)

    def _near(self, one: Candidate, comparison: Comparison) -> Candidate:
        found = comparison.fidelity(one.precision)
        short = f"its mean cosine to float32 is {found.cosine_mean:.5f}, below {self.least}" if found.cosine_mean < self.least else ""
        return replace(one, fidelity=found, verdict=short)

    def _judged(self, one: Candidate, comparisons: list[Comparison], labels: np.ndarray) -> Candidate:
        found = class_means_right(np.concatenate([each.found for each in comparisons]), labels)
        wanted = class_means_right(np.concatenate([each.exact for each in comparisons]), labels)
        if not len(found):
            return one
        interval = paired_interval(found, wanted)
        told = f"names {100 * found.mean():.1f} % of {len(found)} images right, float32 {100 * wanted.mean():.1f} %"
        return replace(one, accuracy=float(found.mean()), accuracy_float32=float(wanted.mean()), difference=interval,
                       verdict=f"it {told}" if interval[1] < 0 else "")  # fmt: skip

    def _file(self, pixels: np.ndarray) -> Path:
        """Where the choice for this pass on this machine is kept."""
        from importlib.metadata import version

        digest = hashlib.sha256()
        machine = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), self.device, can_quantise()
        for part in (self.network.fingerprint, self.network.preprocess.to_dict(), self.tap, self.keep, self.least, self.sample,
                     self.count, self.labels is None, self.exact_seconds, machine, version("torch")):  # fmt: skip
            digest.update(f"{part}\n".encode())
        digest.update(np.ascontiguousarray(pixels).data)
        return cache_root() / "plans" / f"{digest.hexdigest()[:40]}.json"


def _drawn(photos: Sequence[Photo], preprocess: Preprocess, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Some photos that can be read, drawn with a fixed seed: their positions and uint8 (n, h, w, 3).

    The first of many are the same as those of few.
    """
    positions: list[int] = []
    pixels: list[np.ndarray] = []
    for i in np.random.default_rng(0).permutation(len(photos)):
        if len(pixels) == count:
            break
        try:
            pixels.append(pixels_of(photos[i], preprocess))
            positions.append(int(i))
        except ImageError:
            continue
    blank = np.zeros((0, preprocess.height, preprocess.width, 3), np.uint8)
    return np.array(positions, np.int64), np.stack(pixels) if pixels else blank


def _divided(pixels: np.ndarray, sample: int) -> tuple[np.ndarray, np.ndarray]:
    """Images to check on, and others to calibrate on. Of few, a third is to check on; of one, both are the same."""
    checks = min(sample, max(1, len(pixels) // 3))
    return pixels[:checks], pixels[checks:] if len(pixels) > 1 else pixels


def _rate(engine: Engine, pixels: np.ndarray, seconds: float = 1.0) -> float:
    """Images a second: of the fastest batch among those of about a second, for others may want the processor as well."""
    batch = np.concatenate([pixels] * -(-engine.batch // len(pixels)))[: engine.batch]
    engine.run(batch)
    taken: list[float] = []
    while len(taken) < 2 or sum(taken) < seconds:
        started = time.perf_counter()
        engine.run(batch)
        taken.append(time.perf_counter() - started)
    return engine.batch / max(min(taken), 1e-9)
