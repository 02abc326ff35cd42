"""What to train in: float32 or mixed bfloat16, by the clock, where the gradients stay those of float32."""

from __future__ import annotations

import copy
import hashlib
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from greffon.activations import Candidate, Choice, Fidelity, computes_bfloat16, read_choice, remember
from greffon.backbones import Span
from greffon.progress import Progress
from greffon.settings import cache_root, processors
from greffon.training.recipe import Recipe
from greffon.training.winograd import winograd_convolutions

__all__ = ["chosen_training"]

#: How much faster bfloat16 must be: below, the clock might say one thing today and another tomorrow.
_WORTH = 1.25
#: The least mean cosine of its gradients to those of float32.
_LEAST = 0.999
#: Steps of training below which nothing is measured: a handful of them would be spent on it.
_SHORT = 24


def chosen_training(
    span: Span, weights: str, records: Tensor, recipe: Recipe, steps: int, progress: Progress, *, least: float = _LEAST
) -> Choice:
    """Whether training the stages above a cut in bfloat16 pays, and keeps the gradients.

    Both are timed on one step. Processors differ: with AMX, or with whole units for bfloat16 as in AMD's Zen 4 and 5, it is some
    two or three times as fast as float32; with AVX-512's instructions alone it may have half the speed. The gradients of single images are
    compared with those of float32. A choice is kept in greffon's cache, and holds for the same stages, images and machine.

    Parameters
    ----------
    span
        The stages above the cut; they stay as they are.
    weights
        Their fingerprint.
    records
        Activations of some of the user's images at the cut, float32 (n, c, h, w).
    recipe
        As it would be in float32: its batch, and whether it has Winograd's convolutions. Where its precision is bfloat16, that
        stands.
    steps
        How long the training is.
    least
        The least mean cosine.
    """
    if recipe.precision == "bfloat16":
        return Choice("bfloat16", "it was asked for, or this machine is known to be faster in it", recipe.batch)
    if torch.cuda.is_available() or not computes_bfloat16("cpu"):
        return Choice("float32", "the processor does not compute in bfloat16", recipe.batch)
    if steps < _SHORT or not len(records):
        return Choice("float32", f"{steps} steps of training are too few to choose by measuring", recipe.batch)
    file = _file(weights, records, recipe, least)
    known = read_choice(file)
    if known is None:
        known = _measured(span, records, recipe, least)
        remember(file, known)
    if known.precision == "bfloat16" and known.fidelity is not None:
        progress.say(f"training in bfloat16: {known.why}; gradients: {known.fidelity}")
    return known


def _measured(span: Span, records: Tensor, recipe: Recipe, least: float) -> Choice:
    exact, batch = _trial(span, winograd=recipe.winograd), min(recipe.batch, 32)
    plain = exact if not recipe.winograd else _trial(span, winograd=False)
    x = records[torch.arange(batch) % len(records)].contiguous(memory_format=torch.channels_last)
    rates = {name: batch / _seconds(module, x, name == "bfloat16") for name, module in (("float32", exact), ("bfloat16", plain))}
    told = f"images a second measured here: float32 {rates['float32']:.1f}, bfloat16 {rates['bfloat16']:.1f}"
    cosines = np.array([_cosine(plain, one[None]) for one in records[:4]])
    fidelity = Fidelity("bfloat16", len(cosines), float(cosines.mean()), float(cosines.min()))
    faster, near = rates["bfloat16"] > _WORTH * rates["float32"], fidelity.cosine_mean >= least
    verdict = "chosen" if faster and near else "no faster to speak of" if near else f"its gradients are below {least}"
    candidates = (
        Candidate("float32", rates["float32"], verdict="" if verdict == "chosen" else "chosen"),
        Candidate("bfloat16", rates["bfloat16"], fidelity=fidelity, verdict=verdict),
    )
    return Choice("bfloat16" if faster and near else "float32", told, recipe.batch, candidates)


def _trial(span: Span, *, winograd: bool) -> nn.Module:
    """A copy; BatchNorm as it is by default, with the statistics that it came with."""
    trial = copy.deepcopy(span).to(memory_format=torch.channels_last).requires_grad_(True).eval()
    if winograd:
        winograd_convolutions(trial)
    return trial


def _step(module: nn.Module, x: Tensor, low: bool) -> None:
    module.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        module(x).float().square().mean().backward()


def _seconds(module: nn.Module, x: Tensor, low: bool) -> float:
    """Of the faster one of two steps after one to warm up: others may want the processor as well."""
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        _step(module, x, low)
        taken.append(time.perf_counter() - began)
    return max(1e-9, min(taken[1:]))


def _cosine(module: nn.Module, x: Tensor) -> float:
    """Of the gradients of all weights, in both precisions."""
    found = []
    for low in (False, True):
        _step(module, x, low)
        found.append(torch.cat([p.grad.double().ravel() for p in module.parameters() if p.grad is not None]))
    return float(torch.nn.functional.cosine_similarity(found[0], found[1], dim=0))


def _file(weights: str, records: Tensor, recipe: Recipe, least: float) -> Path:
    digest = hashlib.sha256()
    machine = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), processors(), version("torch")
    for part in (weights, tuple(records.shape), recipe.batch, recipe.winograd, least, machine):
        digest.update(f"{part}\n".encode())
    digest.update(records[:4].contiguous().numpy().data)
    return cache_root() / "plans" / f"training-{digest.hexdigest()[:40]}.json"
