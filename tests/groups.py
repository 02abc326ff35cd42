"""Drawn groups of features: Gaussians whose centres lie apart."""

from __future__ import annotations

import numpy as np

from greffon.transfer.unsupervised import Unlabelled

__all__ = ["grouped"]


def grouped(
    k: int = 4, each: int = 30, d: int = 10, *, apart: float = 8.0, seed: int = 0
) -> tuple[Unlabelled, np.ndarray]:
    """k groups of width 1, in all directions from 0, in a drawn order; and the truth, int64 (n,), which is for the test alone."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(max(d, k), max(d, k))))[0][:k, :d] * apart
    truth = rng.permutation(np.repeat(np.arange(k), each))
    return Unlabelled((centres[truth] + rng.normal(size=(k * each, d))).astype(np.float32)), truth
