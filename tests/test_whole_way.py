"""The whole way under bad conditions: thousands of damaged files, and a run that is killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn import encode, photo
from greffon.activations import chosen_engine
from greffon.demo import write_digits
from greffon.jobs.evaluate import evaluate
from greffon.jobs.predict import predict
from greffon.jobs.train import train

KINDS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One file as a bad disk, a broken download or a joker leaves it."""
    way = int(rng.integers(5))
    if way == 0:
        return data[: int(rng.integers(len(data)))]
    changed = bytearray(data)
    if way == 1:
        for at in rng.integers(len(data), size=int(rng.integers(1, 9))):
            changed[int(at)] ^= 1 << int(rng.integers(8))
    elif way == 2:
        start = int(rng.integers(len(data)))
        changed[start : start + 40] = rng.integers(0, 256, 40, dtype=np.uint8).tobytes()
    elif way == 3:
        for at in rng.integers(min(64, len(data)), size=4):
            changed[int(at)] = int(rng.integers(256))
    else:
        start = int(rng.integers(len(data)))
        changed[start:start] = bytes(int(rng.integers(1, 2000)))
    return bytes(changed)


def write_damaged(folder: Path, count: int) -> None:
    rng = np.random.default_rng(7)
    for number in range(count):
        name = ("bright", "dark")[number % 2]
        picture = photo(number, 40, 48) // (1 if name == "bright" else 4)
        data = encode(picture, KINDS[number % len(KINDS)])
        if number % 20 >= 2:
            data = damaged(data, rng)
        target = folder / name / f"{number}.{('jpg', 'png', 'dat')[number % 3]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


@pytest.mark.parametrize("count", [300, pytest.param(2400, marks=pytest.mark.slow)])
def test_a_folder_of_damaged_files(tmp_path: Path, count: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Set aside and named, each of them; the rest is learned, predicted and evaluated."""
    write_damaged(tmp_path / "photos", count)
    result = train(tmp_path / "photos", out=tmp_path / "model", size=32, pool="mean", stages="all", norm="standard")
    whole = len(result.dataset)
    aside = len(result.unreadable)
    assert aside > count / 10
    assert whole > count / 5
    copies = len(result.scan.repeated) + sum(len(paths) for paths in result.scan.conflicting)
    assert whole + aside + copies == count
    named = {Path(one["path"]) for one in json.loads((tmp_path / "model" / "metrics.json").read_text())["unreadable"]}
    assert named == {path for path, _ in result.unreadable}
    guesses = list(predict(tmp_path / "model", [tmp_path / "photos"]))
    assert len(guesses) == count
    assert {guess.path for guess in guesses if guess.fault} == named
    assert evaluate(tmp_path / "model", tmp_path / "photos").evaluation.n == whole


def test_no_test_image_has_a_part_in_choosing_the_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_digits(tmp_path / "digits", images=80)
    sampled: list[Path] = []

    def noted(network: Any, tap: Any, precision: str, photos: Sequence[Path], progress: Any, **options: Any) -> Any:
        sampled.extend(photos)
        assert len(options["labels"]) == len(photos)
        return chosen_engine(network, tap, precision, photos, progress, **options)

    monkeypatch.setattr("greffon.jobs.train.extraction.chosen_engine", noted)
    result = train(tmp_path / "digits", size=32, pool="mean", stages="last", norm="l2")
    tested = {result.dataset.paths[i] for i in result.dataset.where("test")}
    assert tested
    assert set(sampled) == set(result.dataset.paths) - tested


@pytest.mark.slow
def test_a_killed_run_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    write_digits(tmp_path / "digits", images=300)
    cache = tmp_path / "cache"
    environment = {**os.environ, "GREFFON_CACHE": str(cache)}
    train_into = [sys.executable, "-m", "greffon", "train", str(tmp_path / "digits"), "--size", "96", "--precision", "float32", "--out"]
    words = [*train_into, str(tmp_path / "model")]
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            if kept(cache) or process.poll() is not None:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    before = kept(cache)
    assert 0 < before < 300, "it was to be killed in the middle"
    assert not (tmp_path / "model" / "model.json").exists()
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"{300 - before} images run, {before} known already" in done.stdout
    # The same model as of a run that nobody disturbed, in a store of its own.
    apart = {**environment, "GREFFON_CACHE": str(tmp_path / "other")}
    subprocess.run([*train_into, str(tmp_path / "unbroken")], env=apart, check=True, capture_output=True, timeout=300)
    assert (tmp_path / "model/model.safetensors").read_bytes() == (tmp_path / "unbroken/model.safetensors").read_bytes()


def kept(cache: Path) -> int:
    """How many records the store of another process has."""
    total = 0
    for index in cache.glob("activations/*/index.sqlite"):
        try:
            with sqlite3.connect(f"file:{index}?mode=ro", uri=True, timeout=5) as connection:
                total += connection.execute("SELECT COUNT(*) FROM records").fetchone()[0]
            connection.close()
        except sqlite3.OperationalError:
            continue  # not there yet
    return total
