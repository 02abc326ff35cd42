"""In which numbers training runs: timed on this machine, and near to float32 or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from greffon.activations import Choice
from greffon.progress import Silent
from greffon.training import Recipe, chosen_training, pace
from growing import drawn_network, held

NETWORK = drawn_network()
RECIPE = Recipe(epochs=4, batch=8)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GREFFON_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(pace, "computes_bfloat16", lambda device: True)
    return tmp_path


def choose(recipe: Recipe = RECIPE, *, steps: int = 100, images: int = 3, least: float = 0.9) -> Choice:
    source = held(NETWORK, "layer3")[0]
    records = source.batch(np.arange(images), np.zeros(images, np.int64))
    return chosen_training(NETWORK.above("layer3"), NETWORK.fingerprint, records, recipe, steps, Silent(), least=least)


def seconds(monkeypatch: pytest.MonkeyPatch, exact: float, low: float) -> None:
    monkeypatch.setattr(pace, "_seconds", lambda module, x, is_low: low if is_low else exact)


def test_the_faster_one_is_taken_and_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds(monkeypatch, 1.0, 0.5)
    first = choose()
    assert first.precision == "bfloat16" and [one.rate for one in first.candidates] == [8.0, 16.0]
    assert first.fidelity is not None and first.fidelity.images == 3 and 0.9 < first.fidelity.cosine_lowest < 1
    seconds(monkeypatch, 1.0, 9.0)
    assert choose() == first
    assert choose(images=2).precision == "float32"  # other images, another choice
    assert len(list(cache.rglob("training-*.json"))) == 2


@pytest.mark.parametrize("low", [0.85, 1.0, 3.0])
def test_float32_stays_where_the_other_is_no_faster(cache: Path, monkeypatch: pytest.MonkeyPatch, low: float) -> None:
    seconds(monkeypatch, 1.0, low)
    assert choose().precision == "float32"


def test_gradients_that_stray_are_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds(monkeypatch, 1.0, 0.1)
    assert choose(least=0.9999999).precision == "float32"
    told = json.loads(next(cache.rglob("training-*.json")).read_text())
    assert "below 0.9999999" in told["candidates"][1]["verdict"]


def test_the_cosine_is_that_of_the_gradients(cache: Path) -> None:
    span = NETWORK.above("layer3")
    x = held(NETWORK, "layer3")[0].batch(np.arange(1), np.zeros(1, np.int64))
    found = []
    for low in (False, True):
        span.requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            y = span(x)
        grads = torch.autograd.grad((y.float() ** 2).mean(), list(span.parameters()))
        found.append(np.concatenate([one.double().numpy().ravel() for one in grads]))
        span.requires_grad_(False)
    wanted = float(found[0] @ found[1] / np.linalg.norm(found[0]) / np.linalg.norm(found[1]))
    monkey = replace(RECIPE, winograd=False)
    fidelity = pace._measured(span, x, monkey, 0.0).candidates[1].fidelity
    assert fidelity is not None and fidelity.cosine_mean == pytest.approx(wanted, abs=1e-6)
    assert not any(p.requires_grad for p in span.parameters())


def test_nothing_is_measured_where_it_does_not_pay(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_measured", lambda *_: pytest.fail("it was measured"))
    assert choose(steps=5).precision == "float32"
    assert choose(replace(RECIPE, precision="bfloat16")).precision == "bfloat16"
    monkeypatch.setattr(pace, "computes_bfloat16", lambda device: False)
    assert choose().precision == "float32"
    assert not list(cache.rglob("training-*.json"))
