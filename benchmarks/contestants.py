"""Contestants as processes of their own: each gets a job, and what it did comes back as an ``Answer``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from greffon.backbones.catalogue import entry
from greffon.backbones.weights import cached_file
from greffon.errors import GreffonError
from peers.job import Answer, Job, read_answer

__all__ = ["Contestant", "ContestantError", "Run", "run_fresh", "run_script", "run_train", "train_answer", "turns"]

HERE = Path(__file__).parent


@final
class ContestantError(GreffonError):
    """A contestant failed, or did not do the work that it was given."""


@final
@dataclass(frozen=True, slots=True)
class Run:
    """One run of a contestant.

    Parameters
    ----------
    wall
        Seconds from the start of its process to the end of it.
    load
        Processes that wanted a processor in the minute before it started: what else the machine was doing.
    """

    answer: Answer
    wall: float
    load: float


#: Runs one contestant once.
Contestant = Callable[[], Run]


def run_script(python: Path, script: str, arguments: Sequence[str]) -> Run:
    """Run a script of this folder (``peers/torch_frozen.py``) with the Python of an environment.

    Raises
    ------
    ContestantError
        The environment is not there, the script failed, or its last line is no answer.
    """
    if not python.is_file():
        target = python.parents[1].relative_to(HERE.parent) if python.is_relative_to(HERE.parent) else python.parents[1]
        raise ContestantError(f"{python}: there is no such interpreter", hint=f"Try: make {target}/.installed")
    return _script(python, script, arguments, os.environ)


def run_fresh(script: str, arguments: Sequence[str]) -> Run:
    """Run a script of greffon's own, as ``run_train`` runs its command: with a cache that holds the weights and nothing else.

    Raises
    ------
    ContestantError
        As of ``run_script`` and ``run_train``.
    """
    with tempfile.TemporaryDirectory(prefix="greffon-bench-") as folder:
        return _script(Path(sys.executable), script, arguments, _fresh_cache(Path(folder)))


def _script(python: Path, script: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Run:
    load, began = os.getloadavg()[0], time.perf_counter()
    output = _output([str(python), str(HERE / script), *arguments], environment)
    wall = time.perf_counter() - began
    try:
        return Run(read_answer(output), wall, load)
    except ValueError as error:
        raise ContestantError(f"{script}: {error}") from error


def _fresh_cache(folder: Path) -> dict[str, str]:
    """An environment in which greffon's cache is new, in this folder, and has the weights alone."""
    known = cached_file(entry("vgg16"))
    if not known.is_file():
        raise ContestantError(
            f"{known}: the weights are not in the cache", hint="Make the job first: it puts them there."
        )
    cache = folder / "cache"
    (cache / "weights").mkdir(parents=True)
    shutil.copy(known, cache / "weights")
    return {**os.environ, "GREFFON_CACHE": str(cache), "GREFFON_OFFLINE": "1"}


def run_train(job: Job, arguments: Sequence[str]) -> Run:
    """``greffon train`` on a job, from nothing but the weights.

    Its cache is new and holds the weights of VGG16, which lie in a file for the peers as well, so that nobody's unpacking
    of a download is timed. All else is in the wall time: the start of Python, the look at the photos, the choice of
    the engine, the pass, training, the test, the model folder and the report.

    Raises
    ------
    ContestantError
        The command failed, or set photos aside.
    """
    with tempfile.TemporaryDirectory(prefix="greffon-bench-") as folder:
        environment, model = _fresh_cache(Path(folder)), Path(folder) / "model"
        command = [
            sys.executable,
            "-m",
            "greffon",
            "train",
            str(job.folder / "split.csv"),
            "--out",
            str(model),
            "--quiet",
        ]
        load, began = os.getloadavg()[0], time.perf_counter()
        _output([*command, *arguments], environment)
        wall = time.perf_counter() - began
        told = json.loads((model / "metrics.json").read_text("utf-8"))
        about = json.loads((model / "model.json").read_text("utf-8"))
    if told["unreadable"] or told["conflicting"]:
        raise ContestantError(f"greffon train set photos aside: {told['unreadable'] or told['conflicting']}")
    return Run(train_answer(told, about, arguments), wall, load)


def train_answer(metrics: Mapping[str, object], about: Mapping[str, object], arguments: Sequence[str]) -> Answer:
    """What metrics.json and model.json say, as an answer. Timing is there for runs that report it."""
    timing, data = metrics.get("timing"), about["data"]
    assert isinstance(data, dict)
    seconds: dict[str, float] = {}
    epochs: list[float] = []
    if isinstance(timing, dict):
        epochs = [float(value) for value in timing.get("epoch_seconds") or []]
        names = {"pass": "pass_seconds", "total": "total_seconds"}
        seconds = {part: float(timing[key]) for part, key in names.items() if key in timing}
        seconds["epochs"] = sum(epochs)
    settings: dict[str, str | int | float] = {
        "arguments": " ".join(arguments),
        "precision": str(about.get("precision")),
    }
    training = about.get("training")
    if isinstance(training, dict) and isinstance(recipe := training.get("recipe"), dict):
        settings |= {
            "training_precision": recipe["precision"],
            "winograd": recipe["winograd"],
            "batch": recipe["batch"],
        }
    tested, accuracy = metrics["n"], metrics["accuracy"]
    assert isinstance(tested, int) and isinstance(accuracy, float)
    return Answer(
        tool="greffon",
        settings=settings,
        images=dict(data["splits"]),
        seconds=seconds,
        epochs=epochs,
        right=round(accuracy * tested),
        tested=tested,
    )


def turns(rounds: int, contestants: Mapping[str, Contestant]) -> dict[str, list[Run]]:
    """Run everyone once a round, in an order that turns round from one to the next, and check that the work was the same.

    Raises
    ------
    ContestantError
        Two contestants saw different numbers of photos.
    """
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    for number in range(rounds):
        order = list(contestants) if number % 2 == 0 else list(contestants)[::-1]
        for name in order:
            run = contestants[name]()
            runs[name].append(run)
            print(
                f"round {number + 1}, {name}: {run.wall:.1f} s, load before it {run.load:.1f}",
                file=sys.stderr,
                flush=True,
            )
    seen = {name: {tuple(sorted(run.answer.images.items())) for run in own} for name, own in runs.items()}
    if len(set().union(*seen.values())) > 1:
        told = ", ".join(f"{name} {[dict(one) for one in sorted(images)]}" for name, images in seen.items())
        raise ContestantError(f"the contestants saw different numbers of photos: {told}")
    return runs


def _output(command: Sequence[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise ContestantError(f"{' '.join(command[:4])} ended with {done.returncode}:\n{last}")
    return done.stdout
